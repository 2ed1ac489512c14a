"""What a motion is made of is changed until its joints do what they shall (ControlMM, arXiv 2410.10780, section 3.4)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LEARNING_RATE, BETAS, WEIGHT_DECAY = 6e-2, (0.5, 0.9), 1e-6


@dataclass(frozen=True)
class OptimizationSteps:
    """How long is optimised.

    Attributes:
        each: steps on the logits after each step of decoding.
        last: steps on the embeddings at the end.
    """

    each: int
    last: int


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
    """`start` after so many steps of AdamW, each sample for its own loss, whatever the batch.

    Args:
        start: values to begin with; they stay as they are.
        loss: of each sample; called anew at every step, so it may draw noise.
        steps: of a new optimiser; 0 changes nothing.
    """
    if steps == 0:
        return start
    values = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([values], LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY)
    for _ in range(steps):
        with torch.enable_grad():
            (values.grad,) = torch.autograd.grad(loss(values).sum(), values)
        optimizer.step()
    return values.detach()
