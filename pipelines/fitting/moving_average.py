"""Exponential moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """The moving average of a module's trainable parameters, in float32 whatever their type; buffers are not averaged.

    Args:
        module: whose parameters are averaged. If they are sharded, each process averages its shards.
        decay: limit of the decay, in (0, 1); see `decay_at`.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.averages = {name: shard(p).float().clone() for name, p in self.parameters.items()}

    def decay_at(self, step: int) -> float:
        """The weight of the old average in update `step` (from 0): min(decay, (1 + step) / (10 + step)), so that the
        initial weights fade early, as in diffusers' and TensorFlow's."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages toward the parameters after update `step` (from 0)."""
        current = [shard(p).float() for p in self.parameters.values()]
        get_ema_multi_avg_fn(self.decay_at(step))(list(self.averages.values()), current, step)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the averages that `averages` held at another time."""
        for name, average in self.averages.items():
            average.copy_(tensors[name])

    def copy_to_module(self) -> None:
        """Overwrites the parameters with their averages."""
        for name, parameter in self.parameters.items():
            shard(parameter).copy_(self.averages[name])

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside this context the module holds the averages, after it its own weights again."""
        own = {name: shard(p).clone() for name, p in self.parameters.items()}
        self.copy_to_module()
        try:
            yield
        finally:
            for name, parameter in self.parameters.items():
                shard(parameter).copy_(own[name])


def shard(parameter: Tensor) -> Tensor:
    """This process's part of a parameter, sharing its memory, without gradient."""
    parameter = parameter.detach()
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
