"""How long a call takes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ...pipelines.result_folder import hardware
from ..intervals import bootstrap_interval


@dataclass(frozen=True)
class Latency:
    """Median time of a call.

    Attributes:
        latency_ms: median, in milliseconds.
        interval: 95 % interval of the median; None for a single call.
        n: calls that were timed; warm-up calls do not count.
        warmup: calls before them.
        hardware: see `pipelines.result_folder.hardware`.
    """

    latency_ms: float
    interval: tuple[float, float] | None
    n: int
    warmup: int
    hardware: str

    def to_record(self) -> dict[str, Any]:
        """The latency as a JSON object."""
        return {**asdict(self), "interval": None if self.interval is None else list(self.interval)}


def measure_latency(call: Callable[[], Any], repeats: int = 5, warmup: int = 1) -> Latency:
    """Time calls of `call`, such as `lambda: pipeline("a red cube")`; waits for the work of an accelerator.

    For two things that shall be compared use `timing.contest.run_contenders`: it takes turns.

    Args:
        call: is called without arguments.
        repeats: timed calls, at least 1.
        warmup: calls before them, at least 0.

    Raises:
        ValueError: `call` cannot be called, or a number out of range.
    """
    if not callable(call):
        raise ValueError(f"call must be something that can be called without arguments, not {call!r}.")
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats is {repeats} and warmup is {warmup}; needed are at least 1 and at least 0.")
    for _ in range(warmup):
        call()
    times = [_milliseconds(call) for _ in range(repeats)]
    interval = bootstrap_interval(times, statistic=np.median) if repeats > 1 else None
    return Latency(median(times), interval, repeats, warmup, hardware())


def _milliseconds(call: Callable[[], Any]) -> float:
    _wait()
    start = perf_counter()
    call()
    _wait()
    return (perf_counter() - start) * 1000


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
