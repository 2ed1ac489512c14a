import pytest
import torch
import torch.nn.functional as F

from pocket_diffusers.hub_models.layers.separable_conv import SeparableConv2d, SeparableResnetBlock2D, block_widths


def dense_kernel(conv):
    """The kernel [out, in, 3, 3] of the one dense convolution that a bias-free separable convolution amounts to."""
    mix = conv.pointwise.weight[:, :, 0, 0]
    if conv.expand is not None:
        mix = mix @ conv.expand.weight[:, :, 0, 0]
    return mix[:, :, None, None] * conv.depthwise.weight[:, 0][None]


@pytest.mark.parametrize(("hidden", "stride"), [(None, 1), (10, 1), (None, 2)])
def test_separable_convolution_is_a_dense_one_of_low_rank(hidden, stride):
    conv = SeparableConv2d(4, 5, hidden, stride=stride)
    x = torch.randn(2, 4, 6, 8)
    wanted = F.conv2d(x, dense_kernel(conv), stride=stride, padding=1)
    torch.testing.assert_close(conv(x), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["per_conv", "block_out", "block_in"])
@pytest.mark.parametrize("out_channels", [8, 12])
def test_residual_block_is_its_dense_twin(mode, out_channels):
    torch.manual_seed(0)
    block = SeparableResnetBlock2D(8, out_channels, temb_channels=6, mode=mode, groups=4)
    x, temb = torch.randn(2, 8, 5, 5), torch.randn(2, 6)
    h = F.conv2d(F.silu(F.group_norm(x, 4)), dense_kernel(block.conv1), padding=1)
    h = h + (F.silu(temb) @ block.time_emb_proj.weight.T + block.time_emb_proj.bias)[:, :, None, None]
    h = F.conv2d(F.silu(F.group_norm(h, 4)), dense_kernel(block.conv2), padding=1)
    shortcut = x if out_channels == 8 else F.conv2d(x, block.conv_shortcut.weight)
    torch.testing.assert_close(block(x, temb), h + shortcut, atol=1e-4, rtol=1e-4)


def test_expansion_modes_widen_where_they_say():
    assert block_widths(8, 12, "per_conv", 2) == (12, 24)
    assert block_widths(8, 12, "block_out", 2) == (24, None)
    assert block_widths(8, 12, "block_in", 2) == (16, None)
    assert block_widths(8, 12, "per_conv", 1) == (12, None)
    with pytest.raises(ValueError, match="expansion_mode must be one of .* not 'twice'"):
        block_widths(8, 12, "twice", 2)


def test_pointwise_bias_is_a_switch():
    plain = SeparableResnetBlock2D(8, 8, groups=4)
    biased = SeparableResnetBlock2D(8, 8, groups=4, pw_bias=True)
    assert set(biased.state_dict()) - set(plain.state_dict()) == {"conv1.pointwise.bias", "conv2.pointwise.bias"}
