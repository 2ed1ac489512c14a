"""Runs contenders against each other, each in a process of its own, turn by turn: A, B, A, B..."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..intervals import bootstrap_interval
from .record import Record

TIMEOUT = 3600.0  # seconds that building, warming up or one call may take
_SHARE_OF_MEMORY = 0.8  # of what is free, that contenders may fill together
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that is timed.

    Attributes:
        name: what tables and pictures call it.
        build: "module:function" that returns `contender_process.Work`; imported in the contender's process only.
        arguments: of that function, as JSON can express them.
        memory_gb: what its process is expected to need. Contenders that do not fit into the free memory together
            take turns in it: each call has a process of its own, built and warmed up anew.
        folder: in which its process works, so that arguments can name what lies there; None is this process's.
        python: interpreter of an environment with this package in which it runs; None is this process's.
    """

    name: str
    build: str
    arguments: dict[str, Any] = field(default_factory=dict)
    memory_gb: float = 0.0
    folder: Path | None = None
    python: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of a contender.

    Attributes:
        name, build, arguments: see `Contender`.
        seconds: of each timed call; call i of all contenders belongs to the same round.
        peak_memory_mb: the most that the contender's process held, in MB of a million bytes; None before a call.
        facts: what the build function said of it.
        error: why it has not as many calls as wanted; None for a contender that finished.
    """

    name: str
    build: str
    arguments: dict[str, Any]
    seconds: tuple[float, ...] = ()
    peak_memory_mb: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def median_seconds(self) -> float:
        return median(self.seconds)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the median; None for a single call."""
        return _interval(self.seconds)


def speedup(ours: Measurement, rival: Measurement) -> tuple[float, tuple[float, float] | None]:
    """How many times faster `ours` is: median over the rounds, each with its own ratio, and its 95 % interval.

    Raises:
        ValueError: when one of them failed.
    """
    for one in (ours, rival):
        if one.error is not None:
            raise ValueError(f"{one.name} could not be measured: {one.error}")
    ratios = [b / a for a, b in zip(ours.seconds, rival.seconds, strict=True)]
    return median(ratios), _interval(ratios)


def run_contenders(
    contenders: Sequence[Contender],
    repeats: int,
    threads: int,
    output: str | Path,
    progress: Callable[[str], None] = lambda text: None,
    timeout: float = TIMEOUT,
) -> list[Measurement]:
    """Time `repeats` calls of each contender, in turns, after a warm-up that does not count.

    `output` is written after each call. What stands there already is not measured again, if it was measured in the
    same way on the same kind of machine; contenders that failed are tried again.

    Args:
        contenders: with different names.
        repeats: calls of each, at least 1.
        threads: of each process, at least 1.
        output: JSON file: how it was measured, and each `Measurement`. Folders are made.
        progress: is told what is being measured.
        timeout: seconds that building and warming up, or one call, may take.

    Returns:
        a measurement for each contender, in their order; those that failed have an `error`.

    Raises:
        ValueError: numbers out of range, two contenders of one name, or an `output` that is no record of a run.
        OSError: `output` cannot be written.
    """
    if repeats < 1 or threads < 1:
        raise ValueError(f"repeats is {repeats} and threads is {threads}; both must be at least 1.")
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ValueError(f"contenders are called {', '.join(names)}; their names must differ.")
    found = _Found(Record(Path(output), {"threads": threads, "repeats": repeats}, threads), contenders)
    with ExitStack() as stack:
        start = _starter(stack, contenders, threads, timeout)
        for number in range(repeats):
            for contender in contenders:
                if found.wants(contender, number):
                    progress(f"{contender.name}, call {number + 1} of {repeats}")
                    found.note(contender, start)
    return found.measurements()


class ContenderError(RuntimeError):
    """A contender that could not be built or called; its message says why."""


class _Found:
    """What is known of each contender, at first out of the record."""

    def __init__(self, record: Record, contenders: Sequence[Contender]):
        self._record = record
        known = {one.name: one for one in record.read(Measurement)}
        fresh = {c.name: Measurement(name=c.name, build=c.build, arguments=c.arguments) for c in contenders}
        self._found = {name: self._resumed(known.get(name), one) for name, one in fresh.items()}

    def wants(self, contender: Contender, number: int) -> bool:
        found = self._found[contender.name]
        return found.error is None and len(found.seconds) <= number

    def note(self, contender: Contender, start: "Start") -> None:
        found = self._found[contender.name]
        try:
            with start(contender) as process:
                reply = process.call()
            peak = max(reply["peak_memory_mb"], found.peak_memory_mb or 0.0)
            seconds = (*found.seconds, reply["seconds"])
            found = replace(found, seconds=seconds, peak_memory_mb=peak, facts=process.facts)
        except ContenderError as error:
            found = replace(found, error=str(error))
        self._found[contender.name] = found
        self._record.write(self.measurements())

    def measurements(self) -> list[Measurement]:
        return list(self._found.values())

    def _resumed(self, known: Measurement | None, fresh: Measurement) -> Measurement:
        if known is None or (known.build, known.arguments) != (fresh.build, fresh.arguments):
            return fresh
        return replace(known, seconds=tuple(known.seconds), error=None)


class _Process:
    """A running `contender_process`."""

    def __init__(self, contender: Contender, threads: int, timeout: float):
        order = {"build": contender.build, "arguments": contender.arguments}
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self._timeout = timeout
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115, closed with it
        program = f"from {__package__}.contender_process import main; main()"
        try:
            self._process = subprocess.Popen(
                [str(contender.python or sys.executable), "-P", "-c", program, json.dumps(order)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, text=True, bufsize=1,
                cwd=contender.folder,
            )  # fmt: skip
        except OSError as error:  # such as no memory for one more process
            self._log.close()
            raise ContenderError(f"its process could not be started: {error}.") from error
        try:
            self.facts = self._reply()["facts"]
        except BaseException:
            self.close()
            raise

    def call(self) -> dict[str, float]:
        try:
            self._process.stdin.write("call\n")
        except BrokenPipeError:
            raise ContenderError(self._last_words()) from None
        return self._reply()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            with suppress(BrokenPipeError):  # the system may have ended it before it read its last line
                pipe.close()

    def _reply(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._timeout):
                raise ContenderError(f"it did not answer within {self._timeout:g} s.")
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise ContenderError(self._last_words())
        reply = json.loads(line)
        if "error" in reply:
            raise ContenderError(reply["error"])
        return reply

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        return f"its process ended with status {status}{': ' + lines[-1] if lines else ''}."


Start = Callable[[Contender], Any]  # gives a context that yields a _Process


def _starter(stack: ExitStack, contenders: Sequence[Contender], threads: int, timeout: float) -> Start:
    """Processes that stay for the whole run if all fit into memory, else one for each call."""

    @contextmanager
    def for_one_call(contender: Contender) -> Iterator[_Process]:
        process = _Process(contender, threads, timeout)
        try:
            yield process
        finally:
            process.close()

    running: dict[str, _Process] = {}

    @contextmanager
    def for_the_run(contender: Contender) -> Iterator[_Process]:
        if contender.name not in running:
            running[contender.name] = process = _Process(contender, threads, timeout)
            stack.callback(process.close)
        try:
            yield running[contender.name]
        except ContenderError:
            running.pop(contender.name).close()
            raise

    wanted = sum(contender.memory_gb for contender in contenders)
    return for_the_run if wanted <= _SHARE_OF_MEMORY * free_memory_gb() else for_one_call


def free_memory_gb() -> float:
    """Memory that new processes may take, in GB; infinite where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return float("inf")
    line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024 / 1e9


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    return bootstrap_interval(values, statistic=np.median) if len(values) > 1 else None
