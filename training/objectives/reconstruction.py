"""Pictures to latents and back: the objective of an autoencoder, or of its decoder alone."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from ...hub_models.losses.adversarial import PatchDiscriminator, hinge_discriminator_loss, hinge_generator_loss
from ...hub_models.losses.photometric import edge_distance, psnr

Pictures = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels h w"]
NEAR = 2  # pixels around an object, where its outline is


@dataclass(frozen=True, kw_only=True)
class ReconstructionWeights:
    """How much each loss counts.

    Attributes:
        pixel: mean squared plus mean absolute error.
        edge: difference of outlines; it stands in for LPIPS, whose weights cannot be assumed to be at hand.
        kl: mean divergence of a latent number from the unit normal.
        object: how much more pixels on objects and within `NEAR` pixels of them count, in both losses above: 0 counts
            all pixels alike. Objects fill a small part of a picture, and outlines a smaller one.
        adversarial: of a discriminator of patches that learns alongside; 0 makes none.
    """

    pixel: float = 1.0
    edge: float = 1.0
    kl: float = 0.0
    object: float = 0.0
    adversarial: float = 0.0


class Autoencoding(nn.Module):
    """The two halves of an autoencoder in one forward pass, as the loop (and DDP) wants a module to be called."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.decoder, self.encoder = vae.decoder, vae.encoder
        self.encode, self.decode = vae.encode, vae.decode  # bound methods: torch registers nothing twice

    def forward(self, pixels: Pictures, noise: Latents) -> tuple[Pictures, Latents, Latents]:
        """Reconstructions, and mean and log variance of the posterior that `noise` drew their latents from."""
        posterior = self.encode(pixels).latent_dist
        latents = posterior.mean + posterior.std * noise
        return self.decode(latents).sample, posterior.mean, posterior.logvar


class Reconstruction:
    """An objective (see `pipelines.fitting.loop.Objective`): reconstruct pictures, and fool a discriminator if asked.

    Args:
        vae: what learns, an autoencoder with `spatial_compression_ratio`; the parts of it whose parameters require no
            gradient stay as they are.
        weights: of the losses.
        learning_rate: peak, of both parts.
        samples: pictures in [-1, 1] to show in previews.

    A batch is pictures, or a tuple of them and something else: where their objects are, Bool [B, 1, h, w], which
    `weights.object` needs, or their captions, which nothing here needs.
    """

    def __init__(self, vae: nn.Module, weights: ReconstructionWeights, learning_rate: float, samples: Pictures):
        self.vae, self.weights, self.learning_rate, self.samples = vae, weights, learning_rate, samples
        self.parts: dict[str, nn.Module] = {"autoencoder": Autoencoding(vae)}
        if weights.adversarial > 0:
            self.parts["discriminator"] = PatchDiscriminator(3)

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        learning = [parameter for parameter in self.parts[part].parameters() if parameter.requires_grad]
        return torch.optim.AdamW(learning, self.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pixels, beside = batch if isinstance(batch, tuple) else (batch, None)  # objects, or the captions of a stream
        noise = torch.randn(self._latent_shape(pixels), generator=generator).to(pixels.device)
        made, mean, logvar = self.parts["autoencoder"](pixels, noise)
        if part == "discriminator":
            discriminator = self.parts[part]
            return hinge_discriminator_loss(discriminator(pixels), discriminator(made.detach())), {}
        weight = 1 + self.weights.object * near(beside) if self.weights.object else torch.ones_like(pixels[:, :1])
        return self._autoencoder_loss(made.float(), pixels, weight, mean, logvar)

    def _autoencoder_loss(
        self, made: Pictures, pixels: Pictures, weight: Tensor, mean: Latents, logvar: Latents
    ) -> tuple[Tensor, dict[str, float]]:
        error = made - pixels
        pixel = (weight * error.square()).mean() + (weight * error.abs()).mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).float().mean()
        loss = self.weights.pixel * pixel + self.weights.edge * edge_distance(made, pixels, weight).mean()
        loss = loss + self.weights.kl * kl
        if "discriminator" in self.parts:
            loss = loss + self.weights.adversarial * hinge_generator_loss(self.parts["discriminator"](made))
        return loss, {"psnr": psnr(made.detach(), pixels).mean().item(), "kl": kl.item()}

    def _latent_shape(self, pixels: Pictures) -> tuple[int, ...]:
        ratio = self.vae.spatial_compression_ratio
        return (len(pixels), self.vae.config.latent_channels, pixels.shape[2] // ratio, pixels.shape[3] // ratio)

    def preview(self, modules: dict[str, nn.Module]) -> Image.Image:
        """The samples, and below them what the autoencoder makes of them."""
        samples = self.samples.to(next(modules["autoencoder"].parameters()).device)
        made, _, _ = modules["autoencoder"](samples, samples.new_zeros(self._latent_shape(samples)))
        return grid(torch.cat((samples, made)).cpu(), len(samples))


def near(objects: Bool[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 1 height width"]:
    """1 on objects and within `NEAR` pixels of them, along both axes, else 0."""
    return F.max_pool2d(objects.float(), 2 * NEAR + 1, stride=1, padding=NEAR)


def grid(pictures: Pictures, columns: int, scale: int = 2) -> Image.Image:
    """Pictures in [-1, 1] side by side in rows of `columns`, enlarged `scale` times."""
    pixels = pictures.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    rows = [torch.cat(list(row), dim=2) for row in pixels.split(columns)]
    image = Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).numpy())
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
