import math

import pytest
import torch
import torch.nn.functional as F

from pocket_diffusers.hub_models.layers.relative_attention import (
    MultiHeadAttention,
    RelativePositionBias,
    RelativeTransformerBlock,
    set_attention_form,
)


def shaken(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 4), (5, 2)])
def test_bias_against_a_naive_loop(rows, columns):
    bias = shaken(RelativePositionBias(3, (rows, columns)))
    found = bias(rows, columns)
    assert found.shape == (3, rows * columns, rows * columns)
    for i in range(rows * columns):
        for j in range(rows * columns):
            dy, dx = i // columns - j // columns, i % columns - j % columns
            expected = bias.table[:, dy + rows - 1, dx + columns - 1]
            assert torch.equal(found[:, i, j], expected), (i, j)


def test_other_grids_are_interpolated():
    """A table that is linear in the offsets stays so: its ends keep their values, its middle stays the middle."""
    bias = RelativePositionBias(1, (8, 8))
    dy, dx = torch.meshgrid(torch.linspace(-1, 1, 15), torch.linspace(-1, 1, 15), indexing="ij")
    bias.table.data[0] = 3 * dy - 2 * dx
    for rows, columns in ((16, 16), (12, 4), (5, 9)):
        found = bias(rows, columns)[0].detach()
        y = torch.arange(rows).repeat_interleave(columns) / (rows - 1)
        x = torch.arange(columns).repeat(rows) / (columns - 1)
        expected = 3 * (y[:, None] - y[None]) - 2 * (x[:, None] - x[None])
        inside = expected.abs() < 3.5  # bicubic flattens a line where the table ends
        assert (found - expected)[inside].abs().max() < 0.15
        torch.testing.assert_close(found.diagonal(), torch.zeros(rows * columns), atol=1e-5, rtol=0)
    assert torch.equal(bias(8, 8)[0, 0], bias.table[0, :8, :8].flip(0, 1).flatten())


@pytest.mark.parametrize("context_dim", [None, 5])
def test_attention_is_its_formula_in_both_forms(context_dim):
    layer = shaken(MultiHeadAttention(12, 4, context_dim))
    x = torch.randn(2, 6, 12)
    context = None if context_dim is None else torch.randn(2, 3, context_dim)
    keys = x if context is None else context
    bias = torch.randn(3, 6, keys.shape[1])
    q = x @ layer.to_q.weight.T + layer.to_q.bias
    k, v = (keys @ layer.to_kv.weight.T + layer.to_kv.bias).chunk(2, -1)
    heads = []
    for head in range(3):
        own = slice(4 * head, 4 * head + 4)
        scores = q[..., own] @ k[..., own].mT / math.sqrt(4) + bias[head]
        heads.append(scores.softmax(-1) @ v[..., own])
    expected = torch.cat(heads, -1) @ layer.to_out.weight.T + layer.to_out.bias
    for form in ("fused", "explicit"):
        set_attention_form(layer, form)
        torch.testing.assert_close(layer(x, context, bias), expected, atol=1e-5, rtol=1e-5)


def test_heads_and_forms_are_checked():
    with pytest.raises(ValueError, match="12 channels do not divide into heads of 5"):
        MultiHeadAttention(12, 5)
    with pytest.raises(ValueError, match="form must be one of fused, explicit, not 'flash'"):
        set_attention_form(MultiHeadAttention(8, 4), "flash")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("out_channels", [8, 16])
def test_transformer_block_is_its_formula(stride, out_channels):
    block = shaken(RelativeTransformerBlock(8, out_channels, (4, 4), stride, head_dim=4, ffn_ratio=2))
    picture = torch.randn(2, 8, 4 * stride, 4 * stride)
    pooled = F.max_pool2d(picture, stride)
    tokens = pooled.permute(0, 2, 3, 1).flatten(1, 2)
    h = F.layer_norm(tokens, (8,), block.norm_attention.weight, block.norm_attention.bias)
    if out_channels != 8:
        h = h @ block.proj_in.weight.T
        tokens = tokens @ block.shortcut.weight.T + block.shortcut.bias
    tokens = tokens + block.attention(h, bias=block.bias(4, 4))
    h = F.layer_norm(tokens, (out_channels,), block.norm_ffn.weight, block.norm_ffn.bias)
    h = F.gelu(h @ block.ffn[0].weight.T + block.ffn[0].bias) @ block.ffn[2].weight.T + block.ffn[2].bias
    expected = (tokens + h).unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(picture), expected, atol=1e-4, rtol=1e-4)


def test_embedding_scales_and_shifts_both_norms():
    block = shaken(RelativeTransformerBlock(8, 12, None, head_dim=4, ffn_ratio=2, emb_channels=5))
    x, emb = torch.randn(2, 8, 3, 3), torch.randn(2, 5)
    parts = (F.silu(emb) @ block.modulation.weight.T + block.modulation.bias)[:, None].split([8, 8, 12, 12], -1)
    tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
    h = block.proj_in(block.norm_attention(tokens) * (1 + parts[0]) + parts[1])
    tokens = block.shortcut(tokens) + block.attention(h)
    tokens = tokens + block.ffn(block.norm_ffn(tokens) * (1 + parts[2]) + parts[3])
    expected = tokens.unflatten(1, (3, 3)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x, emb), expected, atol=1e-5, rtol=1e-5)


def test_text_comes_in_between():
    block = shaken(RelativeTransformerBlock(8, 8, None, head_dim=4, ffn_ratio=2, context_dim=5))
    x, text = torch.randn(1, 8, 2, 2), torch.randn(1, 3, 5)
    tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
    tokens = tokens + block.attention(block.norm_attention(tokens))
    tokens = tokens + block.cross_attention(block.norm_cross(tokens), text)
    tokens = tokens + block.ffn(block.norm_ffn(tokens))
    expected = tokens.unflatten(1, (2, 2)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x, context=text), expected, atol=1e-5, rtol=1e-5)
