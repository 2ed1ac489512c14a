"""Latents between an autoencoder, which has its own scale, and a denoiser, which wants about unit variance."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def scale_latents(latents: Float[Tensor, "batch channels h w"], config: Any) -> Float[Tensor, "batch channels h w"]:
    """What a denoiser works on: latents of an autoencoder without their mean, at about unit variance.

    Args:
        latents: as `encode` gives and `decode` takes them.
        config: of the autoencoder. `scaling_factor`, and beside it either `shift_factor`, one number for all channels,
            or `latents_mean` and `latents_std`, one for each: diffusers' names, in its order of preference.
    """
    mean, std = _statistics(latents, config)
    return (latents - mean) * (config.scaling_factor / std)


def unscale_latents(latents: Float[Tensor, "batch channels h w"], config: Any) -> Float[Tensor, "batch channels h w"]:
    """The inverse of `scale_latents`."""
    mean, std = _statistics(latents, config)
    return latents * (std / config.scaling_factor) + mean


def _statistics(latents: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    given = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if None in given:
        given = [getattr(config, "shift_factor", None) or 0.0], [1.0]
    mean, std = (torch.tensor(values, dtype=latents.dtype, device=latents.device) for values in given)
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)
