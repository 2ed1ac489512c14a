"""What a long run has made so far, in a hidden folder beside its result, for the next run to go on with."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .files import draft_file
from .fitting.run_folder import take_lock
from .repository import read_shapes

JOB, LOCK = "job", "lock"


class UnfinishedWork:
    """Numbered pieces of a result, each of which is whole or absent however a run ends.

    Args:
        folder: for their files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, number: int) -> bool:
        """Whether a piece is there; one that a failing disk has cut is not."""
        try:
            read_shapes(self._file(number))
        except (FileNotFoundError, ValueError):
            return False
        return True

    def keep(self, number: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
        """Writes a piece."""
        with draft_file(self._file(number)) as draft:
            save_file(dict(tensors), draft, metadata={name: repr(value) for name, value in numbers.items()})

    def tensors(self, number: int) -> dict[str, Tensor]:
        return load_file(self._file(number))

    def numbers(self, number: int) -> dict[str, float]:
        with safe_open(self._file(number), framework="pt") as opened:
            return {name: float(value) for name, value in (opened.metadata() or {}).items()}

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


@contextmanager
def unfinished_work(target: Path, job: str) -> Iterator[UnfinishedWork]:
    """The work on `target`, which no other run can go on with meanwhile; it is removed when the block ends.

    It stays where the run is interrupted or the disk fails, and where it does not belong to the same job it is begun
    anew. A ValueError removes it, for the same run would meet that again.

    Args:
        target: what the run makes.
        job: says what of and how, such as a digest.

    Raises:
        OSError: nothing can be written, saying where the work is; or another run is at it.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("a") as lock:
            _lock(lock, target)
            if not (folder / JOB).is_file() or (folder / JOB).read_text(encoding="utf-8") != job:
                _clear(folder, "*")
                (folder / JOB).write_text(job, encoding="utf-8")
            _clear(folder, ".*.partial")
            yield UnfinishedWork(folder)
        shutil.rmtree(folder, ignore_errors=True)
    except ValueError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except _Busy:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        kept = any(folder.glob("*.safetensors")) if folder.is_dir() else False
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        told = f" What is done so far is in {folder}: run the same again to go on." if kept else ""
        raise OSError(f"cannot write {target}: {str(reason).rstrip('.')}.{told}") from error


class _Busy(OSError):
    pass


def _lock(file, target: Path) -> None:
    try:
        take_lock(file)
    except BlockingIOError:
        raise _Busy(f"output {str(target)!r} is being written by another run: wait for it or stop it.") from None
    except OSError:  # some network drives and Windows know no such locks
        pass


def _clear(folder: Path, pattern: str) -> None:
    for path in list(folder.glob(pattern)):
        if path.name == LOCK:
            continue
        shutil.rmtree(path) if path.is_dir() else os.unlink(path)
