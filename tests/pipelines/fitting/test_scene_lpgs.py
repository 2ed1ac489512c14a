"""LPGS scenes of at most so many bytes."""

from dataclasses import replace

import pytest
import torch

from pocket_diffusers.hub_models.container_lpgs import decode_scene
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.pruning import blending_weights
from pocket_diffusers.pipelines.fitting import scene_lpgs
from pocket_diffusers.pipelines.fitting.scene_lpgs import LPGSFit, fit_scene_to_pictures, fit_scene_to_splats
from pocket_diffusers.pipelines.fitting.splat_views import SplatViews
from pocket_diffusers.pipelines.scene_cameras import Cameras

SIZE = 40
HOW = LPGSFit(max_bytes=16_000, steps=120, regression_steps=150, sh_degree=0, save_every=50)


@pytest.fixture(scope="module")
def source() -> Gaussians:
    """A ball whose colour is where it is."""
    draw = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(600, 3, generator=draw), dim=1)
    return Gaussians(
        means, torch.full((600, 3), -2.2), torch.randn(600, 4, generator=draw), torch.full((600,), 3.0), means[:, None]
    )


@pytest.fixture(scope="module")
def views(source) -> SplatViews:
    cameras = torch.cat([orbit((0, 0, 0), 4.0, 5, elevation) for elevation in (-25.0, 30.0)])
    return SplatViews.of_splats(source, Cameras(cameras, intrinsics(40.0, SIZE, SIZE).expand(10, 3, 3), SIZE, SIZE))


@pytest.fixture(scope="module")
def importance(source, views):
    return blending_weights(source, views.viewmats, views.Ks, SIZE, SIZE)


def error(gaussians: Gaussians, views: SplatViews) -> float:
    drawn = [views.draw(gaussians, view).rgb[0] for view in range(len(views))]
    return float((torch.stack(drawn) - views.rgb).square().mean())


@pytest.mark.parametrize("children", [0, 2])
def test_a_scene_fitted_to_splats_keeps_to_its_bytes_and_looks_like_them(source, views, importance, children):
    how = replace(HOW, children_per_parent=children)
    made = fit_scene_to_splats(source, importance, views, how, progress=False)
    assert len(made.data) <= how.max_bytes
    with torch.no_grad():
        shown = error(decode_scene(made.data).expand(), views)
        nothing = float(views.rgb.square().mean())
    assert shown < 0.1 * nothing


def test_a_scene_fitted_to_pictures_grows_and_keeps_to_its_bytes(source, views):
    pictures = replace(views, alpha=None)
    made = fit_scene_to_pictures(pictures, source.means[::12], replace(HOW, steps=160), progress=False)
    assert len(made.data) <= HOW.max_bytes and made.scene.num_parents > len(source.means[::12])
    with torch.no_grad():
        shown = error(decode_scene(made.data).expand(), pictures)
    assert shown < 0.25 * float(views.rgb.square().mean())


def test_a_fit_that_was_stopped_goes_on_to_the_same_file(source, views, importance, tmp_path, monkeypatch):
    whole = fit_scene_to_splats(source, importance, views, HOW, tmp_path / "whole", progress=False)
    draw, drawn = SplatViews.draw, []

    def draw_some(self, *arguments):
        drawn.append(1)
        if len(drawn) == 80:
            raise KeyboardInterrupt
        return draw(self, *arguments)

    monkeypatch.setattr(SplatViews, "draw", draw_some)
    with pytest.raises(KeyboardInterrupt):
        fit_scene_to_splats(source, importance, views, HOW, tmp_path / "parts", progress=False)
    monkeypatch.undo()
    again = fit_scene_to_splats(source, importance, views, HOW, tmp_path / "parts", progress=False)
    assert again.data == whole.data


def test_a_fit_does_not_go_on_with_that_of_another_source_or_size(source, views, importance, tmp_path):
    how = replace(HOW, steps=2, regression_steps=2)
    fit_scene_to_splats(source, importance, views, how, tmp_path, progress=False)
    moved = replace(source, means=source.means + 1)
    with pytest.raises(ValueError, match="center"):
        fit_scene_to_splats(moved, importance, views, how, tmp_path, progress=False)
    smaller = replace(views, rgb=views.rgb[..., :20, :], alpha=views.alpha[:, :20])
    with pytest.raises(ValueError, match="views"):
        fit_scene_to_splats(source, importance, smaller, how, tmp_path, progress=False)


def test_bytes_become_sizes():
    small, large = (LPGSFit(max_bytes=size) for size in (100_000, 2_000_000))
    assert small.parents < large.parents
    assert small.hash_log2_size(small.parents) < large.hash_log2_size(large.parents)
    assert large.hash_log2_size(1) > large.hash_log2_size(large.parents), "what parents leave is the grid's"
    for how in (small, large):
        numbers = how._grid_numbers(how.hash_log2_size(how.parents))
        reckoned = (
            how.network_bytes + scene_lpgs.BYTES_A_PARENT * how.parents + scene_lpgs.BYTES_A_GRID_NUMBER * numbers
        )
        assert 0.5 * how.max_bytes < reckoned <= how.max_bytes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_bytes": 100}, "max_bytes must be a number of at least"),
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"children_per_parent": 3}, "children_per_parent must be 0, 1 or 2, not 3"),
    ],
)
def test_bad_wishes_get_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(HOW, **changes)


def test_too_few_splats_and_points_are_refused(source, views, importance):
    with pytest.raises(ValueError, match="source must be at least 3 Gaussians, not 2"):
        fit_scene_to_splats(source.select(slice(0, 2)), importance[:2], views, HOW, progress=False)
    with pytest.raises(ValueError, match="points must be at least 2, not 1"):
        fit_scene_to_pictures(views, source.means[:1], HOW, progress=False)
