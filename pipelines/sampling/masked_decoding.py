"""Decoding of tokens in parallel: most confident first, the rest masked and asked again (MaskGIT, arXiv 2202.04200)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CERTAIN = 1e5
"""Score of a token that was not asked for: it stays."""


def masked_counts(step: int, steps: int, tokens: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """How many of each sample's tokens are masked at a step, counted from 0: by a quarter of a cosine, at least 1.

    For 49 tokens in 10 steps: 49, 48, 46, 42, 38, 31, 25, 17, 9 and 1.
    """
    share = math.cos(math.pi / 2 * step / max(1, steps - 1))
    return (share * tokens.double()).round().clamp(min=1).long()


def least_certain(
    scores: Float[Tensor, "batch tokens"], counts: Int[Tensor, " batch"], padding: Bool[Tensor, "batch tokens"]
) -> Bool[Tensor, "batch tokens"]:
    """The `counts` tokens of lowest score of each sample, none of them padding."""
    order = scores.masked_fill(padding, math.inf).argsort(dim=1, stable=True)
    ranks = order.argsort(dim=1)
    return (ranks < counts[:, None]) & ~padding


def draw_gumbel(
    tokens: Sequence[int], codes: int, generators: Sequence[torch.Generator], device: torch.device | str = "cpu"
) -> Float[Tensor, "batch tokens codes"]:
    """Gumbel noise in float32, of each sample from its own generator and for its own tokens, 0 behind them.

    So a sample gets the same noise whatever its batch.

    Args:
        tokens: of each sample.
        codes: that are chosen from.
        generators: one a sample, of the CPU.
        device: where the noise goes.
    """
    pairs = zip(tokens, generators, strict=True)
    draws = [torch.rand(count, codes, generator=own, dtype=torch.float64) for count, own in pairs]
    uniform = pad_sequence(draws, batch_first=True, padding_value=math.exp(-1))  # whose noise is 0
    return -(-uniform.clamp(min=1e-300).log()).log().float().to(device)


def keep_likeliest(logits: Float[Tensor, "... codes"], share: float) -> Float[Tensor, "... codes"]:
    """Logits whose lowest are -inf; that `share` of them which is highest stays, rounded up."""
    kept = math.ceil(share * logits.shape[-1])
    lowest = logits.topk(kept, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < lowest, -math.inf)
