import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pocket_diffusers.hub_models.layers.temporal_conv import DilatedStack1D, TemporalDecoder, TemporalEncoder


def make(cls, first, last, stages=2, depth=3, dropout=0.0):
    torch.manual_seed(0)
    return cls(first, last, 8, stages, depth, dropout).eval()


def frames(batch=2, channels=5, length=24):
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(1))


def written_out(stack):
    """A stack as the layers that its papers list, with the same weights."""

    class Residual(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.branch = nn.Sequential(nn.ReLU(), block.conv1, nn.ReLU(), block.conv2)

        def forward(self, x):
            return x + self.branch(x)

    return nn.Sequential(*map(Residual, stack.blocks))


def test_dilations_fall_from_nine():
    stack = DilatedStack1D(4, 3, 0.0)
    assert [block.conv1.dilation for block in stack.blocks] == [(9,), (3,), (1,)]
    x = frames(channels=4)
    torch.testing.assert_close(stack(x), written_out(stack)(x))


def test_encoder_is_what_its_papers_list():
    net, x = make(TemporalEncoder, 5, 6), frames()
    twin = nn.Sequential(net.conv_in, nn.ReLU())
    for down, stack in zip(net.downs, net.stacks, strict=True):
        twin.extend([down, written_out(stack)])
    twin.append(net.conv_out)
    assert [(m.kernel_size, m.stride, m.padding) for m in net.downs] == [((4,), (2,), (1,))] * 2
    assert net(x).shape == (2, 6, 6)
    torch.testing.assert_close(net(x), twin(x))


def test_decoder_is_what_its_papers_list():
    net, x = make(TemporalDecoder, 6, 5), frames(channels=6, length=7)
    twin = nn.Sequential(net.conv_in, nn.ReLU())
    for stack, up in zip(net.stacks, net.ups, strict=True):
        twin.extend([written_out(stack), nn.Upsample(scale_factor=2, mode="nearest"), up])
    twin.extend([net.conv_mid, nn.ReLU(), net.conv_out])
    assert net(x).shape == (2, 5, 28)
    torch.testing.assert_close(net(x), twin(x))


@pytest.mark.parametrize(("cls", "each"), [(TemporalEncoder, 4), (TemporalDecoder, 1)])
def test_a_clip_is_the_same_alone_and_padded_beside_a_longer_one(cls, each):
    net = make(cls, 5, 6)
    x, tokens = frames(length=9 * each), 5
    padding = torch.tensor([[False] * 9, [False] * tokens + [True] * 4])
    alone = net(x[1:, :, : tokens * each])
    torch.testing.assert_close(net(x, padding)[1:, :, : alone.shape[-1]], alone)
    torch.testing.assert_close(net(x, padding)[:1], net(x[:1]))
    assert not net(x, padding)[1, :, alone.shape[-1] :].any()
    assert (net(x)[1:, :, : alone.shape[-1]] - alone).abs().max() > 1e-3, "without the mask it looks beyond the end"


@pytest.mark.parametrize("cls", [TemporalEncoder, TemporalDecoder])
def test_no_padding_changes_nothing(cls):
    net, x = make(cls, 5, 6), frames(length=12)
    none = torch.zeros(2, 3 if cls is TemporalEncoder else 12, dtype=torch.bool)
    assert torch.equal(net(x, none), net(x))


def test_dropout_acts_on_branches_in_training():
    stack, x = DilatedStack1D(4, 1, 0.5), frames(channels=4)
    torch.manual_seed(3)
    dropped = stack(x) - x
    block = stack.eval().blocks[0]
    whole = block.conv2(F.relu(block.conv1(F.relu(x))))
    gone = dropped == 0
    assert 0.3 < gone.float().mean() < 0.7
    torch.testing.assert_close(dropped[~gone], 2 * whole[~gone], atol=1e-5, rtol=1e-5)
