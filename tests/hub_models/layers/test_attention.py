import pytest
import torch

from pocket_diffusers.hub_models.layers.attention import (
    MultiQueryAttention,
    Transformer2D,
    TransformerBlock,
    attention_bias,
)
from pocket_diffusers.hub_models.layers.positional_encoding import rotary_table, rotate


def naive_attention(attention, x, context, mask=None, table=None):
    """One head, one token at a time, straight from the definition."""
    batch, tokens, dim = x.shape
    d = attention.head_dim
    heads = dim // d
    out = torch.zeros_like(x)
    for b in range(batch):
        k_all, v_all = attention.to_k(context[b]), attention.to_v(context[b])
        for h in range(heads):
            g = h // (heads // attention.num_kv_heads)
            q = attention.norm_q(attention.to_q(x[b])[:, h * d : (h + 1) * d])
            k = attention.norm_k(k_all[:, g * d : (g + 1) * d])
            if table is not None:
                q, k = (rotate(part[None, :, None], table)[0, :, 0] for part in (q, k))
            for t in range(tokens):
                score = k @ q[t] / d**0.5
                if mask is not None:
                    score[~mask[b]] = -torch.inf
                out[b, t, h * d : (h + 1) * d] = score.softmax(0) @ v_all[:, g * d : (g + 1) * d]
    return attention.to_out(out)


@pytest.mark.parametrize("form", ["fused", "explicit"])
@pytest.mark.parametrize(("num_kv_heads", "qk_norm"), [(1, True), (2, True), (4, False)])
def test_attention_is_its_definition(form, num_kv_heads, qk_norm):
    torch.manual_seed(0)
    attention = MultiQueryAttention(32, 8, num_kv_heads, context_dim=12, qk_norm=qk_norm)
    attention.form = form
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, context = torch.randn(2, 6, 32), torch.randn(2, 5, 12)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    wanted = naive_attention(attention, x, context, mask)
    actual = attention(x, context, attention_bias(mask, x.dtype))
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["fused", "explicit"])
def test_self_attention_with_rotary_table_is_its_definition(form):
    torch.manual_seed(0)
    attention = MultiQueryAttention(32, 16)
    attention.form = form
    x, table = torch.randn(2, 6, 32), rotary_table(2, 3, 16)
    wanted = naive_attention(attention, x, x, table=table)
    torch.testing.assert_close(attention(x, rotary_q=table, rotary_k=table), wanted, atol=1e-5, rtol=1e-5)


def test_keys_and_values_are_one_head_wide():
    attention = MultiQueryAttention(256, 64, 1, context_dim=2304)
    assert attention.to_k.weight.shape == attention.to_v.weight.shape == (64, 2304)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_row_in_which_every_key_is_masked_stays_finite(dtype):
    attention = MultiQueryAttention(16, 8, context_dim=4).to(dtype)
    bias = attention_bias(torch.zeros(1, 3), dtype)
    for form in ("fused", "explicit"):
        attention.form = form
        assert attention(torch.randn(1, 2, 16, dtype=dtype), torch.randn(1, 3, 4, dtype=dtype), bias).isfinite().all()


def test_widths_that_do_not_divide_raise():
    with pytest.raises(ValueError, match="20 channels do not divide into heads of 8"):
        MultiQueryAttention(20, 8)
    with pytest.raises(ValueError, match="must divide the 3 query heads, not 2"):
        MultiQueryAttention(24, 8, 2)


def test_block_without_self_attention_keeps_its_residual_stream():
    x, text = torch.randn(1, 4, 16), torch.randn(1, 3, 6)
    block = TransformerBlock(16, 8, 6, self_attention=False)
    assert block.norm1 is None
    block.attn2.to_out.weight.data.zero_(), block.attn2.to_out.bias.data.zero_()
    block.ff.proj_out.weight.data.zero_(), block.ff.proj_out.bias.data.zero_()
    assert torch.equal(block(x, text), x)


def test_unused_norm_replaces_the_stream_when_it_is_kept():
    x, text = torch.randn(1, 4, 16), torch.randn(1, 3, 6)
    kept = TransformerBlock(16, 8, 6, self_attention=False, skip_unused_norm=False)
    skipped = TransformerBlock(16, 8, 6, self_attention=False)
    skipped.load_state_dict(kept.state_dict(), strict=False)
    torch.testing.assert_close(kept(x, text), skipped(torch.nn.functional.layer_norm(x, (16,)), text))


def test_rope_scopes_differ_and_none_cannot_tell_places_apart():
    torch.manual_seed(0)
    x, text = torch.randn(1, 16, 2, 4), torch.randn(1, 3, 6)
    results = {}
    for rope in ("none", "self_attention", "all"):
        torch.manual_seed(1)
        transformer = Transformer2D(16, 1, groups=4, rope=rope, head_dim=8, context_dim=6)
        results[rope] = transformer(x, text)
        mirrored = transformer(x.flip(3), text).flip(3)
        assert torch.allclose(mirrored, results[rope], atol=1e-5) == (rope == "none")
    assert not torch.allclose(results["all"], results["self_attention"])
    with pytest.raises(ValueError, match="rope must be one of none, self_attention, all, not 'some'"):
        Transformer2D(16, 1, groups=4, rope="some", head_dim=8, context_dim=6)
