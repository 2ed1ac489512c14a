"""What a motion is made of is changed until its joints do what they shall (ControlMM, arXiv 2410.10780)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..inputs import require

LEARNING_RATE, BETAS, WEIGHT_DECAY = 6e-2, (0.5, 0.9), 1e-6
FALLING = 1 / 3
"""Share of the steps over which the rate falls to 0 at the end, so that joints come to rest at their targets; the
paper's does not fall."""


@dataclass(frozen=True)
class OptimizationSteps:
    """How long is optimised.

    Attributes:
        each: steps on the logits after each step of decoding.
        last: steps on the embeddings at the end.

    Raises:
        ValueError: a number that is not whole or below 0.
    """

    each: int
    last: int

    def __post_init__(self) -> None:
        for name in ("each", "last"):
            steps = getattr(self, name)
            require(type(steps) is int and steps >= 0, name, steps, "a whole number of at least 0")


OPTIMIZATIONS = {
    "fast": OptimizationSteps(0, 100),
    "balanced": OptimizationSteps(20, 200),
    "accurate": OptimizationSteps(100, 600),
}
"""Presets; "accurate" is the paper's."""


def optimized(
    start: Float[Tensor, "batch ..."],
    loss: Callable[[Tensor], Float[Tensor, " batch"]],
    steps: int,
) -> Float[Tensor, "batch ..."]:
    """`start` after so many steps of AdamW at `rate_at`, each sample for its own loss, whatever the batch.

    Whatever it is but for rounding: AdamW goes as far for a small gradient as for a large one, so differences as small
    as float32's rounding may grow, over the 100 steps of "fast" to a millimetre (in float64 to 1e-14 m).

    Args:
        start: values to begin with; they stay as they are.
        loss: of each sample; called anew at every step, so it may draw noise.
        steps: of a new optimiser; 0 changes nothing.

    Raises:
        ValueError: the loss does not depend on the values, or its gradient became NaN or infinite.
    """
    if steps == 0:
        return start
    values = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([values], LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate_at(step, steps)
        with torch.enable_grad():
            total = loss(values).sum()
            if not total.requires_grad:
                raise ValueError("objective must be a loss through which gradients flow to the joints, and is none.")
            (values.grad,) = torch.autograd.grad(total, values)
        optimizer.step()
    if not torch.isfinite(values).all():
        raise ValueError("objective must have a finite gradient, but it became NaN or infinite.")
    return values.detach()


def rate_at(step: int, steps: int) -> float:
    """AdamW's rate at a step, counted from 0: even, and then falling along a line that would meet 0 after the last."""
    return LEARNING_RATE * min(1.0, (1 - step / steps) / FALLING)
