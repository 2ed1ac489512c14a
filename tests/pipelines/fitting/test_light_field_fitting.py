"""Light fields by whole pictures: rays and pixels belong together, and steps are the same from wherever they go on."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.pipelines.fitting.light_field_fitting import (
    LightFieldFit,
    RayViews,
    StepViews,
    whole_blocks,
)
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.scene_cameras import Cameras
from pocket_diffusers.training.datasets.pocketworld.cameras import project


def pictures(views: int = 3, height: int = 24, width: int = 32) -> PosedImages:
    draw = torch.Generator().manual_seed(0)
    images, depths = torch.rand(views, 3, height, width, generator=draw), torch.rand(views, height, width)
    Ks = intrinsics(40.0, height, width).repeat(views, 1, 1)
    return PosedImages(images, orbit((0.0, 0.0, 0.0), 3.0, views), Ks, depths, depths > 0.5)


def in_groups(*groups: list[int]) -> RayViews:
    nothing = torch.zeros(1 + max(map(max, groups)), 3, 1, 1)
    return RayViews(nothing, nothing, nothing, tuple(map(torch.tensor, groups)))


# Rays


@pytest.mark.parametrize(("height", "width", "top", "left"), [(24, 32, 0, 0), (27, 30, 1, 3), (31, 25, 3, 0)])
def test_what_fills_no_block_is_cut_off_evenly_and_no_pixel_moves(height, width, top, left):
    posed = pictures(height=height, width=width)
    cut = whole_blocks(posed, 8)
    rows, columns = slice(top, top + 24), slice(left, left + cut.width)
    assert (cut.height, cut.width) == (24, width // 8 * 8)
    for name in ("images", "depths", "masks"):
        assert torch.equal(getattr(cut, name), getattr(posed, name)[..., rows, columns]), name
    point = torch.tensor([[0.1, -0.2, 0.3]])
    for view in range(3):
        before, after = (project(point, one.viewmats[view], one.Ks[view])[0] for one in (posed, cut))
        assert_close(after + torch.tensor([left, top]), before, atol=1e-4, rtol=0)
    middle = torch.tensor([cut.width, cut.height]) / 2
    assert (cut.Ks[:, :2, 2] - middle).abs().max() <= 0.5, "what was seen in the middle still is"
    assert whole_blocks(cut, 8).images.shape == cut.images.shape


def test_every_ray_goes_through_the_middle_of_its_block():
    posed = pictures(height=27, width=30)
    views = RayViews.of_pictures(posed, 8)
    assert views.images.shape == (3, 3, 24, 24) and len(views) == 3
    assert views.origins.shape == views.directions.shape == (3, 3, 3, 3)
    assert [group.tolist() for group in views.groups] == [[0, 1, 2]]
    middles = torch.stack(torch.meshgrid(*2 * [torch.tensor([4.0, 12, 20])], indexing="xy"), -1).flatten(0, 1)
    for distance in (0.5, 3.0):
        points = (views.origins + distance * views.directions).flatten(2).mT  # [views, 9, 3]
        pixels, depths = project(points, posed.viewmats, posed.Ks)
        assert_close(pixels - torch.tensor([3.0, 1.0]), middles.expand(3, 9, 2), atol=1e-3, rtol=0)
        assert_close(depths, torch.full((3, 9), distance), atol=1e-5, rtol=0)


def test_each_sub_scene_learns_from_the_views_in_which_it_counts():
    weights = torch.tensor([[1.0, 0], [0.3, 0.7], [0, 1]])
    views = RayViews.of_pictures(pictures(), 8, weights)
    assert [group.tolist() for group in views.groups] == [[0, 1], [1, 2]]


def test_pictures_smaller_than_a_block_are_refused():
    with pytest.raises(ValueError, match="pictures must be at least 12 x 12 pixels, not '24 x 8'"):
        RayViews.of_pictures(pictures(width=8), 12)


# Batches


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    size=st.integers(1, 5),
    seed=st.integers(0, 99),
    start=st.integers(0, 30),
    world=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_steps_are_the_same_wherever_a_run_goes_on(sizes, size, seed, start, world):
    """And processes share each epoch of a sub-scene's views, in which every view is seen once."""
    firsts = [sum(sizes[:index]) for index in range(len(sizes))]
    views = in_groups(*(list(range(first, first + count)) for first, count in zip(firsts, sizes, strict=True)))
    batches = views.batches(seed, size)
    for rank in range(world):
        whole = list(islice(batches(0, rank, world), start + 6))
        again = list(islice(batches(start, rank, world), 6))
        assert all(torch.equal(one.views, other.views) for one, other in zip(whole[start:], again, strict=True))
        assert [step.sub_scene for step in whole] == [number % len(sizes) for number in range(start + 6)]
        assert all(len(step.views) == size for step in whole)
    for sub_scene, count in enumerate(sizes):
        turns = [list(islice(batches(0, rank, world), count * len(sizes))) for rank in range(world)]
        seen = [view for step in zip(*turns, strict=True) for one in step if one.sub_scene == sub_scene
                for view in one.views.tolist()]  # fmt: skip
        assert Counter(seen) == dict.fromkeys(views.groups[sub_scene].tolist(), size * world)
        epochs = [seen[first : first + count] for first in range(0, len(seen), count)]
        assert all(len(set(epoch)) == count for epoch in epochs)


def test_another_seed_is_another_order():
    def order(seed: int) -> list[int]:
        steps = islice(in_groups(list(range(50))).batches(seed, 50)(0, 0, 1), 2)
        return [step.views.tolist() for step in steps]

    assert order(0) == order(0) != order(1) and order(0)[0] != order(0)[1]


# The fit


class Painting(nn.Module):
    """One colour a sub-scene: what any module is that a light field's fit takes."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.Module()
        self.grid.colors = nn.Parameter(torch.zeros(2, 3))
        self.shift = nn.Parameter(torch.zeros(3))
        self.asked: list[tuple[Tensor, Tensor, int]] = []

    def forward(self, origins: Tensor, directions: Tensor, sub_scene: int) -> Tensor:
        self.asked.append((origins, directions, sub_scene))
        color = torch.sigmoid(self.grid.colors[sub_scene] + self.shift)
        return color[:, None, None].expand(len(origins), 3, 8 * origins.shape[2], 8 * origins.shape[3])


def test_a_step_compares_whole_pictures_with_what_is_shown_along_their_rays():
    views = RayViews.of_pictures(pictures(), 8)
    painting = Painting()
    objective = LightFieldFit(painting, views)
    loss, told = objective.loss("field", StepViews(1, torch.tensor([2, 0])), torch.Generator())
    ((origins, directions, sub_scene),) = painting.asked
    assert torch.equal(origins, views.origins[[2, 0]]) and torch.equal(directions, views.directions[[2, 0]])
    assert sub_scene == 1
    errors = (0.5 - pictures().images[[2, 0]]).square()
    assert_close(loss, errors.mean())
    assert told["psnr"] == pytest.approx(float(-10 * errors.mean((1, 2, 3)).log10().mean()), rel=1e-5)


def test_pictures_in_bytes_are_the_same_pictures():
    posed = pictures(height=27, width=30)
    plain = RayViews.of_pictures(posed, 8)
    stored = RayViews.of_cameras((posed.images * 255).round().byte(), Cameras.of_pictures(posed), 8)
    assert stored.images.dtype == torch.uint8 and stored.images.shape == plain.images.shape
    assert torch.equal(stored.origins, plain.origins) and torch.equal(stored.directions, plain.directions)
    chosen = torch.tensor([2, 0])
    assert torch.equal(plain.truth(chosen), plain.images[chosen])
    assert_close(stored.truth(chosen), plain.images[chosen], atol=0.51 / 255, rtol=0)
    batch = StepViews(0, chosen)
    losses = [LightFieldFit(Painting(), views).loss("field", batch, torch.Generator())[0] for views in (plain, stored)]
    assert_close(*losses, atol=2e-3, rtol=0)
    preview = LightFieldFit(Painting(), stored).preview({"field": Painting()})
    assert (np.asarray(preview)[:24] == stored.images[0].movedim(0, -1).numpy()).all()


def test_grids_have_a_rate_of_their_own_and_do_not_decay():
    painting = Painting()
    optimizer = LightFieldFit(painting, RayViews.of_pictures(pictures(), 8), 1e-3, 2e-2).optimizer("field")
    network, grids = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert network["params"] == [painting.shift] and grids["params"] == [painting.grid.colors]
    assert (network["lr"], grids["lr"]) == (1e-3, 2e-2) and network["weight_decay"] > 0 == grids["weight_decay"]
    alone = LightFieldFit(nn.Linear(2, 2), RayViews.of_pictures(pictures(), 8)).optimizer("field")
    assert len(alone.param_groups) == 1, "what has no grids has no group of them"


def test_any_field_is_fitted_and_what_it_shows_is_previewed(tmp_path):
    """The best that one colour can do is the pictures' mean."""
    images = torch.tensor([0.2, 0.5, 0.8])[:, None, None].expand(3, 24, 32)
    views = RayViews(
        images[None].repeat(2, 1, 1, 1), *torch.rand(2, 2, 3, 3, 4), (torch.tensor([0]), torch.tensor([1]))
    )
    objective = LightFieldFit(Painting(), views, 0.05, 0.05)
    how = FitSettings(steps=150, preview_every=150, schedule="cosine")
    (painting,) = fit(objective, views.batches(0, 2), how, tmp_path, progress=False).values()
    shown = torch.sigmoid(painting.grid.colors + painting.shift)
    assert_close(shown, torch.tensor([0.2, 0.5, 0.8]).expand(2, 3), atol=0.02, rtol=0)
    preview = objective.preview({"field": painting})
    assert preview.size == (2 * 32, 2 * 24), "a column for each sub-scene, the truth above"
    assert preview.getpixel((5, 5)) == (51, 128, 204)
    assert max(abs(a - b) for a, b in zip(preview.getpixel((40, 40)), (51, 128, 204), strict=True)) < 6
    assert [path.name for path in tmp_path.rglob("*.png")]
