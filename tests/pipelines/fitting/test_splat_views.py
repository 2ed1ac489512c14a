"""Views that splats are fitted to: their order, their loss, and that a resumed run sees the same ones."""

from itertools import islice

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.losses.photometric import ssim
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import Rendering, rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.pipelines.fitting.splat_views import SplatViews
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.scene_cameras import Cameras


def splats(count: int = 12) -> Gaussians:
    draw = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=draw) * 0.4,
        torch.full((count, 3), -1.5),
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, 1, 3, generator=draw) * 0.3,
    )


def cameras(count: int, width: int = 24, height: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return orbit((0, 0, 0), 4.0, count), intrinsics(40.0, height, width).expand(count, 3, 3)


def test_views_of_splats_are_what_the_rasteriser_draws():
    viewmats, Ks = cameras(3)
    views = SplatViews.of_splats(splats(), Cameras(viewmats, Ks, 24, 16))
    drawn = rasterize_gaussians(splats(), viewmats, Ks, 24, 16)
    assert len(views) == 3 and views.size == (24, 16)
    assert_close(views.rgb, drawn.rgb) and assert_close(views.alpha, drawn.alpha)
    again = views.draw(splats(), 2)
    assert_close(again.rgb[0], views.rgb[2])
    assert float(views.distance(again, 2, torch.Generator())) == pytest.approx(0, abs=1e-6)


def test_distance_of_photographs_is_that_of_3dgs():
    viewmats, Ks = cameras(2)
    pictures = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    views = SplatViews.of_pictures(PosedImages(pictures, viewmats, Ks))
    drawn = views.draw(splats(), 1)
    expected = 0.8 * (drawn.rgb - pictures[1:]).abs().mean() + 0.2 * (1 - ssim(drawn.rgb, pictures[1:]).mean())
    assert_close(views.distance(drawn, 1, torch.Generator()), expected)


def test_where_there_is_alpha_what_is_in_front_of_nothing_costs():
    viewmats, Ks = cameras(1)
    views = SplatViews(torch.zeros(1, 3, 16, 24), viewmats, Ks, torch.zeros(1, 16, 24))
    black = Rendering(torch.zeros(1, 3, 16, 24), torch.zeros(1, 16, 24), torch.full((1, 16, 24), 0.9))
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    costs = [float(views.distance(black, 0, seed)) for seed in seeds]
    assert costs[0] > 0.05 and costs[0] == costs[1] != costs[2]
    photographed = SplatViews(views.rgb, viewmats, Ks)
    assert float(photographed.distance(black, 0, seeds[0])) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("start", [1, 4, 5, 7, 13])
def test_batches_go_on_from_any_step(start):
    viewmats, Ks = cameras(5)
    views = SplatViews(torch.zeros(5, 3, 16, 24), viewmats, Ks)
    whole = list(islice(views.batches(3)(0, 0, 1), 25))
    assert [batch.step for batch in whole] == list(range(25))
    assert list(islice(views.batches(3)(start, 0, 1), 25 - start)) == whole[start:]
    epochs = [[batch.view for batch in whole[i : i + 5]] for i in range(0, 25, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs), "each view as often as the others"
    assert len(set(map(tuple, epochs))) > 1
    assert whole != list(islice(views.batches(4)(0, 0, 1), 25))


def test_to_moves_everything():
    viewmats, Ks = cameras(1)
    moved = SplatViews(torch.zeros(1, 3, 16, 24), viewmats, Ks, torch.zeros(1, 16, 24)).to("meta")
    assert all(value.is_meta for value in (moved.rgb, moved.viewmats, moved.Ks, moved.alpha))
