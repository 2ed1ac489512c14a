"""Multi-query attention and the transformer blocks built on it (as in SnapGen, arXiv 2412.09619)."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .positional_encoding import rotary_table, rotate
from .rms_norm import RMSNorm

AttentionForm = Literal["fused", "explicit"]
RopeScope = Literal["none", "self_attention", "all"]
RotaryTable = tuple[Tensor, Tensor]
MASKED = -1e4  # added to a score: exp of it is 0 in float32, and it is finite in float16


def attention_bias(mask: Shaped[Tensor, "batch keys"], dtype: torch.dtype) -> Float[Tensor, "batch 1 1 keys"]:
    """Turns a mask of keys to attend to (True or non-zero) into a bias that is added to scores.

    The bias is finite, so a row in which every key is masked does not become NaN.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask == 0, MASKED)[:, None, None]


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float = 0.0) -> Tensor:
    """The readable twin of `scaled_dot_product_attention`; its backward is the faster one in bf16 on a CPU."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    return (F.dropout(weights, dropout) if dropout else weights) @ v


class MultiQueryAttention(nn.Module):
    """Attention whose query heads share `num_kv_heads` key-value heads (1: multi-query, arXiv 1911.02150).

    Queries of all heads that share a key-value head are laid side by side along the token axis, so one product
    serves them all and keys are never repeated.

    Args:
        dim: channels of the tokens; the number of query heads is `dim // head_dim`.
        head_dim: channels of a head.
        num_kv_heads: key-value heads; must divide the number of query heads.
        context_dim: channels of the context for cross-attention; None for self-attention.
        qk_norm: RMS norm of each query and key head.

    Raises:
        ValueError: for widths that do not divide.
    """

    def __init__(
        self, dim: int, head_dim: int, num_kv_heads: int = 1, context_dim: int | None = None, qk_norm: bool = True
    ) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"{dim} channels do not divide into heads of {head_dim}: choose a multiple.")
        if (dim // head_dim) % num_kv_heads:
            raise ValueError(f"num_kv_heads must divide the {dim // head_dim} query heads, not {num_kv_heads}.")
        self.head_dim = head_dim
        self.num_kv_heads = num_kv_heads
        self.form: AttentionForm = "fused"
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, num_kv_heads * head_dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, num_kv_heads * head_dim, bias=False)
        self.norm_q = RMSNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.norm_k = RMSNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.to_out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        bias: Float[Tensor, "batch 1 1 keys"] | None = None,
        rotary_q: RotaryTable | None = None,
        rotary_k: RotaryTable | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        batch, tokens, dim = x.shape
        context = x if context is None else context
        groups, heads = self.num_kv_heads, dim // self.head_dim
        q = self.norm_q(self.to_q(x).unflatten(-1, (heads, self.head_dim)))
        k = self.norm_k(self.to_k(context).unflatten(-1, (groups, self.head_dim)))
        v = self.to_v(context).unflatten(-1, (groups, self.head_dim)).transpose(1, 2)
        q = q if rotary_q is None else rotate(q, rotary_q)
        k = (k if rotary_k is None else rotate(k, rotary_k)).transpose(1, 2)
        q = q.unflatten(2, (groups, heads // groups)).transpose(1, 2).flatten(2, 3)  # [batch, groups, tokens*h, d]
        if self.form == "explicit":
            out = explicit_attention(q, k, v, bias)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
        out = out.unflatten(2, (tokens, heads // groups)).transpose(1, 2)  # [batch, tokens, groups, h, d]
        return self.to_out(out.reshape(batch, tokens, dim))


class GEGLUFeedForward(nn.Module):
    """Gated feed-forward layer, `out(a * gelu(b))` (arXiv 2002.05202), hidden width `mult * dim`."""

    def __init__(self, dim: int, mult: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(dim, 2 * mult * dim)
        self.proj_out = nn.Linear(mult * dim, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        value, gate = self.proj_in(x).chunk(2, dim=-1)
        return self.proj_out(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention (optional), cross-attention and feed-forward, each after a layer norm and with a residual.

    Args:
        dim: channels of the tokens.
        head_dim: channels of a head.
        context_dim: channels of the text.
        num_kv_heads: key-value heads of both attentions.
        ff_mult: hidden width of the feed-forward layer over `dim`.
        self_attention: whether the block attends to its own tokens.
        cross_attn_qk_norm: RMS norm of queries and keys in cross-attention (self-attention always has it).
        skip_unused_norm: without self-attention, leave out its norm. False keeps it and replaces the residual
            stream by its output, as DreamLite's weights expect.
    """

    def __init__(
        self,
        dim: int,
        head_dim: int,
        context_dim: int,
        num_kv_heads: int = 1,
        ff_mult: int = 3,
        self_attention: bool = True,
        cross_attn_qk_norm: bool = True,
        skip_unused_norm: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim) if self_attention or not skip_unused_norm else None
        self.attn1 = MultiQueryAttention(dim, head_dim, num_kv_heads) if self_attention else None
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = MultiQueryAttention(dim, head_dim, num_kv_heads, context_dim, cross_attn_qk_norm)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = GEGLUFeedForward(dim, ff_mult)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys context_dim"],
        bias: Float[Tensor, "batch 1 1 keys"] | None = None,
        rotary_self: RotaryTable | None = None,
        rotary_cross: RotaryTable | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        if self.attn1 is not None:
            x = x + self.attn1(self.norm1(x), rotary_q=rotary_self, rotary_k=rotary_self)
        elif self.norm1 is not None:
            x = self.norm1(x)
        x = x + self.attn2(self.norm2(x), context, bias, rotary_q=rotary_cross)
        return x + self.ff(self.norm3(x))


class Transformer2D(nn.Module):
    """`depth` transformer blocks over the pixels of a feature map, with a residual around all of them.

    Args:
        dim: channels of the feature map.
        depth: number of blocks.
        groups: groups of the group norm in front.
        rope: where 2-D rotary embedding acts: "none", "self_attention", or "all", which also turns the queries of
            cross-attention (text has no place in the picture, so its keys are not turned).
        block: further arguments of every `TransformerBlock`.
    """

    def __init__(
        self, dim: int, depth: int, groups: int = 32, rope: RopeScope = "self_attention", **block: int | bool
    ) -> None:
        super().__init__()
        if rope not in get_args(RopeScope):
            raise ValueError(f"rope must be one of {', '.join(get_args(RopeScope))}, not {rope!r}.")
        self.rope = rope
        self.norm = nn.GroupNorm(groups, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, dim)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(dim, **block) for _ in range(depth))
        self.proj_out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch dim height width"],
        context: Float[Tensor, "batch keys context_dim"],
        bias: Float[Tensor, "batch 1 1 keys"] | None = None,
    ) -> Float[Tensor, "batch dim height width"]:
        height, width = x.shape[2:]
        rotary_self, rotary_cross = self._rotary(height, width, x.device)
        tokens = self.proj_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, context, bias, rotary_self, rotary_cross)
        return x + self.proj_out(tokens).unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def _rotary(self, height: int, width: int, device: torch.device) -> tuple[RotaryTable | None, RotaryTable | None]:
        """Tables for self-attention and for the queries of cross-attention."""
        first = self.transformer_blocks[0]
        needed = {"none": False, "self_attention": first.attn1 is not None, "all": True}[self.rope]
        if not needed:
            return None, None
        table = rotary_table(height, width, first.attn2.head_dim, device)
        return table, table if self.rope == "all" else None
