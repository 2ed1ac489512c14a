"""Training with the error of rounding in place, and the bits that rounded numbers will take."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def with_quantization_noise(
    values: Float[Tensor, "*shape"], step: float, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """Values with uniform noise of half a step to either side, which is what rounding does to them on average.

    Source: Balle et al. 2017, arXiv 1611.01704, equation 14.
    """
    device = values.device if generator is None else generator.device  # a generator's own, so that seeds mean one thing
    noise = torch.rand(values.shape, generator=generator, device=device)
    return values + (noise.to(values) - 0.5) * step


def bits_of_rounded(values: Float[Tensor, "*shape"], step: float) -> Float[Tensor, ""]:
    """Bits that all values take when rounded to multiples of `step` and coded as one Laplace source fitted to them.

    Differentiable: what a rate penalty needs. The scale of the source is the mean magnitude in steps.
    """
    magnitude = values.abs() / step
    scale = magnitude.mean().clamp_min(1e-3)
    return (magnitude / scale + torch.log(2 * scale.clamp_min(0.5))).sum() / math.log(2)
