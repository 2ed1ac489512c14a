"""Padding: what stands behind the end of the shorter sequences of a batch."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .attention import attention_bias


def padding_behind(lengths: Int[Tensor, " batch"], tokens: int) -> Bool[Tensor, "batch tokens"]:
    """Padding of sequences of so many tokens, the longest of which may have `tokens`."""
    return torch.arange(tokens, device=lengths.device) >= lengths[:, None]


def check_padding(padding: Tensor | None, batch: int, tokens: int) -> None:
    """Whether padding fits the tokens it is about.

    Raises:
        ValueError: padding that is neither None nor booleans [batch, tokens].
    """
    if padding is not None and (padding.shape != (batch, tokens) or padding.dtype != torch.bool):
        raise ValueError(
            f"padding must be booleans [batch, tokens] = [{batch}, {tokens}], not {padding.dtype} "
            f"{list(padding.shape)}."
        )


def padding_bias(
    padding: Bool[Tensor, "batch tokens"] | None, in_front: int, dtype: torch.dtype
) -> Float[Tensor, "batch 1 1 keys"] | None:
    """Bias of attention's scores that keeps padding out, behind `in_front` keys that are never padding."""
    return None if padding is None else attention_bias(F.pad(~padding, (in_front, 0), value=True), dtype)
