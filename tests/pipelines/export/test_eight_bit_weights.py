"""Weights in 8 bits: what they compute, and what of a network stays as it was."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pocket_diffusers.hub_models.layers.plane_grid import PlaneGrid
from pocket_diffusers.pipelines.export.eight_bit_weights import (
    EightBitConvolution,
    eight_bit_grids,
    eight_bit_weights,
)
from pocket_diffusers.pipelines.export.gathered_grid import GatheredGrid


@pytest.mark.parametrize(
    ("layer", "axis"),
    [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), 0),
        (nn.Conv2d(6, 4, 1, bias=False), 0),
        (nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), 1),
        (nn.ConvTranspose2d(6, 4, 3, stride=3, output_padding=1), 1),
    ],
    ids=["grouped", "1x1", "transposed", "padded"],
)
@torch.no_grad()
def test_a_convolution_has_weights_of_127_steps_a_channel(layer, axis):
    torch.manual_seed(0)
    weight = layer.weight
    weight.normal_()
    weight.select(axis, 1).mul_(1000)
    x = torch.randn(2, 6, 5, 7)
    rounded = EightBitConvolution(layer)
    found, exact = rounded(x), layer(x)
    steps = weight.abs().amax([other for other in range(4) if other != axis], keepdim=True) / 127
    assert rounded.codes.dtype == torch.int8 and rounded.codes.abs().amax() == 127
    nearest = (weight / steps).round() * steps
    assert ((nearest - weight).abs() <= steps / 2 * 1.001).all()
    weight.copy_(nearest)
    assert_close(found, layer(x), atol=1e-3, rtol=1e-4)
    assert 1e-4 < (found - exact)[:, 0].norm() / exact[:, 0].norm() < 0.02


def test_only_what_is_rounded_is_a_copy():
    network = nn.Sequential(GatheredGrid(PlaneGrid((3,), 2)), nn.Conv2d(12, 4, 1), nn.BatchNorm2d(4), nn.Linear(7, 7))
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rounded, grids_alone = eight_bit_weights(network), eight_bit_grids(network)
    assert isinstance(rounded[1], EightBitConvolution) and rounded[1].bias is network[1].bias
    assert grids_alone[1].weight is network[1].weight
    for twin in (rounded, grids_alone):
        assert twin[0].levels[0].vectors.dtype == torch.int8 and not twin.training
        assert twin[2].weight is network[2].weight and twin[3].weight is network[3].weight
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
