"""Contracted space against mip-NeRF 360's equation 10, point by point."""

import math

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.contraction import contract

CENTER, RADIUS = (0.5, -0.25, 1.0), 2.0


def by_hand(point: list[float]) -> list[float]:
    local = [(a - c) / RADIUS for a, c in zip(point, CENTER, strict=True)]
    length = math.sqrt(sum(a * a for a in local))
    scale = 1.0 if length <= 1 else (2 - 1 / length) / length
    return [(scale * a + 2) / 4 for a in local]


def test_points_are_where_the_equation_puts_them():
    points = 5 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(contract(points, CENTER, RADIUS), torch.tensor([by_hand(p) for p in points.tolist()]).double())


def test_the_middle_is_the_middle_and_infinity_the_shell():
    there = contract(torch.tensor([CENTER, (1e9, -0.25, 1.0)]), CENTER, RADIUS)
    assert_close(there, torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.5, 0.5]]))


@pytest.mark.parametrize("length", [0.0, 0.5, 1.5, 40.0])
def test_slopes_are_finite_everywhere(length):
    point = (torch.tensor(CENTER) + torch.tensor([length, 0.0, 0.0])).requires_grad_()
    contract(point, CENTER, RADIUS).sum().backward()
    assert point.grad.isfinite().all() and point.grad[0] > 0
