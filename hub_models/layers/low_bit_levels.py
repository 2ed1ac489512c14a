"""Whole-numbered levels of a few bits, rounding to them, and its gradients (BitsFusion, arXiv 2406.04333)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-24, 65504.0  # the positive range of float16, in which scales are stored


@dataclass(frozen=True)
class Levels:
    """What a weight of `bits` bits may be, in steps of its row's scale: `-2^(bits-1)` to `2^(bits-1)`.

    The paper's balance level makes these 2^bits + 1 levels, symmetric around 0. At 8 bits the last one is left out, so
    that a weight takes a byte: -128 to 127.

    Args:
        bits: nominal bits, 1 to 8.
    """

    bits: int

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 8:
            raise ValueError(f"bits must be a whole number from 1 to 8, not {self.bits!r}.")

    @property
    def lowest(self) -> int:
        return -(2 ** (self.bits - 1))

    @property
    def highest(self) -> int:
        return 2 ** (self.bits - 1) - (self.bits == 8)

    @property
    def count(self) -> int:
        """How many there are: the base in which weights are digits."""
        return self.highest - self.lowest + 1

    @property
    def bits_per_weight(self) -> float:
        """What a weight carries, log2(2^bits + 1), as the paper counts it."""
        return math.log2(self.count)

    def of(self, weight: Float[Tensor, "rows ..."], scales: Float[Tensor, " rows"]) -> Float[Tensor, "rows ..."]:
        """The nearest level of each weight (equation 1), as whole numbers in the weight's type."""
        return (weight / by_row(scales, weight)).clamp_(self.lowest, self.highest).round_()


def by_row(scales: Tensor, weight: Tensor) -> Tensor:
    """Scales in a shape that a weight is multiplied by row for row."""
    return scales.view(-1, *(1 for _ in weight.shape[1:]))


def stored_scales(scales: Float[Tensor, " rows"]) -> Float32[Tensor, " rows"]:
    """Scales as files keep them, rounded to float16 within its positive range."""
    return scales.float().clamp(SMALLEST_SCALE, LARGEST_SCALE).half().float()


def fake_quantize(
    weight: Float32[Tensor, "rows ..."], scales: Float32[Tensor, " rows"], levels: Levels
) -> Float32[Tensor, "rows ..."]:
    """Weights rounded to levels times stored scales: what the packed layer will compute with, bit for bit.

    The gradient passes straight through rounding to weights within the levels' range. To weights beyond it, it passes
    where descent leads them back: with LSQ's gradient of 0 they could never cross to other levels, and a small layer
    learnt from scratch kept seven times the loss. That of a scale is LSQ's (Esser et al. 2020, arXiv 1902.08153,
    equations 3 and 5), divided by the root of a row's weights times 2^(bits-1).
    """
    result: Tensor = _FakeQuantize.apply(weight, scales, levels)
    return result


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scales: Tensor, levels: Levels) -> Tensor:
        rounded = stored_scales(scales)
        ctx.save_for_backward(weight, rounded)
        ctx.levels = levels
        return levels.of(weight, rounded).mul_(by_row(rounded, weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight, scales), levels = ctx.saved_tensors, ctx.levels
        steps = weight / by_row(scales, weight)
        inside = (steps >= levels.lowest) & (steps <= levels.highest)
        by_weight = gradient * (inside | (gradient * steps > 0))
        by_scales = None
        if ctx.needs_input_grad[1]:
            slope = levels.of(weight, scales).sub_(steps * inside)  # q - w/s inside, the nearest end outside
            per_row = weight[0].numel()
            by_scales = (gradient * slope).flatten(1).sum(1) / math.sqrt(per_row * -levels.lowest)
        return by_weight, by_scales, None
