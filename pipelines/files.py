"""Files and folders that appear whole or not at all, JSON that is read with one sentence for a fault, and sha256."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A hidden draft beside `path` that takes its place when the block ends, and vanishes when it fails.

    Raises:
        OSError: it cannot be written, with the path and the reason.
    """
    with _blamed_on(path), draft_file(path) as draft:
        yield draft


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty hidden folder beside `folder`, which it replaces when the block ends, and which vanishes on failure.

    Raises:
        OSError: it cannot be written, with the path and the reason.
    """
    with _blamed_on(folder), draft_folder(folder) as draft:
        yield draft


@contextmanager
def draft_file(path: str | Path) -> Iterator[Path]:
    """As `whole_file`; errors pass as they are, for those who say more about them."""
    path, draft = Path(path), None
    try:
        _make(path.parent)
        draft = _hidden(path)
        draft.touch(exist_ok=False)
        yield draft
        draft.replace(path)
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(folder: str | Path, draft: Path | None = None) -> Iterator[Path]:
    """As `whole_folder`; errors pass as they are, for those who say more about them.

    Args:
        folder: what the draft becomes.
        draft: where it is until then, on the same disk; a hidden name beside `folder` if it is not given.
    """
    folder = Path(folder)
    try:
        _make(folder.parent)
        draft = draft or _hidden(folder)
        draft.mkdir()
        yield draft
        _replace(folder, draft)
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _make(parent: Path) -> None:
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent)) from error


def _replace(folder: Path, draft: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    earlier = _hidden(folder)
    folder.rename(earlier)
    try:
        draft.rename(folder)
    except OSError:
        earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)  # the result stands, whatever becomes of this


def _hidden(path: Path) -> Path:
    """A free name beside `path`, for what takes its place later or leaves it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


@contextmanager
def _blamed_on(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}.") from error


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text file in UTF-8, whole or not at all; folders are made.

    Raises:
        OSError: it cannot be written, with the path and the reason.
    """
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(path: str | Path, content: Any, **options: Any) -> Path:
    """Writes a JSON file, whole or not at all; folders are made. `options` are those of `json.dumps`.

    Raises:
        OSError: it cannot be written, with the path and the reason.
        ValueError: a number is not finite.
    """
    options = {"indent": 2, "ensure_ascii": False, "allow_nan": False, **options}
    return write_text(path, json.dumps(content, **options) + "\n")


def read_json(path: str | Path, kind: type | None = None) -> Any:
    """Content of a JSON file.

    Args:
        path: the file.
        kind: dict or list, if it must hold one.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no JSON, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is truncated or no JSON file.") from None
    if kind is not None and not isinstance(content, kind):
        raise ValueError(f"{path} must hold a JSON {'object' if kind is dict else 'list'}.")
    return content


def sha256(path: str | Path) -> str:
    """sha256 of a file, or of a folder's files with their names, as 64 hexadecimal digits."""
    path = Path(path)
    if not path.is_file():
        return digest_of(path, (file for file in path.rglob("*") if file.is_file()))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(folder: Path, files: Iterable[Path]) -> str:
    """One sha256 over files of a folder and their names, in the order of their paths."""
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
