"""The hash grid against a look-up written corner by corner, and its compiled form against torch."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers import hash_grid
from pocket_diffusers.hub_models.layers.hash_grid import HashGrid

needs_compiled = pytest.mark.skipif(hash_grid._library() is None, reason="there is no g++ here")


def grid(**settings) -> HashGrid:
    torch.manual_seed(0)
    made = HashGrid(
        **{"levels": 5, "features": 2, "log2_size": 9, "base_resolution": 3, "max_resolution": 40, **settings}
    )
    with torch.no_grad():
        made.table.normal_()
    return made


def by_hand(made: HashGrid, point: list[float]) -> list[float]:
    result = []
    for level, resolution in enumerate(made.resolutions):
        first, size = made.firsts[level], made.firsts[level + 1] - made.firsts[level]
        low = [min(int(x * resolution), resolution - 1) for x in point]
        total = [0.0] * made.features
        for bits in itertools.product((0, 1), repeat=3):
            x, y, z = (a + b for a, b in zip(low, bits, strict=True))
            if (resolution + 1) ** 3 <= 2**9:
                row = x + (resolution + 1) * (y + (resolution + 1) * z)
            else:
                row = (x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % size
            weight = 1.0
            for axis, bit in enumerate(bits):
                along = point[axis] * resolution - low[axis]
                weight *= along if bit else 1 - along
            total = [t + weight * float(v) for t, v in zip(total, made.table.detach()[first + row], strict=True)]
        result += total
    return result


POINTS = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
EDGES = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 0.5, 1], [0.999999, 0.3, 0.7]])


def test_look_up_is_that_by_hand():
    made, points = grid(), torch.cat([POINTS, EDGES])
    expected = torch.tensor([by_hand(made, point) for point in points.tolist()])
    assert_close(made.look_up(points, made.table), expected, atol=1e-4, rtol=1e-4)
    assert_close(made(points), expected, atol=1e-4, rtol=1e-4)


def test_resolutions_grow_geometrically_and_coarse_levels_are_dense():
    made = HashGrid(16, 4, 18, 16, 2048)
    assert made.resolutions[0] == 16 and made.resolutions[-1] == 2048
    ratios = [b / a for a, b in itertools.pairwise(made.resolutions)]
    assert max(ratios) < 1.45 and min(ratios) > 1.3
    assert made.firsts[-1] == sum(min(2**18, (r + 1) ** 3) for r in made.resolutions)
    assert made.out_features == 64


@needs_compiled
def test_compiled_form_gives_torch_s_values_and_gradients():
    made = grid()
    results = []
    for look_up in (made.forward, lambda p: made.look_up(p, made.table)):
        points = torch.cat([POINTS, EDGES]).requires_grad_()
        made.table.grad = None
        features = look_up(points)
        (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        results.append((features.detach(), points.grad, made.table.grad.clone()))
    for compiled, plain in zip(*results, strict=True):
        assert_close(compiled, plain, atol=2e-4, rtol=2e-4)


def test_gradient_by_points_is_the_slope():
    made, points = grid(), POINTS.clone().requires_grad_()
    made(points).sum().backward()
    step = 1e-4
    for axis in range(3):
        shift = torch.zeros(3).index_fill(0, torch.tensor(axis), step)
        with torch.no_grad():
            slope = (made(POINTS + shift) - made(POINTS - shift)).sum(1) / (2 * step)
        # Points within a step of a cell's face change cells.
        close = (points.grad[:, axis] - slope).abs() < 0.02 * slope.abs() + 0.2
        assert close.float().mean() > 0.9


@needs_compiled
def test_threads_change_nothing():
    before, made = torch.get_num_threads(), grid()
    try:
        results = []
        for threads in (1, 4):
            torch.set_num_threads(threads)
            made.table.grad = None
            made(POINTS).square().sum().backward()
            results.append(made.table.grad.clone())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_places_that_are_no_numbers_read_inside_the_table():
    made = grid()
    bad = torch.tensor([[torch.nan, 0.5, 0.5], [torch.inf, 0, 0], [-torch.inf, 1, 1], [1e30, -1e30, torch.nan]])
    for look_up in (made.forward, lambda p: made.look_up(p, made.table)):
        assert not look_up(bad).isfinite().all()
