"""Rectified flow: the straight path from a picture to noise, and where on it to train."""

import torch
from jaxtyping import Float
from torch import Tensor

Sigmas = Float[Tensor, " batch"]
Samples = Float[Tensor, "batch *dims"]


def logit_normal_sigmas(count: int, generator: torch.Generator, mean: float = 0.0, std: float = 1.0) -> Sigmas:
    """Noise levels in (0, 1) whose logit is normal: mostly the middle of the path (SD3, arXiv 2403.03206, eq. 19)."""
    return torch.sigmoid(mean + std * torch.randn(count, generator=generator))


def shift_sigmas(sigmas: Sigmas, shift: float) -> Sigmas:
    """Noise levels moved towards noise by the time shift of larger pictures (SD3, eq. 23); 1 moves nothing."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def flow_matching_pair(x0: Samples, noise: Samples, sigmas: Sigmas) -> tuple[Samples, Samples]:
    """The point x_t = (1 - sigma) x0 + sigma eps of the path, and its velocity eps - x0 (SnapGen++, sign of v)."""
    sigmas = sigmas.view(-1, *[1] * (x0.ndim - 1))
    return (1 - sigmas) * x0 + sigmas * noise, noise - x0
