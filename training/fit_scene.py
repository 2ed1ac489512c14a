"""`pocket fit`: one scene, from a file of splats or from photographs with their cameras."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Protocol

from .. import unknown_name
from ..hub_models.rendering.splat_files import READ, suffix_of
from ..pipelines import fitting
from ..pipelines.inputs import Captures
from ..pipelines.result_folder import write_record
from ..pipelines.scene_cameras import Cameras
from .datasets.posed_captures import read_captures

SPLAT_FOLDERS = ("meta.json", "lod-meta.json")
SOURCES = {"SPLAT_OPTIONS": "a file of splats", "PICTURE_OPTIONS": "photographs with cameras"}
"""What a scene is fitted to, by the name under which a method keeps its options for that, if it takes it."""
LENS = ("field_of_view", "focus_distance")


class FitReport(Protocol):
    """What a method says of its fit; a dataclass."""

    def told(self, output: Path) -> str:
        """One line for who asked for the fit, and finds the result in `output`."""


def fit_scene(slug: str, source: Path, output: Path, wishes: Mapping[str, Any], resume: bool = True) -> FitReport:
    """Fits a method to a scene, and writes the result with `run.json` to a folder.

    Args:
        slug: of a method with a file `pipelines/fitting/scene_folder_<slug>.py`. It has `PICTURE_OPTIONS` and
            `pictures_to_folder`, or `SPLAT_OPTIONS` and `splats_to_folder`, or all of them.
        source: a file or folder of splats, or a capture as `read_captures` takes it.
        output: folder of the result.
        wishes: as `all_wishes` takes them.
        resume: whether to go on with what an earlier run left.

    Raises:
        FileNotFoundError: there is no source.
        ValueError: an unknown method, or a source or wish that is not as it must be.
        OSError: something cannot be read or written.
    """
    start = perf_counter()
    method, wishes = _method(slug), all_wishes(slug, source, wishes)
    if _holds_splats(source):
        cameras = None if wishes["cameras"] is None else cameras_of(wishes["cameras"], wishes["size"])
        report = method.splats_to_folder(source, cameras, output, wishes, resume)
    else:
        report = method.pictures_to_folder(*_parted(source, wishes), output, wishes, resume)
    named = {name: value.name if isinstance(value, Path) else value for name, value in wishes.items()}
    inputs = {"source": source.name, **named, "result": asdict(report)}
    write_record(output, f"pocket fit {slug}", inputs, wishes["seed"], perf_counter() - start)
    return report


def all_wishes(slug: str, source: Path, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options for a source, as wished or else as the method has them.

    Args:
        slug, source: as of `fit_scene`.
        wishes: options of `pocket fit`, with underscores.

    Raises:
        ValueError: an unknown method, or one that takes no such source or not all of these options.
    """
    kind = "SPLAT_OPTIONS" if _holds_splats(source) else "PICTURE_OPTIONS"
    known = _options(slug)
    if kind not in known:
        raise ValueError(f"{slug} is fitted to {_either(map(SOURCES.get, known))}, but {source} is {SOURCES[kind]}.")
    for name in wishes:
        if name not in known[kind]:
            raise ValueError(f"--{name.replace('_', '-')} is for {_owners(slug, name)}.")
    return {**known[kind], **wishes}


def _owners(slug: str, option: str) -> str:
    """Who knows an option: a source of this method, or else other methods."""
    sources = [SOURCES[kind] for kind, known in _options(slug).items() if option in known]
    methods = [other for other in _slugs() if any(option in known for known in _options(other).values())]
    return _either(sources or methods)


def _either(words: Iterable[str]) -> str:
    return " or ".join(words)


def cameras_of(capture: Path, max_side: int | None = None) -> Cameras:
    """Those of a capture as `read_captures` takes it, for pictures of at most so many pixels a side."""
    return Cameras.of_pictures(read_captures(capture, max_side).posed)


def _parted(source: Path, wishes: Mapping[str, Any]) -> tuple[Captures, Captures]:
    """What is learned from, and what is held out."""
    lens = {name: wishes[name] for name in LENS if name in wishes}
    seen, held_out = (read_captures(source, wishes["size"], split, **lens) for split in ("train", "test"))
    return seen, held_out


def _slugs() -> list[str]:
    files = Path(fitting.__file__).parent.glob("scene_folder_*.py")
    return sorted(path.stem.removeprefix("scene_folder_") for path in files)


def _method(slug: str) -> ModuleType:
    if slug not in _slugs():
        raise unknown_name("method that fits a scene", slug, _slugs())
    return import_module(f"{fitting.__name__}.scene_folder_{slug}")


def _options(slug: str) -> dict[str, dict[str, Any]]:
    """A method's options by the kind of source that it takes."""
    method = _method(slug)
    return {kind: getattr(method, kind) for kind in SOURCES if hasattr(method, kind)}


def _holds_splats(source: Path) -> bool:
    if source.is_dir():
        return any((source / name).is_file() for name in SPLAT_FOLDERS)
    return suffix_of(source) in READ
