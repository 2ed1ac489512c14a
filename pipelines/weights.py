"""The weights of a folder: the files that hold them, and one sha256 over all."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from .files import sha256


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a repository or of one model.

    Raises:
        FileNotFoundError: when there are none.
    """
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no safetensors weights.")
    return files


def weights_digest(folder: Path, files: Iterable[Path] | None = None) -> str:
    """One sha256 of all weights of a repository or of one model, whatever its other files say.

    Args:
        folder: what names of files are relative to.
        files: the weights that count; all of the folder if left out.

    Raises:
        FileNotFoundError: when there are none.
    """
    total = hashlib.sha256()
    for path in weight_files(folder) if files is None else sorted(files):
        total.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return total.hexdigest()


def part_digests(folder: Path) -> dict[str, str]:
    """`weights_digest` of each subfolder with weights, by its name; none for the folder of a single model."""
    parts = sorted({path.relative_to(folder).parts[0] for path in weight_files(folder) if path.parent != folder})
    return {part: weights_digest(folder / part) for part in parts}
