"""Rivals beside oracles: their size to the unit, where their points stand, what a grid holds between its vectors."""

from itertools import product
from math import prod

import pytest
import torch

from pocket_diffusers.eval.claims.lightspeed.rival_networks import (
    MOBILE_R2L,
    Grid4D,
    Grid4DField,
    MobileR2L,
    PlueckerField,
    octaves,
    pluecker,
    quadrilinear,
)
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab

TINY = {"width": 8, "blocks": 1, "tail_channels": (4, 4, 4)}
SHAPE = (2, 3, 4, 2)


def rays(batch=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    origins = torch.rand(batch, 3, 2, 3, generator=draw) - 0.5
    directions = torch.cat((torch.rand(batch, 2, 2, 3, generator=draw) - 0.5, torch.ones(batch, 1, 2, 3)), 1)
    return origins, directions


@pytest.mark.parametrize(("tail", "parameters"), [("8x", 4_305_539), ("12x", 4_298_371)])
def test_mobile_r2l_has_the_parameters_of_its_public_code(tail, parameters):
    with torch.device("meta"):
        network = MobileR2L(2.0, 6.0, tail=tail, **MOBILE_R2L)
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert network.decoder.head[0].in_channels == 312


def test_points_stand_evenly_and_move_within_half_a_gap_while_learning():
    network = MobileR2L(2.0, 9.0, unit=2.0, **TINY)
    seen = []
    network.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    origins, directions = rays()
    network.eval()(origins, directions)
    network.train()(origins, directions)
    network(origins, directions)
    fixed, drawn, again = (features[:, :24].unflatten(1, (8, 3)) for features in seen)
    for number in range(8):
        assert torch.allclose(2 * fixed[:, number], origins + (2 + number) * directions, atol=1e-5)
    depths = (2 * drawn - origins[:, None])[:, :, 2]  # directions have z = 1
    lower, upper = torch.arange(8) + 1.5, torch.arange(8) + 2.5
    lower[0], upper[-1] = 2, 9
    assert (depths >= lower[:, None, None] - 1e-5).all() and (depths <= upper[:, None, None] + 1e-5).all()
    assert len(depths[:, 3].flatten().unique()) == depths[:, 3].numel() and not torch.equal(drawn, again)


def test_octaves_are_values_and_their_waves():
    values = torch.tensor([0.3, -1.0]).view(1, 2, 1, 1)
    made = octaves(values)
    assert made.shape == (1, 26, 1, 1) and torch.equal(made[:, :2], values)
    assert torch.allclose(made[:, 24:], (32 * values).cos()) and torch.allclose(made[:, 6:8], (2 * values).sin())


def test_pluecker_coordinates_are_those_of_the_line_and_span_their_range():
    origins, directions = rays()
    numbers = pluecker(origins, directions)
    assert torch.allclose(numbers, pluecker(origins + 1.7 * directions, 0.2 * directions), atol=1e-6)
    for batch, row, column in product(range(2), range(2), range(3)):
        start, step = origins[batch, :, row, column], directions[batch, :, row, column]
        step = step / step.norm()
        assert torch.allclose(numbers[batch, :, row, column], torch.cat((step, start.cross(step, dim=0))), atol=1e-6)
    field = PlueckerField.of_rays(origins, directions, **TINY).eval()
    seen = []
    field.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, :6]))
    assert field(origins, directions).shape == (2, 3, 16, 24)
    assert torch.allclose(seen[0].amin((0, 2, 3)), -torch.ones(6), atol=1e-5)
    assert torch.allclose(seen[0].amax((0, 2, 3)), torch.ones(6), atol=1e-5)


def test_a_point_of_a_4d_grid_is_the_mean_of_16_vectors_by_nearness():
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(prod(SHAPE), 5, generator=draw)
    points = torch.rand(20, 4, generator=draw) * 2 - 1
    points[0], points[1], points[2] = -1, 1, 3  # corners, and beyond one
    found = quadrilinear(vectors, SHAPE, points)
    table = vectors.view(*SHAPE, 5)
    for point, mean in zip(points, found, strict=True):
        places = [(float(p.clamp(-1, 1)) + 1) / 2 * (side - 1) for p, side in zip(point, SHAPE, strict=True)]
        truth = sum(
            table[cell] * prod(max(0.0, 1 - abs(p - c)) for p, c in zip(places, cell, strict=True))
            for cell in product(*map(range, SHAPE))
        )
        assert torch.allclose(mean, truth, atol=1e-5)
    assert torch.allclose(found[2], table[-1, -1, -1, -1])


def test_levels_of_a_4d_grid_stand_side_by_side_and_all_learn():
    grid = Grid4D([SHAPE, (3, 3, 3, 3)], 5)
    coordinates = torch.rand(2, 4, 3, 2) * 2 - 1
    features = grid(coordinates)
    assert features.shape == (2, 10, 3, 2) and grid.out_channels == 10
    assert torch.allclose(features[1, 5:, 2, 0], quadrilinear(grid.levels[1], (3,) * 4, coordinates[1, :, 2, :1].T)[0])
    features.sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in grid.levels)
    assert max(float(level.detach().abs().max()) for level in grid.levels) <= 0.1


def test_a_4d_grid_field_looks_rays_up_in_its_slab_and_learns_at_a_grids_rate():
    slab = LightSlab(torch.eye(4), 0.0, 2.0, torch.full((4,), -2.0), torch.full((4,), 2.0))
    field = Grid4DField(slab, [SHAPE], 5, **TINY).eval()
    origins, directions = rays()
    seen = []
    field.grid.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert field(origins, directions).shape == (2, 3, 16, 24)
    expected = slab.coordinates(origins.movedim(1, -1), directions.movedim(1, -1)).movedim(-1, 1)
    assert torch.allclose(seen[0], expected, atol=1e-6)
    assert "grid.levels.0" in dict(field.named_parameters())
