"""Splat scenes saved whole or not at all, and `pocket convert`: from any format that is read to any that is written."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..hub_models.rendering.gaussians import Gaussians
from ..hub_models.rendering.spherical_harmonics import MAX_DEGREE
from ..hub_models.rendering.splat_files import SOG_META, check_writable, read_splats, suffix_of, write_splats
from .files import whole_file, whole_folder
from .inputs import require
from .scene_files import UnpackedScene, unpacked_scene


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        gaussians: written.
        sh_degree: of what was written, 0 to 3.
        bytes_before: of the source; of the whole folder, where that is one.
        bytes_after: of the target.
    """

    gaussians: int
    sh_degree: int
    bytes_before: int
    bytes_after: int


def convert_splats(
    source: str | Path,
    target: str | Path,
    level: int = 0,
    sh_degree: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Conversion:
    """Reads a scene and saves it in the format that the target's name says.

    Args:
        source: as `read_source` takes it.
        target: as `write_splats` takes it.
        level: of detail, 0 for the finest; another needs a streamed SOG.
        sh_degree: the highest degree of spherical harmonics to keep, 0 to 3; all if None.
        overwrite: whether an earlier target may be replaced.
        options: of the target's format, as `write_splats` takes them.

    Raises:
        FileNotFoundError: there is no source.
        FileExistsError: there is a target, and it is not to be replaced.
        OSError: the target cannot be written.
        ValueError: an argument or the source is not as it must be.
    """
    check_target(target, overwrite)
    gaussians = read_source(source, level, sh_degree)
    before = num_bytes(source)
    save_splats(gaussians, target, overwrite, **options)
    return Conversion(len(gaussians), gaussians.sh_degree, before, num_bytes(target))


def read_source(source: str | Path, level: int = 0, sh_degree: int | None = None) -> Gaussians:
    """As `read_scene`, the Gaussians alone."""
    return read_scene(source, level, sh_degree).gaussians


def read_scene(source: str | Path, level: int = 0, sh_degree: int | None = None) -> UnpackedScene:
    """Plain Gaussians of anything that holds some, without spherical harmonics above `sh_degree`.

    Args:
        source: as `read_splats` takes it; or the scene of a method, as a file such as scene.lpgs or as a folder that
            its pipeline saved or `pocket export` wrote.
        level: of detail, 0 for the finest; another needs a streamed SOG.
        sh_degree: the highest degree to keep, 0 to 3; all if None.

    Raises:
        FileNotFoundError: there is no source.
        ValueError: an argument or the source is not as it must be.
    """
    allowed = f"a whole number from 0 to {MAX_DEGREE}"
    require(sh_degree is None or sh_degree in range(MAX_DEGREE + 1), "sh_degree", sh_degree, allowed)
    scene = unpacked_scene(Path(source))
    if scene is not None and level:
        raise ValueError(f"level must be 0, not {level}: {source} has one level of detail.")
    scene = scene or UnpackedScene(read_splats(source, level), None)
    if sh_degree is None or sh_degree >= scene.gaussians.sh_degree:
        return scene
    return replace(scene, gaussians=scene.gaussians.with_sh_degree(sh_degree))


def save_splats(gaussians: Gaussians, target: str | Path, overwrite: bool = False, **options: Any) -> None:
    """As `write_splats`, but the target appears whole or not at all.

    Raises:
        FileExistsError: there is a target, and it is not to be replaced.
        OSError: it cannot be written.
        ValueError: the format is not written, or an option or a value is not as it must be.
    """
    target = Path(target)
    check_target(target, overwrite)
    if suffix_of(target) == SOG_META:
        with whole_folder(target.absolute().parent) as draft:
            write_splats(gaussians, draft / SOG_META, **options)
    else:
        with whole_file(target) as draft:
            write_splats(gaussians, draft, suffix_of(target), **options)


def check_target(target: str | Path, overwrite: bool) -> None:
    """Refuses what must not be written, before any work is done for it.

    Raises:
        FileExistsError: there is a target, and it is not to be replaced.
        ValueError: the format is not written.
    """
    target = Path(target)
    check_writable(target)
    if suffix_of(target) == SOG_META:
        folder = target.absolute().parent
        others = [path.name for path in folder.iterdir() if not _is_of_sog(path)] if folder.is_dir() else []
        if others:
            raise FileExistsError(
                f"{folder} holds {others[0]}, which is no part of a SOG scene: choose a folder of its own."
            )
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already: choose another name, or add --overwrite to replace it.")
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder, which is never replaced by a file.")


def _is_of_sog(path: Path) -> bool:
    return path.is_file() and (path.name == SOG_META or path.suffix == ".webp")


def num_bytes(path: str | Path) -> int:
    """Of a file, or of all files of a folder, which a JSON file stands for too."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent if path.suffix == ".json" else None
    return path.stat().st_size if folder is None else sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
