import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pocket_diffusers.hub_models.layers.mbconv import MBConv, SqueezeExcitation, conv_norm


def shaken(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return module.eval()


def normed(norm, x):
    """A batch or group norm in evaluation, from its definition."""
    if isinstance(norm, nn.BatchNorm2d):
        mean, var = (value[None, :, None, None] for value in (norm.running_mean, norm.running_var))
        x = (x - mean) / (var + norm.eps).sqrt()
    else:
        grouped = x.unflatten(1, (norm.num_groups, -1))
        mean, var = grouped.mean((2, 3, 4), keepdim=True), grouped.var((2, 3, 4), keepdim=True, correction=0)
        x = ((grouped - mean) / (var + norm.eps).sqrt()).flatten(1, 2)
    return x * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("form", ["mbconv", "fused_mbconv"])
@pytest.mark.parametrize(("out_channels", "stride"), [(8, 1), (12, 2), (8, 2), (12, 1)])
def test_convolutional_block_is_its_formula(norm, form, out_channels, stride):
    block = shaken(MBConv(8, out_channels, stride, expansion=3, norm=norm, form=form, emb_channels=5))
    x = picture = torch.randn(2, 8, 6, 4)
    emb = torch.randn(2, 5)
    h = normed(block.norm_in, x)
    if form == "mbconv":
        h = torch.einsum("oc,bchw->bohw", block.expand.weight[:, :, 0, 0], h)
        h = F.gelu(normed(block.norm_expand, h))
        h = F.conv2d(h, block.depthwise.weight, padding=1, stride=stride, groups=3 * out_channels)
    else:
        h = F.conv2d(h, block.expand.weight, padding=1, stride=stride)
    scale, shift = (F.silu(emb) @ block.modulation.weight.T + block.modulation.bias).chunk(2, 1)
    h = F.gelu(normed(block.norm_hidden, h) * (1 + scale[..., None, None]) + shift[..., None, None])
    se = block.squeeze_excitation
    gate = F.gelu(h.mean((2, 3)) @ se.squeeze.weight[:, :, 0, 0].T + se.squeeze.bias)
    h = h * torch.sigmoid(gate @ se.excite.weight[:, :, 0, 0].T + se.excite.bias)[..., None, None]
    h = torch.einsum("oc,bchw->bohw", block.project.weight[:, :, 0, 0], h) + block.project.bias[:, None, None]
    if stride == 2:
        x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    if out_channels != 8:
        x = F.conv2d(x, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(picture, emb), x + h, atol=1e-4, rtol=1e-4)


def test_squeeze_excitation_is_optional_and_as_wide_as_said():
    assert MBConv(8, 16, se_ratio=0).squeeze_excitation is None
    assert MBConv(8, 16, se_ratio=0.25).squeeze_excitation.squeeze.out_channels == 4
    layer = shaken(SqueezeExcitation(4, 2))
    x = torch.randn(2, 4, 3, 3)
    ratio = layer(x) / x
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    assert ratio.min() > 0 and ratio.max() < 1


def test_parameters_of_a_block():
    """1x1, depthwise 3x3 and 1x1 at expansion 4; squeeze-excitation of a quarter; norms; a shortcut on new widths."""
    width, hidden, squeezed = 16, 64, 4
    expected = 2 * 8 + 8 * hidden + 2 * hidden + 9 * hidden + 2 * hidden
    expected += (hidden + 1) * squeezed + (squeezed + 1) * hidden + (hidden + 1) * width + (8 + 1) * width
    assert sum(parameter.numel() for parameter in MBConv(8, width).parameters()) == expected


def test_dropped_branches_leave_the_shortcut():
    block = shaken(MBConv(8, 8, drop_path=0.999)).train()
    x = torch.randn(4, 8, 4, 4)
    torch.manual_seed(0)
    assert torch.equal(block(x), x)


def test_norms():
    assert isinstance(conv_norm("batch", 7), nn.BatchNorm2d)
    assert [conv_norm("group", channels).num_groups for channels in (64, 48, 32, 24, 7)] == [32, 24, 32, 24, 7]
    assert conv_norm("group", 40).num_groups == 20
    with pytest.raises(ValueError, match="conv_norm must be one of batch, group.*not 'layer'"):
        conv_norm("layer", 8)
    with pytest.raises(ValueError, match="conv_block must be one of mbconv, fused_mbconv.*not 'convnext'"):
        MBConv(8, 8, form="convnext")
