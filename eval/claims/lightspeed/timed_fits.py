"""Fits whose seconds count, and only those of their steps: of one CPU, however often a fit was interrupted."""

from time import process_time

import torch
from torch import Tensor, nn

from ....pipelines.fitting.light_field_fitting import LightFieldFit, StepViews


class TimedField(nn.Module):
    """A field that keeps with its weights how many seconds of a CPU its steps took, whenever they were made."""

    seconds: Tensor

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field
        self.register_buffer("seconds", torch.zeros((), dtype=torch.float64))

    def forward(self, origins: Tensor, directions: Tensor, sub_scene: int = 0) -> Tensor:
        return self.field(origins, directions, sub_scene)


class TimedFit(LightFieldFit):
    """A fit of a `TimedField`: a step is timed from its pictures to its new weights."""

    started: float

    def loss(self, part: str, batch: StepViews, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        self.started = process_time()
        return super().loss(part, batch, generator)

    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.parts[part].seconds += process_time() - self.started
