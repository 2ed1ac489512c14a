"""Files of Gaussian splats: one format a module, each with `read`, and `write` where it is written.

`read_splats` and `write_splats` choose the module by the name of the file. Writers write in place: who wants the file
whole or not at all gives them a draft and its `suffix`.
"""

import os
from pathlib import Path
from typing import Any

from ..gaussians import Gaussians
from . import compressed_ply, ply, sog, splat, splatz, spz, streamed_sog
from .ply_header import read_header
from .source import opened

READ = (".ply", ".compressed.ply", ".spz", ".splatz", ".splat", ".sog", sog.META, streamed_sog.META)
SOG_META = sog.META
WRITERS = {
    ".ply": ply.write,
    ".compressed.ply": compressed_ply.write,
    ".spz": spz.write,
    ".splatz": splatz.write,
    ".sog": sog.write,
    sog.META: sog.write,
}


def read_splats(path: str | os.PathLike, level: int = 0) -> Gaussians:
    """Gaussians of a file of any format that is read, with the values and axes of a 3DGS PLY.

    Args:
        path: a file that ends in .ply (3DGS or compressed), .spz, .splatz, .splat or .sog, a meta.json or lod-meta.json
            beside its pictures, or the folder of one of these two.
        level: of detail, 0 for the finest; another needs lod-meta.json.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is of another format, has no such level, is truncated or damaged, or holds a value that is not
            finite.
    """
    path = Path(path)
    if path.is_dir():
        metas = [name for name in (streamed_sog.META, sog.META) if (path / name).is_file()]
        if not metas:
            raise ValueError(
                f"{path} must be a file, or a folder with {streamed_sog.META} or {sog.META}, but has neither."
            )
        path /= metas[0]
    if path.name == streamed_sog.META:
        return streamed_sog.read(path, level)
    if level:
        raise ValueError(
            f"level must be 0, not {level}: {path} has one level of detail, for it is no {streamed_sog.META}."
        )
    match suffix_of(path):
        case ".ply" | ".compressed.ply":
            with opened(path) as file:
                elements = read_header(file)
                return (compressed_ply if "chunk" in elements else ply).decode(file, elements)
        case ".spz":
            return spz.read(path)
        case ".splatz":
            return splatz.read(path)
        case ".splat":
            return splat.read(path)
        case ".sog" | sog.META:
            return sog.read(path)
    raise ValueError(f"{path} must be a file that is read, {', '.join(READ)}: {_kind(suffix_of(path))} is not.")


def write_splats(gaussians: Gaussians, path: str | os.PathLike, suffix: str | None = None, **options: Any) -> None:
    """Writes a file of the format that its name says.

    Args:
        gaussians: at least one.
        path: of the file, or of a folder where the suffix is meta.json, written in place.
        suffix: one of WRITERS, where the name of `path` does not end in it.
        options: those of the module's `write`.

    Raises:
        OSError: it cannot be written.
        ValueError: the format is not written, there is no Gaussian, or one holds what is not finite.
    """
    suffix = suffix or suffix_of(path)
    check_writable(path, suffix)
    WRITERS[suffix](gaussians, path, **options)


def check_writable(path: str | os.PathLike, suffix: str | None = None) -> None:
    """Refuses a name whose format is not written.

    Raises:
        ValueError: naming the formats that are.
    """
    suffix = suffix or suffix_of(path)
    if suffix not in WRITERS:
        raise ValueError(f"{path} must be a file that is written, {', '.join(WRITERS)}: {_kind(suffix)} is not.")


def suffix_of(path: str | os.PathLike) -> str:
    """The end of a file's name that says its format, such as .ply, .compressed.ply or meta.json; lower case."""
    name = Path(path).name.lower()
    if name in (sog.META, streamed_sog.META):
        return name
    return ".compressed.ply" if name.endswith(".compressed.ply") else Path(name).suffix


def _kind(suffix: str) -> str:
    return suffix or "a name without an ending"
