"""How latents are denoised in a loop that a contract tells: one file for each kind of scheduler."""

from abc import ABC, abstractmethod
from typing import Any

from diffusers import SchedulerMixin

from ..contract import TensorSpec


class Sampler(ABC):
    """A kind of scheduler, in the words of a contract."""

    schedule: str
    """Lines of the loop's text before its first step, each with its end."""
    time: str
    """What the UNet is told at step i."""
    prediction: str
    """What the UNet's output is called in the loop's text."""
    step: str
    """Lines of the loop's text that change the latents, each indented and with its end."""
    timestep: TensorSpec
    """Input of the UNet."""
    predicted: TensorSpec
    """Output of the UNet, without its shape."""
    purpose: str
    """What the UNet does."""

    @abstractmethod
    def check(self, scheduler: SchedulerMixin) -> None:
        """Refuses a scheduler with other steps.

        Raises:
            ValueError: naming the scheduler or its setting.
        """

    @abstractmethod
    def record(self, scheduler: SchedulerMixin, steps: int, shift: float | None = None) -> dict[str, Any]:
        """What a contract says of a scheduler: its class and config, its rule, and a run to compare with.

        Args:
            scheduler: passes `check`.
            steps: of the run.
            shift: what a scheduler with dynamic shifting takes for the size of the contract; None without.
        """

    @abstractmethod
    def note(self, record: dict[str, Any]) -> str:
        """The same for the README of a bundle, of what `record` wrote."""


def class_and_config(scheduler: SchedulerMixin) -> dict[str, Any]:
    """The first entries of a record."""
    config = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    return {"class": type(scheduler).__name__, "config": config}
