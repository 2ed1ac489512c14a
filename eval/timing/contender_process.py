"""The process of one contender: builds it, warms it up and makes one timed call for each line it reads.

It imports nothing heavy itself, so that its memory is the contender's; `contest` sets the number of threads.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

IMPORTS = "imports_mb"
"""The fact in which a contender says what its process held before it built anything."""

_STATUS = Path("/proc/self/status")  # Linux has it


@dataclass(frozen=True)
class Work:
    """What the build function of a contender returns.

    Attributes:
        call: does the work that is timed; what it returns is dropped.
        facts: what else shall stand in the record, such as the hash of a graph; anything JSON can express.
    """

    call: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)


def build_work(build: str, arguments: dict[str, Any]) -> Work:
    """The work that "module:function" makes of `arguments`.

    Raises:
        ValueError: when `build` names no function, or one that returns no `Work`.
    """
    module, _, name = build.partition(":")
    function = getattr(import_module(module), name, None) if name else None
    if not callable(function):
        raise ValueError(f"build is {build!r}; it must name a function as 'module:function'.")
    work = function(**arguments)
    if not isinstance(work, Work):
        raise ValueError(f"{build} returned {type(work).__name__}; it must return Work.")
    return work


def peak_memory_mb() -> float:
    """The most memory that this process has held since `forget_peak_memory`, in MB of a million bytes.

    Linux counts it for each process image; its `ru_maxrss` would start from that of the parent process.
    """
    if _STATUS.is_file():
        return _status_mb("VmHWM")
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def held_memory_mb() -> float:
    """What this process holds now, in MB; where the system tells only the peak, that."""
    return _status_mb("VmRSS") if _STATUS.is_file() else peak_memory_mb()


def _status_mb(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def forget_peak_memory() -> None:
    """Makes what is held now the peak, on Linux, so that only calls count and not what building once needed."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def serve(commands: TextIO, replies: TextIO, order: dict[str, Any]) -> None:
    """Replies {"facts": ...} once warmed up, then {"seconds": ..., "peak_memory_mb": ...} to each line of `commands`.

    An error ends it, after the reply {"error": ...}.
    """

    def reply(**record: Any) -> None:
        print(json.dumps(record), file=replies, flush=True)

    try:
        work = build_work(order["build"], order["arguments"])
        forget_peak_memory()
        work.call()  # warm-up: memory is touched, kernels are chosen, graphs are compiled
        reply(facts=work.facts)
        for _ in commands:
            start = perf_counter()
            work.call()
            reply(seconds=perf_counter() - start, peak_memory_mb=peak_memory_mb())
    except Exception as error:
        reply(error=" ".join(f"{type(error).__name__}: {error}".split())[:500])


def main() -> None:
    """Serves the order in the first argument, a JSON object; started by `contest`."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not get among the replies
    serve(sys.stdin, replies, json.loads(sys.argv[1]))
