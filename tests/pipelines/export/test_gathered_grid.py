"""Gathered grids against the operator that they do without, and their 8 bits against the steps between these."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers.plane_grid import PlaneGrid
from pocket_diffusers.pipelines.export.gathered_grid import GatheredGrid, GatheredLevel

INSIDE = 2 * torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(1)) - 1
CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4).T[None, :, None]
BEYOND = torch.tensor([[-7.0, 1.5, 0.3, -1.01], [float("inf"), 0.0, float("-inf"), 1.0]])[..., None, None]


def grid(**options):
    torch.manual_seed(0)
    return PlaneGrid(**{"resolutions": (2, 5, 33), "channels": 3, "init": 1.0, **options})


@pytest.mark.parametrize("points", [INSIDE, CORNERS, BEYOND], ids=["inside", "corners", "beyond"])
@pytest.mark.parametrize("planes", [((0, 1), (0, 3), (2, 1)), ((3, 2),)], ids=["three", "one"])
def test_look_up_is_that_of_grid_sample(points, planes):
    made = grid(planes=planes)
    found = GatheredGrid(made)(points)
    wanted = [
        F.grid_sample(
            level[plane, None].expand(len(points), -1, -1, -1), points[:, list(axes)].movedim(1, -1),
            padding_mode="border", align_corners=True,
        )
        for plane, axes in enumerate(planes) for level in made.levels
    ]  # fmt: skip
    assert_close(found, torch.cat(wanted, 1), atol=1e-6, rtol=1e-6)
    assert_close(found, made(points), atol=1e-6, rtol=1e-6)


def test_eight_bits_are_off_by_half_a_step_at_most():
    made = grid(resolutions=(9,))
    with torch.no_grad():
        made.levels[0][0] *= 100
        made.levels[0][1, 2] = 0
    exact = GatheredLevel.of_grids(made.levels[0])
    rounded = exact.in_eight_bits()
    assert rounded.vectors.dtype == torch.int8 and rounded.vectors.shape == exact.vectors.shape == (6 * 81, 3)
    assert rounded.vectors.abs().max() == 127 and rounded.steps.shape == (6, 1, 1, 3)
    x, y = (INSIDE[:1, :1].expand(1, 6, -1, -1), INSIDE[:1, 1:2].expand(1, 6, -1, -1))
    difference = (rounded(x, y) - exact(x, y)).abs()
    largest = made.levels[0].detach().abs().amax((2, 3))[:, None, None]  # [planes, 1, 1, channels]
    assert (difference <= largest / 254 + 1e-6).all() and difference[:, 0].max() > 0.05
    assert not rounded(x, y)[:, 1, ..., 2].any()


def test_half_precision_keeps_vectors_small_and_points_exact():
    made = GatheredGrid(grid(resolutions=(257,)))
    found = made(INSIDE)
    halved = made.half()(INSIDE)
    assert halved.dtype == torch.float32 and made.levels[0].vectors.dtype == torch.float16
    assert_close(halved, found, atol=5e-4, rtol=0)
