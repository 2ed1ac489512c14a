"""Orbits around PocketWorld's scenes: where cameras stand, and what their pictures and points agree on."""

import datasets
import pytest
import torch

from pocket_diffusers.hub_models.rendering.cameras import camera_centres
from pocket_diffusers.training.datasets.pocketworld import load_pocketworld
from pocket_diffusers.training.datasets.pocketworld.cameras import default_camera, project
from pocket_diffusers.training.datasets.pocketworld.render import render
from pocket_diffusers.training.datasets.pocketworld.scene import Scene
from pocket_diffusers.training.datasets.world_orbits import world_orbit

TARGET, DISTANCE = torch.tensor([0.0, 0.55, 0.0]), 5.8  # of PocketWorld's default camera


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield world_orbit("test", 1, 32, 40, 7, num_points=500, seed=2)


def angles(captures):
    """Azimuth and elevation of each camera in degrees, as PocketWorld counts them."""
    x, y, z = ((camera_centres(captures.posed.viewmats) - TARGET) / DISTANCE).unbind(1)
    return torch.atan2(x, z).rad2deg() % 360, y.asin().rad2deg()


def test_cameras_stand_evenly_all_around_at_the_default_distance_and_look_at_its_target(captures):
    for one, count in zip(captures, (40, 7), strict=True):
        posed = one.posed
        assert len(posed) == count and posed.images.shape[2:] == (32, 32)
        away = (camera_centres(posed.viewmats) - TARGET).norm(dim=1)
        torch.testing.assert_close(away, torch.full((count,), DISTANCE), atol=1e-4, rtol=0)
        pixels, _ = project(TARGET[None], posed.viewmats, posed.Ks)
        torch.testing.assert_close(pixels[:, 0], torch.full((count, 2), 16.0), atol=1e-3, rtol=0)
        torch.testing.assert_close(posed.Ks, default_camera(32)[1].expand(count, 3, 3))
    azimuths, elevations = angles(captures[0])
    assert 14 <= elevations.min() < 15.5 and 36.5 < elevations.max() <= 38
    gaps = azimuths.sort().values.diff(append=azimuths.min()[None] + 360)
    assert gaps.max() < 1.7 * 360 / 40, "no side is left out"
    assert set(torch.histc(elevations, 4, 14, 38).tolist()) <= {9, 10, 11}
    quarters = torch.histogramdd(torch.stack([azimuths, elevations], 1), [2, 2], range=[0.0, 360, 14, 38]).hist
    assert quarters.min() >= 9 and quarters.max() <= 11, "nor any height on any side"


def test_held_out_views_are_from_places_of_their_own(captures):
    seen, held_out = (camera_centres(one.posed.viewmats) for one in captures)
    assert torch.cdist(held_out, seen).min() > 0.05
    names = [name for one in captures for name in one.names]
    assert names == [f"view {view}" for view in range(47)]


def test_pictures_show_the_record_s_scene_and_do_not_depend_on_how_many_there_are(captures):
    *_, row = load_pocketworld("image", "test", 32, 2, streaming=True)
    posed = captures[0].posed
    drawn = render([Scene.from_json(row["scene"])], posed.viewmats[33:34], posed.Ks[:1], 32)
    torch.testing.assert_close(posed.images[33], drawn.rgb[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(posed.depths[33], drawn.depth[0], atol=1e-4, rtol=1e-5)
    assert torch.equal(posed.masks[33], drawn.instances[0] >= 0)


def test_points_lie_on_objects(captures):
    """Each is where a pixel of some view shows an object of its colour at its depth."""
    seen, held_out = captures
    assert torch.equal(seen.positions, held_out.positions) and seen.positions.shape == seen.rgb.shape == (500, 3)
    posed = seen.posed
    pixels, depths = project(seen.positions, posed.viewmats, posed.Ks)  # [views, points, 2]
    inside = ((pixels > 0) & (pixels < 32)).all(-1)
    column, row = pixels.floor().long().clamp(0, 31).unbind(-1)
    view = torch.arange(len(posed))[:, None]
    near = (posed.depths[view, row, column] - depths).abs() < 1e-3
    alike = (posed.images.movedim(1, -1)[view, row, column] - seen.rgb).abs().amax(-1) < 1e-4
    assert (inside & near & alike & posed.masks[view, row, column]).any(0).all()


def test_a_seed_draws_other_points_of_the_same_views(captures, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    again, other = (world_orbit("test", 1, 32, 40, 1, num_points=500, seed=seed)[0] for seed in (2, 3))
    assert torch.equal(again.positions, captures[0].positions)
    assert torch.equal(other.posed.images, again.posed.images) and not torch.equal(other.positions, again.positions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test", 0, 32, 0, 1), "views must be a whole number of at least 1, not 0"),
        (("test", 0, 32, 4, 0), "held_out must be a whole number of at least 1, not 0"),
        (("nowhere", 0, 32, 4, 1), "split"),
        (("test", -1, 32, 4, 1), "scene must be at least 0, not -1"),
        (("test", 0, 0, 4, 1), "size"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        world_orbit(*arguments)
    assert len(str(caught.value).splitlines()) == 1
