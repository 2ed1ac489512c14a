"""Pictures as latents: the autoencoder that makes them, frozen, and what it makes of many pictures or of a batch."""

from importlib import import_module
from pathlib import Path

import diffusers
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..hub_models.layers.latent_scaling import scale_latents
from ..pipelines.inputs import require

Pictures = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels h w"]


def load_autoencoder(source: str | Path) -> nn.Module:
    """An autoencoder of diffusers or of this package, in float32 and eval mode, its weights frozen.

    Args:
        source: a folder or Hub repository, its own or that of a pipeline with subfolder `vae`.

    Raises:
        ValueError: its config names no autoencoder.
        OSError: it cannot be reached.
    """
    load_config, place = diffusers.AutoencoderKL.load_config, {}
    try:
        config = load_config(source)
    except OSError:
        place = {"subfolder": "vae"}
        config = load_config(source, **place)
    name = config.get("_class_name") or ""
    kind = getattr(diffusers, name, None) or getattr(import_module(__package__.rpartition(".")[0]), name, None)
    require(hasattr(kind, "encode"), "vae", str(source), "a folder of an autoencoder")
    return kind.from_pretrained(source, **place).eval().requires_grad_(False)


def pixels_per_latent(vae: nn.Module) -> int:
    """Pixels a latent stands for, along each side."""
    return getattr(vae, "spatial_compression_ratio", None) or 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def encode(vae: nn.Module, pixels: Pictures) -> Latents:
    """Means of the posteriors of a batch in [-1, 1], unscaled, on the autoencoder's device.

    The mean and no draw, for a data set in memory keeps one latent a picture, and a stream is to show the same.
    """
    return vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()


def encode_all(vae: nn.Module, pixels: Pictures, batch_size: int = 256) -> Latents:
    """`encode` of any number of pictures, on the CPU."""
    return torch.cat([encode(vae, part).cpu() for part in pixels.split(batch_size)])


def scaled(vae: nn.Module, latents: Latents) -> Latents:
    """Latents at about unit variance, as a denoiser works on them."""
    return scale_latents(latents, vae.config)
