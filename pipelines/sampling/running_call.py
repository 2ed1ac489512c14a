"""The state of one call of a pipeline, which no other thread and no other call sees."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass
class RunningCall:
    """What a callback may read and change while a call runs.

    Attributes:
        guidance_scale: weight of classifier-free guidance; up to 1 is none.
        num_timesteps: steps.
        interrupt: whether to stop after the running step.
    """

    guidance_scale: float = 1.0
    num_timesteps: int = 0
    interrupt: bool = False


_RUNNING: ContextVar[Mapping[int, RunningCall]] = ContextVar("running", default=MappingProxyType({}))
"""The innermost call of each pipeline, by `id`, that runs in this thread or task."""


class OfTheCall:
    """A private attribute of a `CallStateMixin` that is each call's own: `_name` is the call's `name`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name.removeprefix("_")

    def __get__(self, pipeline: "CallStateMixin | None", owner: type) -> Any:
        return self if pipeline is None else getattr(pipeline._call, self.name)

    def __set__(self, pipeline: "CallStateMixin", value: Any) -> None:
        setattr(pipeline._call, self.name, value)


class CallStateMixin:
    """Gives a pipeline the state of a call, so that threads and callbacks may call one pipeline at the same time."""

    _guidance_scale = OfTheCall()
    _num_timesteps = OfTheCall()
    _interrupt = OfTheCall()

    @property
    def guidance_scale(self) -> float:
        """Guidance of the running (or last) call; a callback may change `_guidance_scale`."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a network also sees what is steered away from: guidance scales up to 1 do without it."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Steps of the running (or last) call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt = True` from a callback to stop after the running step."""
        return self._interrupt

    @property
    def _call(self) -> RunningCall:
        """This thread's running call; where it runs none, the one that began last, in whatever thread."""
        running = _RUNNING.get().get(id(self))
        return running or self.__dict__.setdefault("_latest_call", RunningCall())

    @contextmanager
    def _calling(self, guidance_scale: float) -> Iterator[None]:
        """A block that is a call of this pipeline."""
        call = self._latest_call = RunningCall(float(guidance_scale))
        token = _RUNNING.set({**_RUNNING.get(), id(self): call})
        try:
            yield
        finally:
            _RUNNING.reset(token)
