"""Networks as an export sees them, and what stands in their place where exported ones run."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn

from ...hub_models.layers.latent_scaling import unscale_latents
from ...hub_models.layers.time_embedding_cache import TimeEmbeddingCache
from .contract import ComponentContract

Runner = Callable[..., Sequence[Tensor]]
"""Runs an exported network on tensors by position."""


class Denoiser(nn.Module):
    """A UNet with what conditions it by position: class numbers, or text features and their mask."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, condition: Tensor, mask: Tensor | None = None) -> Tensor:
        conditions = (condition,) if mask is None else (condition, mask)
        return self.unet(latents, timestep, *conditions, return_dict=False)[0]


class Decoder(nn.Module):
    """An autoencoder's decoder, from latents as the last step leaves them: undoing their scale is inside."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return self.vae.decode(unscale_latents(latents, self.vae.config), return_dict=False)[0]


class StandIn(nn.Module):
    """Takes a network's place in a pipeline: has a config, no weights, and runs elsewhere."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, run: Runner, config: dict[str, Any]) -> None:
        super().__init__()
        self.run, self.config = run, FrozenDict(config)
        self.eval()


class DenoiserStandIn(StandIn):
    """In place of a UNet: gives its `Denoiser` the conditions that the contract names, as the types it names.

    Where its config has `cached_timesteps`, others are refused as by the UNet: in a cache of rows without numbers.
    """

    def __init__(self, run: Runner, config: dict[str, Any], component: ComponentContract) -> None:
        super().__init__(run, config)
        self.conditions = component.inputs[2:]
        if cached := config.get("cached_timesteps"):
            self.time_proj = TimeEmbeddingCache(cached, torch.empty(len(cached), 0, dtype=torch.float16))

    @property
    def size_multiple(self) -> int:
        return self.config["size_multiple"]

    def forward(
        self, sample: Tensor, timestep: Tensor, return_dict: bool = False, **given: Tensor | None
    ) -> tuple[Tensor]:
        if hasattr(self, "time_proj"):
            self.time_proj(timestep)
        conditions = [given[spec.name].to(getattr(torch, spec.dtype)) for spec in self.conditions]
        return (self.run(sample, timestep.float(), *conditions)[0],)


class DecoderStandIn(StandIn):
    """In place of an autoencoder; `decoder_config` makes its config."""

    @property
    def spatial_compression_ratio(self) -> int:
        return self.config["spatial_compression_ratio"]

    def decode(self, z: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        return (self.run(z)[0],)


def decoder_config(latent_channels: int, pixels_a_latent: int) -> dict[str, Any]:
    """Config of a `DecoderStandIn`: without a scale, which the exported decoder undoes itself."""
    return {
        "latent_channels": latent_channels,
        "spatial_compression_ratio": pixels_a_latent,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
    }
