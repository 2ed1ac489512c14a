"""The folder a run leaves behind: checkpoints, metrics and previews, each of them whole or absent."""

import errno
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from PIL.Image import Image
from safetensors import SafetensorError

from ..files import draft_file
from .checkpoint import damaged_file, seal, synchronise


class RunFolder:
    """Where a run writes.

    Layout: `checkpoints/step_00000100/`, `metrics.jsonl` and `previews/step_00000100.png`. Every file or checkpoint
    is written under a hidden name and renamed, so a process that is killed leaves it whole or absent.

    Args:
        path: the folder; made when absent.

    Raises:
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints_path = self.path / "checkpoints"
        self.metrics_path = self.path / "metrics.jsonl"
        with one_sentence(f"output {str(self.path)!r} cannot be written to"):
            self.checkpoints_path.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.path).close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other run can write here. The system ends it with the process, however that dies.

        Raises:
            OSError: another run writes here; names its process.
        """
        with (self.path / ".lock").open("a+") as file:
            try:
                take_lock(file)
            except BlockingIOError:
                file.seek(0)
                owner = f"process {file.read() or 'unknown'}"
                raise OSError(
                    f"output {str(self.path)!r} is being written by another run ({owner}); wait for it or stop it, or"
                    f" name another folder"
                ) from None
            except OSError as error:  # some network drives and Windows know no such locks
                warnings.warn(
                    f"{str(self.path)!r} cannot be locked ({error.strerror}): start one run only", stacklevel=2
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def remove_if_empty(self) -> None:
        """Removes the folder unless a run has left something in it."""
        left = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if left <= {".lock", self.checkpoints_path.name} and not any(self.checkpoints_path.glob("*")):
            remove(self.path)

    def clear_leftovers(self) -> None:
        """Removes what a killed process left half-written."""
        for folder in (self.path, self.checkpoints_path, self.path / "previews"):
            for leftover in list(folder.glob(".*.partial")):
                remove(leftover)

    def checkpoints(self) -> list[Path]:
        """The finished checkpoints, oldest first."""
        return sorted(self.checkpoints_path.glob("step_*"))

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint, after a check of all its files; None if there is none.

        Raises:
            ValueError: a file of it is missing or damaged; names it and the last good checkpoint.
        """
        checkpoints = self.checkpoints()
        damaged = damaged_file(checkpoints[-1]) if checkpoints else None
        if damaged is not None:
            raise ValueError(
                f"checkpoint file {str(damaged)!r} is missing or damaged; {self.last_good()}"
                f" (remove {checkpoints[-1].name!r} to continue from there)"
            )
        return checkpoints[-1] if checkpoints else None

    def last_good(self) -> str:
        """A clause that names the newest undamaged checkpoint."""
        for checkpoint in reversed(self.checkpoints()):
            if damaged_file(checkpoint) is None:
                return f"the last good checkpoint is {str(checkpoint)!r}"
        return "there is no good checkpoint yet"

    def begin_checkpoint(self, step: int) -> None:
        """Makes the hidden folder `draft(step)` for the files of a new checkpoint."""
        remove(self.draft(step))
        self.draft(step).mkdir()

    def finish_checkpoint(self, step: int, keep: int) -> None:
        """Seals the draft and gives it its name, then removes all but the newest `keep` checkpoints."""
        seal(self.draft(step))
        self.draft(step).rename(self.checkpoint(step))
        synchronise(self.checkpoints_path)
        for old in self.checkpoints()[:-keep]:
            remove(old.rename(hidden(old)))

    @contextmanager
    def drafting(self, step: int) -> Iterator[Path]:
        """A context for writing a checkpoint: if that fails, the draft is removed and one sentence says so."""
        failure = f"checkpoint {str(self.checkpoint(step))!r} could not be written"
        try:
            with one_sentence(failure, self.last_good):
                yield self.draft(step)
        except BaseException:
            remove(self.draft(step))
            raise

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after `step` steps is."""
        return self.checkpoints_path / f"step_{step:08d}"

    def draft(self, step: int) -> Path:
        """Where the checkpoint after `step` steps is while it is written."""
        return hidden(self.checkpoint(step))

    def append_metrics(self, record: dict[str, float]) -> None:
        """Adds one line to metrics.jsonl; numbers that JSON does not know (nan, inf) become null."""
        line = json.dumps({name: value if math.isfinite(value) else None for name, value in record.items()})
        failure = f"{str(self.metrics_path)!r} could not be written"
        with one_sentence(failure, self.last_good), self.metrics_path.open("a") as file:
            file.write(line + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl; a last line that a kill cut short is left out."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def trim_metrics(self, step: int) -> None:
        """Drops the records past `step`, so that a resumed run logs no step twice."""
        kept = [json.dumps(record) + "\n" for record in self.metrics() if record["step"] <= step]
        self.write(self.metrics_path, lambda path: path.write_text("".join(kept)))

    def save_preview(self, step: int, image: Image) -> None:
        """Writes `previews/step_<step>.png`."""
        self.write(self.path / "previews" / f"step_{step:08d}.png", lambda path: image.save(path, format="PNG"))

    def write(self, target: Path, writer: Callable[[Path], Any]) -> None:
        """Lets `writer` write to a hidden path, then renames that to `target`.

        Raises:
            OSError: that failed; nothing half-written is left.
        """
        with one_sentence(f"{str(target)!r} could not be written", self.last_good), draft_file(target) as draft:
            writer(draft)


@contextmanager
def one_sentence(failure: str, remedy: Callable[[], str] | None = None) -> Iterator[None]:
    """Turns an error of the file system into an OSError that says what failed, why, and what is left."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        end = f"; {remedy()}" if remedy else ""
        raise OSError(f"{failure} ({reason}){end}") from error


def take_lock(file: IO) -> None:
    """Locks an open file until it is closed, by the process or by its death; BlockingIOError if another has it."""
    try:
        import fcntl
    except ModuleNotFoundError:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from None
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
