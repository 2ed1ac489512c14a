"""Learning to make pictures: a denoiser's objective on latents, whatever it is shown beside them."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor, nn

from ...hub_models.losses.flow_matching import flow_matching_pair, logit_normal_sigmas, shift_sigmas
from ...pipelines.inputs import require
from ..conditions import Conditions
from .adamw import adamw

Latents = Float[Tensor, "batch channels h w"]
PREDICTIONS = ("flow", "epsilon", "v_prediction")


def training_scheduler(prediction_type: str, shift: float = 1.0) -> FlowMatchEulerDiscreteScheduler | DDPMScheduler:
    """The noise levels of a training: rectified flow, or those of latent diffusion.

    Args:
        prediction_type: "flow", or "epsilon" or "v_prediction" of SDXL's scaled-linear DDPM.
        shift: of a flow's timesteps towards noise; 1 is none.

    Raises:
        ValueError: another prediction.
    """
    known = prediction_type in PREDICTIONS
    require(known, "prediction_type", prediction_type, f"one of {', '.join(PREDICTIONS)}")
    if prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,  # latents are not confined to [-1, 1]
    )


def sampler_of(
    scheduler: FlowMatchEulerDiscreteScheduler | DDPMScheduler, **ddim: Any
) -> FlowMatchEulerDiscreteScheduler | DDIMScheduler:
    """The scheduler that draws pictures with a model trained on these noise levels: DDIM where it is no flow."""
    return DDIMScheduler.from_config(scheduler.config, **ddim) if isinstance(scheduler, DDPMScheduler) else scheduler


class Denoising:
    """An objective (see `pipelines.fitting.loop.Objective`): from noisy latents, predict noise or velocity.

    Of a step's generator it draws what is not shown, then the noise, then the noise's level.

    Args:
        unet: what learns; called with latents, timesteps and what `Conditions.shown` holds.
        scheduler: of training, see `noised`.
        conditions: makes `Conditions` of a batch, some of them with nothing shown.
        learning_rate: of AdamW, without decay.
        draw: a picture for previews, made with the unet as it is; None draws none.
        time_alpha: see `noised`.
    """

    def __init__(
        self,
        unet: nn.Module,
        scheduler: SchedulerMixin,
        conditions: Callable[[Any, torch.Generator], Conditions],
        learning_rate: float,
        draw: Callable[[], Image.Image] | None = None,
        time_alpha: float | None = None,
    ):
        self.parts: dict[str, nn.Module] = {"unet": unet}
        self.scheduler, self.conditions, self.learning_rate, self.draw = scheduler, conditions, learning_rate, draw
        self.time_alpha = time_alpha

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, weight_decay=0.0)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        given = self.conditions(batch, generator)
        device = next(self.parts[part].parameters()).device
        latents, shown = given.latents.to(device), [tensor.to(device) for tensor in given.shown]
        noise = torch.randn(latents.shape, generator=generator).to(device)
        x, timesteps, target = noised(self.scheduler, latents, noise, generator, self.time_alpha)
        x = x.contiguous(memory_format=torch.channels_last)
        predicted = self.parts[part](x, timesteps, *shown, return_dict=False)[0]
        return (predicted.float() - target).square().mean(), {}

    def preview(self, modules: dict[str, nn.Module]) -> Image.Image | None:
        return self.draw() if self.draw else None


def noised(
    scheduler: SchedulerMixin,
    latents: Latents,
    noise: Latents,
    generator: torch.Generator,
    time_alpha: float | None = None,
) -> tuple[Latents, Shaped[Tensor, " batch"], Latents]:
    """Noisy latents, their timesteps in 0..1000, and what is to be predicted there.

    With a `FlowMatchEulerDiscreteScheduler` it is rectified flow, v = eps - x0, with logit-normal timesteps moved
    towards noise by the scheduler's `shift` (SD3, arXiv 2403.03206, section 3.1). With a `DDPMScheduler` the target is
    what its `prediction_type` says, at uniform timesteps (DDPM, arXiv 2006.11239).

    With `time_alpha` the level is drawn from Beta(alpha, 1) in place of either, the more towards noise the larger it
    is: x^(1/alpha) of a uniform x (BitsFusion, arXiv 2406.04333, section 4.2, has 3); 1 is uniform.

    Raises:
        ValueError: for a scheduler of another kind.
    """
    levels = None if time_alpha is None else torch.rand(len(latents), generator=generator) ** (1 / time_alpha)
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        if levels is None:
            levels = shift_sigmas(logit_normal_sigmas(len(latents), generator), scheduler.config.shift)
        sigmas = levels.to(latents.device)
        x, velocity = flow_matching_pair(latents, noise, sigmas)
        return x, 1000 * sigmas, velocity
    if not isinstance(scheduler, DDPMScheduler):
        raise ValueError(f"scheduler must be FlowMatchEulerDiscrete or DDPM, not a {type(scheduler).__name__}.")
    steps = scheduler.config.num_train_timesteps
    if levels is None:
        timesteps = torch.randint(steps, (len(latents),), generator=generator)
    else:
        timesteps = (steps * levels).long().clamp_max(steps - 1)
    timesteps = timesteps.to(latents.device)
    x, kind = scheduler.add_noise(latents, noise, timesteps), scheduler.config.prediction_type
    if kind == "v_prediction":
        return x, timesteps, scheduler.get_velocity(latents, noise, timesteps)
    return x, timesteps, {"epsilon": noise, "sample": latents}[kind]
