"""The post-norm transformer encoder (arXiv 1706.03762) that computes what `torch.nn.TransformerEncoder` does.

It is written out, so that one path serves training, inference and export, and so that numbers can be added after each
layer, as control branches do.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .relative_attention import MultiHeadAttention


class PostNormLayer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x)).

    Args:
        dim: channels of the tokens.
        heads: of the attention.
        ff_width: hidden width of the feed-forward layer, with GELU.
        dropout: of the attention's weights, of both branches, and inside the feed-forward layer.

    Raises:
        ValueError: when the heads do not divide the channels.
    """

    def __init__(self, dim: int, heads: int, ff_width: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} channels do not divide into {heads} heads: choose a multiple.")
        self.attention = MultiHeadAttention(dim, dim // heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ff_width)
        self.linear2 = nn.Linear(ff_width, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], bias: Float[Tensor, "batch 1 1 keys"] | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        x = self.norm1(x + self.dropout(self.attention(x, bias=bias)))
        hidden = self.dropout(F.gelu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class PostNormTransformer(nn.Module):
    """`num_layers` post-norm layers, without a norm after the last.

    Args:
        num_layers: how many.
        dim, heads, ff_width, dropout: of each `PostNormLayer`.
    """

    def __init__(self, num_layers: int, dim: int, heads: int, ff_width: int, dropout: float) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(PostNormLayer(dim, heads, ff_width, dropout) for _ in range(num_layers))

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        bias: Float[Tensor, "batch 1 1 keys"] | None = None,
        residuals: Sequence[Float[Tensor, "batch tokens dim"]] | None = None,
    ) -> list[Float[Tensor, "batch tokens dim"]]:
        """What every layer makes, the last of all at the end.

        Args:
            x: tokens.
            bias: added to the scores of keys (`attention_bias`).
            residuals: added to what each layer makes.
        """
        made = []
        for index, layer in enumerate(self.layers):
            checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
            x = self._gradient_checkpointing_func(layer, x, bias) if checkpointed else layer(x, bias)
            x = x if residuals is None else x + residuals[index]
            made.append(x)
        return made
