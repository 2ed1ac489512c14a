"""Vanilla attention over the pixels of a feature map, with a relative position bias, and the block around it."""

from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .attention import AttentionForm, explicit_attention
from .stochastic_depth import StochasticDepth


class RelativePositionBias(nn.Module):
    """A learned number for each head and each offset between two places of a grid (Swin, arXiv 2103.14030, eq. 4).

    On a grid of another size the table is interpolated.

    Args:
        heads: of the attention.
        grid: (rows, columns) that the table is made for.
    """

    def __init__(self, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, 2 * grid[0] - 1, 2 * grid[1] - 1))

    def forward(self, rows: int, columns: int) -> Float[Tensor, "heads tokens tokens"]:
        table, size = self.table, (2 * rows - 1, 2 * columns - 1)
        if table.shape[1:] != size:
            table = F.interpolate(table[None], size, mode="bicubic", align_corners=True)[0]
        # [heads, y of i, x of i, y of j, x of j] is table[y_i - y_j + rows - 1, x_i - x_j + columns - 1]: for each i a
        # window of the table read backwards. Index tensors would do, but quantisers take their sums for numbers.
        table = table.flip(1, 2)
        table = torch.stack([table[:, rows - 1 - y : 2 * rows - 1 - y] for y in range(rows)], 1)
        windows = torch.stack([table[..., columns - 1 - x : 2 * columns - 1 - x] for x in range(columns)], 2)
        return windows.flatten(3, 4).flatten(1, 2)


class MultiHeadAttention(nn.Module):
    """Softmax attention with a bias on its scores; keys and values from `context` where there is one.

    Args:
        dim: channels of the tokens.
        head_dim: channels of a head.
        context_dim: channels of the context; None for that of the tokens.
        dropout: of the weights, in training.

    Raises:
        ValueError: when heads of `head_dim` channels do not divide `dim`.
    """

    def __init__(self, dim: int, head_dim: int, context_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"{dim} channels do not divide into heads of {head_dim}: choose a multiple.")
        self.heads = dim // head_dim
        self.dropout = dropout
        self.form: AttentionForm = "fused"
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(context_dim or dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        bias: Float[Tensor, "*batch_or_heads tokens keys"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        q = self._by_head(self.to_q(x))
        k, v = (self._by_head(part) for part in self.to_kv(x if context is None else context).chunk(2, dim=-1))
        bias = None if bias is None else bias.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        if self.form == "explicit":
            out = explicit_attention(q, k, v, bias, dropout)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self.to_out(out.transpose(1, 2).flatten(2))

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class RelativeTransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward over a feature map, x + attention(norm(x)), then x + ffn(norm(x)).

    With stride 2, attention and shortcut both see the map max-pooled, as in CoAtNet (arXiv 2106.04803); a shortcut of
    another width goes through a 1x1.

    Args:
        in_channels, out_channels: widths outside.
        grid: (rows, columns) of the output that the relative position bias is made for; None for no bias.
        stride: 1 or 2.
        head_dim: channels of a head.
        ffn_ratio: hidden width of the feed-forward layer over `out_channels`.
        context_dim: channels of the text for a cross-attention in between; None for none.
        emb_channels: width of an embedding that scales and shifts both norms; None for none.
        drop_path: chance that a branch is dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: tuple[int, int] | None = None,
        stride: int = 1,
        head_dim: int = 32,
        ffn_ratio: int = 4,
        context_dim: int | None = None,
        emb_channels: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(stride) if stride > 1 else None
        self.shortcut = None if in_channels == out_channels else nn.Linear(in_channels, out_channels)
        self.norm_attention = nn.LayerNorm(in_channels)
        self.proj_in = None if in_channels == out_channels else nn.Linear(in_channels, out_channels, bias=False)
        self.attention = MultiHeadAttention(out_channels, head_dim)
        self.bias = None if grid is None else RelativePositionBias(self.attention.heads, grid)
        self.norm_cross = None if context_dim is None else nn.LayerNorm(out_channels)
        self.cross_attention = None if context_dim is None else MultiHeadAttention(out_channels, head_dim, context_dim)
        self.norm_ffn = nn.LayerNorm(out_channels)
        self.ffn = nn.Sequential(
            nn.Linear(out_channels, ffn_ratio * out_channels),
            nn.GELU(),
            nn.Linear(ffn_ratio * out_channels, out_channels),
        )
        widths = None if emb_channels is None else 2 * (in_channels + out_channels)
        self.modulation = None if widths is None else nn.Linear(emb_channels, widths)
        self.drop_path = StochasticDepth(drop_path)

    def forward(
        self,
        x: Float[Tensor, "batch cin height width"],
        emb: Float[Tensor, "batch emb"] | None = None,
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        context_bias: Float[Tensor, "batch 1 1 keys"] | None = None,
    ) -> Float[Tensor, "batch cout height_out width_out"]:
        x = x if self.pool is None else self.pool(x)
        height, width = x.shape[2:]
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
        modulate_attention, modulate_ffn = self._modulations(emb, tokens.shape[-1])
        h = modulate_attention(self.norm_attention(tokens))
        h = h if self.proj_in is None else self.proj_in(h)
        bias = None if self.bias is None else self.bias(height, width)
        tokens = tokens if self.shortcut is None else self.shortcut(tokens)
        tokens = tokens + self.drop_path(self.attention(h, bias=bias))
        if self.cross_attention is not None:
            tokens = tokens + self.cross_attention(self.norm_cross(tokens), context, context_bias)
        tokens = tokens + self.drop_path(self.ffn(modulate_ffn(self.norm_ffn(tokens))))
        return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def _modulations(self, emb: Tensor | None, in_channels: int) -> tuple:
        """What scales and shifts the normed tokens of attention and feed-forward layer."""
        if self.modulation is None:
            return (lambda tokens: tokens,) * 2
        parts = self.modulation(F.silu(emb))[:, None].split(
            [2 * in_channels, self.norm_ffn.normalized_shape[0] * 2], -1
        )
        return tuple(lambda tokens, part=part: _scale_shift(tokens, *part.chunk(2, dim=-1)) for part in parts)


def _scale_shift(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return tokens * (1 + scale) + shift


def set_attention_form(model: nn.Module, form: AttentionForm) -> None:
    """Sets the form of every `MultiHeadAttention` in a model.

    Raises:
        ValueError: for a form that is none.
    """
    if form not in get_args(AttentionForm):
        raise ValueError(f"form must be one of {', '.join(get_args(AttentionForm))}, not {form!r}.")
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.form = form
