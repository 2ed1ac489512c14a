"""The occupancy grid: which cell a point is in, and what looking at it changes."""

import pytest
import torch

from pocket_diffusers.hub_models.rendering.occupancy_grid import DECAY, OccupancyGrid


def watched(density_of, times: int = 1) -> OccupancyGrid:
    """A grid of which every cell was looked at so many times."""
    grid, generator = OccupancyGrid(4, 0.5), torch.Generator().manual_seed(0)
    for _ in range(times):
        grid.update(density_of, 64, generator)
    return grid


def in_a_corner(points: torch.Tensor) -> torch.Tensor:
    """2 where x is in the second quarter, y in the third and z in the last."""
    x, y, z = (4 * points).long().unbind(-1)
    return 2.0 * ((x == 1) & (y == 2) & (z == 3))


def test_nothing_is_empty_before_anybody_looked():
    assert OccupancyGrid(4, 0.5)(torch.rand(20, 3, generator=torch.Generator().manual_seed(0))).all()


def test_only_the_cell_that_holds_something_stays_occupied():
    grid = watched(in_a_corner)
    points = torch.rand(2, 500, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(grid(points), in_a_corner(points) > 0) and grid(points).any()


def test_points_outside_are_in_the_nearest_cell():
    grid = watched(in_a_corner)
    inside, outside = torch.tensor([[0.3, 0.6, 0.9], [0.3, 0.6, 1.0]]), torch.tensor([[0.3, 0.6, 1.7]])
    assert grid(torch.cat([inside, outside])).all()
    assert not grid(torch.tensor([[-0.1, 0.6, 0.9], [1.1, 0.6, 0.9]])).any()


def test_a_cell_that_has_become_empty_is_forgotten_by_and_by():
    grid, place, looks = watched(in_a_corner), torch.tensor([[0.3, 0.6, 0.9]]), 0
    assert grid.densities.max() == 2
    while grid(place):
        grid.update(lambda points: torch.zeros(len(points)), 64, torch.Generator().manual_seed(2))
        looks += 1
    assert 2 * DECAY**looks <= 0.5 < 2 * DECAY ** (looks - 1)


def test_the_largest_density_of_late_counts():
    grid = watched(lambda points: torch.full((len(points),), 3.0))
    grid.update(lambda points: torch.full((len(points),), 1.0), 20, torch.Generator().manual_seed(3))
    assert sorted(grid.densities.tolist()) == pytest.approx([3 * DECAY] * 20 + [3.0] * 44)


def test_the_same_seed_looks_at_the_same_places():
    def value(points):
        return points.sum(-1)

    first, second = watched(value, 2), watched(value, 2)
    assert torch.equal(first.densities, second.densities)
    assert first.densities.unique().numel() > 60
