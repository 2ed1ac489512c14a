"""Learning to make pictures of classes: latents of labelled pictures, and the denoiser's objective on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...hub_models.layers.latent_scaling import scale_latents
from ...hub_models.losses.flow_matching import flow_matching_pair, logit_normal_sigmas
from ...hub_models.unet_ascan import AsCANUNet2DModel
from .adamw import adamw


@dataclass(frozen=True)
class LabelledLatents:
    """N latents held in memory.

    Attributes:
        latents: scaled to about unit variance.
        labels: classes of the pictures.
    """

    latents: Float[Tensor, "count channels h w"]
    labels: Int[Tensor, " count"]

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        batch = batch.cpu()
        return self.latents[batch], self.labels[batch]


@dataclass(frozen=True)
class StreamedLatents:
    """Latents of (pictures, labels) as they come."""

    vae: nn.Module

    @torch.no_grad()
    def __call__(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        pictures, labels = batch
        latents = self.vae.encode(pictures.to(self.vae.device, self.vae.dtype)).latent_dist.sample()
        return scale_latents(latents.float(), self.vae.config), labels


@torch.no_grad()
def encode_labelled(
    vae: nn.Module, pictures: Callable[[Tensor], Tensor], labels: Tensor, chosen: Tensor
) -> LabelledLatents:
    """Latents of the pictures that `pictures(indices)` gives in [-1, 1] for the `chosen` indices."""
    parts = [vae.encode(pictures(part)).latent_dist.mode() for part in chosen.split(512)]
    return LabelledLatents(scale_latents(torch.cat(parts), vae.config), labels[chosen])


class ClassDenoising:
    """An objective (see `pipelines.fitting.loop.Objective`): denoise latents of a class, sometimes of none.

    With a `FlowMatchEulerDiscreteScheduler` it is rectified flow with logit-normal timesteps; with a `DDPMScheduler`
    the target is what its `prediction_type` says, at uniform timesteps, as in DDPM (arXiv 2006.11239).

    Args:
        unet: what learns.
        scheduler: of training.
        read: makes (latents, labels) of a batch.
        learning_rate: of AdamW.
        label_drop: chance that a picture is shown as of no class, which is what guidance steers away from.
    """

    def __init__(
        self,
        unet: AsCANUNet2DModel,
        scheduler: SchedulerMixin,
        read: Callable[[Any], tuple[Tensor, Tensor]],
        learning_rate: float,
        label_drop: float,
    ):
        self.parts: dict[str, nn.Module] = {"unet": unet}
        self.no_class = unet.config.num_classes
        self.scheduler, self.read = scheduler, read
        self.learning_rate, self.label_drop = learning_rate, label_drop

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, weight_decay=0.0)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        latents, labels = self.read(batch)
        device = next(self.parts[part].parameters()).device
        dropped = torch.rand(len(labels), generator=generator) < self.label_drop
        labels = torch.where(dropped, self.no_class, labels.cpu()).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        x, timesteps, target = noised(self.scheduler, latents.to(device), noise, generator)
        x = x.contiguous(memory_format=torch.channels_last)
        predicted = self.parts[part](x, timesteps, labels, return_dict=False)[0]
        return (predicted.float() - target).square().mean(), {}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None


def noised(
    scheduler: SchedulerMixin, latents: Tensor, noise: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their timesteps, and what is to be predicted there.

    Raises:
        ValueError: for a scheduler of another kind.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        sigmas = logit_normal_sigmas(len(latents), generator).to(latents.device)
        x, velocity = flow_matching_pair(latents, noise, sigmas)
        return x, 1000 * sigmas, velocity
    if not isinstance(scheduler, DDPMScheduler):
        raise ValueError(f"scheduler is a {type(scheduler).__name__}; it must be FlowMatchEulerDiscrete or DDPM.")
    steps = scheduler.config.num_train_timesteps
    timesteps = torch.randint(steps, (len(latents),), generator=generator).to(latents.device)
    x, kind = scheduler.add_noise(latents, noise, timesteps), scheduler.config.prediction_type
    if kind == "v_prediction":
        return x, timesteps, scheduler.get_velocity(latents, noise, timesteps)
    return x, timesteps, {"epsilon": noise, "sample": latents}[kind]
