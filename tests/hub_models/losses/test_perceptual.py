import pytest
import torch
from torch import nn

from pocket_diffusers.hub_models.losses.perceptual import FeatureDistance, pyramid_distance


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, stride=2)

    def forward(self, x):
        first = self.first(x)
        return [first, self.second(first.relu())]


def test_pyramid_distance_in_closed_form():
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(pyramid_distance(x, x), torch.zeros(2))
    torch.testing.assert_close(pyramid_distance(x + 0.25, x), torch.full((2,), 0.25))  # no outline differs
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8).expand(2, 3, 16, 16)
    # full size: |1| + |2| along x + |2| along y; every halving averages the board away
    torch.testing.assert_close(pyramid_distance(x + checker, x, levels=3), torch.full((2,), 5 / 3))


def test_pyramid_that_is_too_high_raises():
    with pytest.raises(ValueError, match="levels is 5: pictures 16 pixels wide allow 1 to 4"):
        pyramid_distance(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), levels=5)


def test_feature_distance_is_its_definition():
    network = TwoLayers()
    x, y = torch.randn(2, 2, 3, 9, 9)
    wanted = torch.zeros(2)
    for a, b in zip(network(x), network(y), strict=True):
        for i in range(2):
            difference = a[i] / a[i].norm(dim=0) - b[i] / b[i].norm(dim=0)
            wanted[i] += (difference**2).sum() / difference[0].numel()
    torch.testing.assert_close(FeatureDistance(network)(x, y), wanted)


def test_feature_distance_freezes_its_network_and_moves_only_the_prediction():
    network = nn.ModuleList([TwoLayers(), nn.Dropout(0.9)])
    network.forward = lambda x: [network[1](layer) for layer in network[0](x)]
    distance = FeatureDistance(network).train()
    x, y = torch.randn(2, 1, 3, 9, 9).requires_grad_(), torch.randn(1, 3, 9, 9, requires_grad=True)
    distance(x[0], y).sum().backward()
    assert x.grad[0].abs().sum() > 0 and y.grad is None
    assert not network.training and not any(p.requires_grad for p in network.parameters())
