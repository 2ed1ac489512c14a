"""Grids over pairs of coordinates against a look-up written number by number."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers.plane_grid import PlaneGrid

POINTS = 1.6 * torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(1)) - 0.8
CORNERS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4))).T[None, :, None]  # [1, 4, 1, 16]
BEYOND = torch.tensor([-7.0, 1.5, 0.3, -1.01])[None, :, None, None]


def grid(**options):
    torch.manual_seed(0)
    return PlaneGrid(**{"resolutions": (2, 5, 8), "channels": 3, "init": 1.0, **options})


def by_hand(made, numbers, point):
    """`numbers` are those of its levels, as lists."""
    result = []
    for plane, (a, b) in enumerate(made.planes):
        for level in numbers:
            last = len(level[plane][0]) - 1
            x, y = (min(max((point[axis] + 1) / 2 * last, 0.0), last) for axis in (a, b))
            column, row = (min(math.floor(place), last - 1) for place in (x, y))
            for channel in level[plane]:
                upper, lower = (
                    (1 - x + column) * line[column] + (x - column) * line[column + 1]
                    for line in (channel[row], channel[row + 1])
                )
                result.append((1 - y + row) * upper + (y - row) * lower)
    return result


@pytest.mark.parametrize("points", [POINTS, CORNERS, BEYOND], ids=["inside", "corners", "beyond"])
@pytest.mark.parametrize("planes", [tuple(itertools.combinations(range(4), 2)), ((2, 0),)], ids=["all", "one"])
def test_look_up_is_that_by_hand(points, planes):
    made = grid(planes=planes)
    features = made(points)
    assert features.shape == (len(points), made.out_channels, *points.shape[2:])
    assert made.out_channels == len(planes) * 3 * 3
    numbers = [level.tolist() for level in made.levels]
    wanted = [by_hand(made, numbers, point) for point in points.movedim(1, -1).reshape(-1, 4).tolist()]
    assert_close(features.movedim(1, -1).flatten(0, 2), torch.tensor(wanted), atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_what_is_linear_in_the_coordinates_is_met_exactly(point, slopes):
    made = grid()
    with torch.no_grad():
        for level in made.levels:
            along = torch.linspace(-1, 1, level.shape[-1])
            for plane, (a, b) in enumerate(made.planes):
                level[plane] = slopes[a] * along + slopes[b] * along[:, None]
    features = made(torch.tensor(point)[None, :, None, None])[0, :, 0, 0].view(6, 9)
    wanted = torch.tensor([slopes[a] * point[a] + slopes[b] * point[b] for a, b in made.planes])
    assert_close(features, wanted[:, None].expand(6, 9), atol=1e-4, rtol=1e-4)


def test_gradients_are_the_slopes():
    made = grid(resolutions=(3, 5)).double()
    points = POINTS[:1, :, :2, :2].double().requires_grad_()
    levels = tuple(made.levels)

    def look_up(points, *levels):
        return torch.func.functional_call(made, {f"levels.{i}": level for i, level in enumerate(levels)}, (points,))

    assert torch.autograd.gradcheck(look_up, (points, *levels))


def test_beyond_the_border_nothing_changes():
    points = BEYOND.clone().requires_grad_()
    made = grid()
    made(points).sum().backward()
    assert points.grad.flatten().ne(0).tolist() == [False, False, True, False]
    assert torch.equal(made(points), made(points.clamp(-1, 1)))


def test_places_that_are_no_numbers_read_inside_the_grids():
    bad = torch.tensor([[torch.nan, 0.5, 0.5, 0], [torch.inf, 0, -torch.inf, 1], [1e30, -1e30, torch.nan, 0]])
    assert grid()(bad[..., None, None]).shape == (3, 54, 1, 1)


def test_points_keep_their_precision_in_grids_of_half():
    made = grid(resolutions=(200,))
    halved = grid(resolutions=(200,)).half()
    features = halved(POINTS)
    assert features.dtype == torch.float32
    assert_close(features, made(POINTS), atol=1e-3, rtol=0)  # points of half would be off by a tenth of a vector


def test_paper_has_the_derived_size_and_begins_small():
    with torch.device("meta"):
        made = PlaneGrid()
    assert sum(level.numel() for level in made.levels) == 8_355_840
    assert made.out_channels == 96
    values = torch.cat([level.flatten() for level in PlaneGrid((16, 32)).levels])
    assert values.abs().max() <= 0.1 and abs(values.std().item() - 0.1 / math.sqrt(3)) < 0.002
