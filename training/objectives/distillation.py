"""Learning to predict what a network of full precision predicts: BitsFusion's first stage (arXiv 2406.04333)."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor, nn

from ...hub_models.losses.distillation import BlockFeatures, feature_distance
from ..conditions import Conditions
from .adamw import adamw
from .denoising import noised


class Distillation:
    """An objective (see `pipelines.fitting.loop.Objective`): L_noise + weight * L_feat (arXiv 2406.04333, section 4.2).

    Both networks see the same noisy latents and the same condition, which is sometimes the empty one, so that the
    student follows its teacher on both halves of classifier-free guidance (equation 6); of a step's generator it draws
    what is not shown, then the noise, then the noise's level.

    Args:
        student: what learns; called with latents, timesteps and what `Conditions.shown` holds.
        teacher: with as many down and up blocks; frozen.
        scheduler: of training, see `noised`.
        conditions: makes `Conditions` of a batch, some of them with nothing shown.
        learning_rate: of AdamW, without decay.
        feature_weight: lambda of equation 7, at least 0.
        time_alpha: see `noised`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        scheduler: SchedulerMixin,
        conditions: Callable[[Any, torch.Generator], Conditions],
        learning_rate: float,
        feature_weight: float,
        time_alpha: float,
    ):
        self.parts: dict[str, nn.Module] = {"unet": student}
        self.teacher = teacher.eval().requires_grad_(False)
        self.scheduler, self.conditions, self.learning_rate = scheduler, conditions, learning_rate
        self.feature_weight, self.time_alpha = feature_weight, time_alpha

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, weight_decay=0.0)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        given = self.conditions(batch, generator)
        student = self.parts[part]
        device = next(student.parameters()).device
        latents, shown = given.latents.to(device), [tensor.to(device) for tensor in given.shown]
        noise = torch.randn(latents.shape, generator=generator).to(device)
        x, timesteps, _ = noised(self.scheduler, latents, noise, generator, self.time_alpha)
        x = x.contiguous(memory_format=torch.channels_last)

        def forward(unet: nn.Module) -> Tensor:
            return unet(x, timesteps, *shown, return_dict=False)[0].float()

        with ExitStack() as entered:
            recorders = [entered.enter_context(BlockFeatures(unet)) for unet in (self.teacher, student)]
            with torch.no_grad():
                wanted, held = recorders[0].of(lambda: forward(self.teacher))
            predicted, own = recorders[1].of(lambda: forward(student))
        output, features = F.mse_loss(predicted, wanted), feature_distance(own, held)
        loss = output + self.feature_weight * features
        return loss, {"output": float(output.detach()), "features": float(features.detach())}

    def preview(self, modules: dict[str, nn.Module]) -> Image.Image | None:
        return None
