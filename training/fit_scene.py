"""`pocket fit`: one scene, from a file of splats or from photographs with their cameras."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import unknown_name
from ..hub_models.rendering.splat_files import READ, suffix_of
from ..pipelines import fitting
from ..pipelines.scene_cameras import Cameras
from .datasets.posed_captures import read_captures

SPLAT_FOLDERS = ("meta.json", "lod-meta.json")


def fit_scene(
    slug: str,
    source: Path,
    output: Path,
    wishes: dict[str, Any],
    size: int,
    capture: Path | None,
    up: str,
    level: int,
    resume: bool,
) -> Any:
    """The report of a method's fit.

    Args:
        slug: of a method with a file `pipelines/fitting/scene_folder_<slug>.py`, which has `settings(**wishes)`,
            `fit_splat_file` and `fit_pictures`.
        source: a file or folder of splats, or a capture.
        output: folder of the result.
        wishes: arguments of the method's settings.
        size: longest side of a view, in pixels.
        capture: from whose cameras splats are looked at.
        up, level, resume: as the method's functions take them.

    Raises:
        FileNotFoundError: there is no source.
        ValueError: an unknown method, or a source or wish that is not as it must be.
    """
    method = _method(slug)
    how = method.settings(**wishes)
    if _holds_splats(source):
        cameras = None if capture is None else cameras_of(capture, size)
        return method.fit_splat_file(source, output, how, size, cameras, up, level, resume)
    seen, held_out = (read_captures(source, max_side=size, split=split) for split in ("train", "test"))
    return method.fit_pictures(seen.posed, held_out.posed, seen.positions, output, how, resume)


def cameras_of(capture: Path, max_side: int | None = None) -> Cameras:
    """Those of a COLMAP folder or a transforms.json, for pictures of at most so many pixels a side."""
    posed = read_captures(capture, max_side).posed
    return Cameras(posed.viewmats, posed.Ks, posed.width, posed.height)


def _method(slug: str) -> ModuleType:
    files = Path(fitting.__file__).parent.glob("scene_folder_*.py")
    known = sorted(path.stem.removeprefix("scene_folder_") for path in files)
    if slug not in known:
        raise unknown_name("method that fits a scene", slug, known)
    return import_module(f"{fitting.__name__}.scene_folder_{slug}")


def _holds_splats(source: Path) -> bool:
    if source.is_dir():
        return any((source / name).is_file() for name in SPLAT_FOLDERS)
    return suffix_of(source) in READ
