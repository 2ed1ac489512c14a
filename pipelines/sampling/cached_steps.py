"""Numbers of steps that a UNet can take which knows some timesteps only, for it has a cache of their embeddings."""

import copy
from collections.abc import Iterable

from diffusers import SchedulerMixin
from torch import nn

from ...hub_models.layers.time_embedding_cache import TimeEmbeddingCache


def check_cached_steps(unet: nn.Module, scheduler: SchedulerMixin, steps: int) -> None:
    """Refuses a number of steps at whose timesteps a UNet has nothing cached; one without a cache knows every timestep.

    Raises:
        ValueError: naming the numbers that can be taken, and how a cache of others is made.
    """
    known = cached_steps(unet, scheduler)
    if known is None or steps in known:
        return
    if not known:
        raise ValueError(
            f"scheduler must be one whose timesteps the UNet has cached, not this {type(scheduler).__name__}: for its "
            f"own, quantise the pipeline that this one was made of again with it and --cache-steps {steps}."
        )
    raise ValueError(
        f"num_inference_steps must be {_told(known)}, whose timesteps the UNet has cached, not {steps}: for others, "
        f"quantise the pipeline that this one was made of again with --cache-steps {steps}."
    )


def cached_steps(unet: nn.Module, scheduler: SchedulerMixin) -> list[int] | None:
    """Rising numbers of steps at whose timesteps a UNet has everything cached; None for one without a cache."""
    cache = getattr(unet, "time_proj", None)
    if not isinstance(cache, TimeEmbeddingCache):
        return None
    scheduler, cached = copy.deepcopy(scheduler), set(cache.timesteps)
    return [count for count in range(1, len(cached) + 1) if _timesteps(scheduler, count) <= cached]


def scheduled_timesteps(scheduler: SchedulerMixin, steps: int) -> list[float]:
    """The distinct timesteps that a scheduler takes in so many steps, in their order; all for as many as there are."""
    if steps == scheduler.config.get("num_train_timesteps"):
        return list(range(steps))
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    return list(dict.fromkeys(scheduler.timesteps.tolist()))


def _timesteps(scheduler: SchedulerMixin, steps: int) -> set[float]:
    scheduler.set_timesteps(steps)
    return set(scheduler.timesteps.tolist())


def _told(numbers: Iterable[int]) -> str:
    """Rising numbers in words: 1, 2, 5 or 48 to 50."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [part for run in runs for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    return " or ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
