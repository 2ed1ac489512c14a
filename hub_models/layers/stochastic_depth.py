"""Stochastic depth: residual branches that are left out at random in training (arXiv 1603.09382)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Branch = Float[Tensor, "batch *dims"]


class StochasticDepth(nn.Module):
    """Sets a sample's whole branch to zero with chance `rate`, and scales the others so that the mean stays.

    Args:
        rate: in [0, 1).

    Raises:
        ValueError: for a rate out of range.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of stochastic depth must be at least 0 and below 1, not {rate}.")
        self.rate = rate

    def forward(self, branch: Branch) -> Branch:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (kept.to(branch.dtype) / (1 - self.rate))
