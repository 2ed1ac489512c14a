"""The folder that a command leaves behind: it appears whole or not at all, with a record of what made it."""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .files import draft_folder, write_json

RECORD = "run.json"

_RECORDED_PACKAGES = ("pocket-diffusers", "torch", "diffusers", "transformers", "numpy", "pillow")
_DISK_IS_TO_BLAME = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def result_folder(output: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside `output` and moves it there when the block ends without an error.

    An error inside the block removes the folder, so that nothing half-written stays.

    Args:
        output: where the result shall be; missing parents are made. An empty folder there is no obstacle.
        overwrite: replaces an earlier result, recognised by its `run.json`. Nothing else is ever replaced.

    Raises:
        FileExistsError: when something else is at `output`.
        OSError: when it cannot be written, with the reason in one sentence.
    """
    output = Path(output).absolute()
    refuse_to_destroy(output, overwrite)
    stack = ExitStack()
    try:
        draft = stack.enter_context(draft_folder(output))
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        with stack:
            yield draft
    except OSError as error:
        if error.errno in _DISK_IS_TO_BLAME:
            raise _unwritable(output, error) from error
        raise


def write_record(folder: Path, command: str, inputs: dict[str, Any], seed: int | None, seconds: float) -> Path:
    """Writes `run.json` into `folder`: what was asked for, with which seed and versions, when and how long.

    Args:
        folder: where the result is; every file in it is listed.
        command: the command, without its options.
        inputs: the options, anything that JSON or `str` can express.
        seed: the seed, None where the command left it to a preset.
        seconds: how long the work took.

    Raises:
        OSError: when it cannot be written.
    """
    record = {
        "command": command,
        "inputs": inputs,
        "seed": seed,
        "seconds": round(seconds, 3),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": installed_versions(),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
    }
    return write_json(folder / RECORD, record, default=str, allow_nan=True)


def installed_versions() -> dict[str, str | None]:
    """Returns the versions of Python and of the packages that decide a result; None where one is missing."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _RECORDED_PACKAGES}


def hardware(threads: int | None = None, processes: int = 1) -> str:
    """What the work was done on; nothing that tells one machine of a kind from another.

    Args:
        threads: of a process on a CPU, if it is another than this one.
        processes: that shared the work.

    Returns:
        Such as "2 x NVIDIA H100", or processor, cores, torch and its threads.
    """
    import torch

    if torch.cuda.is_available() and threads is None:
        return f"{processes} x {torch.cuda.get_device_name()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    version = torch.__version__.partition("+")[0]
    threads = processes * (threads or torch.get_num_threads())
    return f"{_processor()}, {cores} cores, torch {version} on {threads} threads"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def refuse_to_destroy(output: Path, overwrite: bool) -> None:
    """Refuses a folder that must not be written, as `result_folder` does.

    Raises:
        FileExistsError: something is there that is not to be replaced.
    """
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / RECORD).is_file():
        raise FileExistsError(f"output {str(output)!r} is already there and no earlier result: choose another.")
    if not overwrite:
        raise FileExistsError(f"output {str(output)!r} holds an earlier result: choose another or allow to overwrite.")


def _unwritable(output: Path, error: OSError) -> OSError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    sentence = f"output {str(output)!r} cannot be written: {reason[0].lower()}{reason[1:]}."
    return type(error)(sentence)
