import torch
from torch import nn

from pocket_diffusers.eval.scores.operations import count_operations, count_parameters


def test_counts_of_a_net_made_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8))
    convolution, depthwise = 2 * 8 * 3 * 9 * 16 * 16, 2 * 8 * 9 * 14 * 14
    assert count_operations(net, torch.zeros(1, 3, 16, 16)) == convolution + depthwise
    assert count_parameters(net) == (3 * 8 * 9 + 8) + 2 * 8 + (8 * 9 + 8)


def test_nothing_is_computed_on_the_meta_device():
    with torch.device("meta"):
        net = nn.Linear(10**6, 10**6)
        assert count_operations(net, torch.empty(4, 10**6)) == 8 * 10**12
    assert count_parameters(net) == 10**12 + 10**6
