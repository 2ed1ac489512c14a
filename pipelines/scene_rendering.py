"""`pocket render`: pictures of a scene, whether it is of splats or a light field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from . import pipeline_class
from .inputs import check_count
from .picture_series import save_series
from .scene_cameras import Cameras
from .scene_files import scene_pipeline, scene_slug
from .splat_rendering import render_splats

SPLAT_OPTIONS = {"size": (512, 512), "background": "black", "level": 0}
"""Options of `render_splats` that hold where no others are given."""


@dataclass(frozen=True)
class Rendered:
    """What was drawn.

    Attributes:
        scene: in words.
        options: by which it was drawn.
    """

    scene: str
    options: dict[str, Any]


def render_scene(
    source: Path,
    folder: Path,
    read_cameras: Callable[[int | None], Cameras] | None = None,
    frames: int = 36,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda more: None,
) -> Rendered:
    """Renders splats or a light field into a folder, as `save_series` writes pictures.

    Args:
        source: as `render_splats` takes it; or a folder with a pipeline that has a `view_range`, saved or exported.
        folder: an empty one.
        read_cameras: of the capture from whose cameras it is shown: given the largest side of a picture in pixels, or
            None for the capture's own. A circle around splats, or a path through the light field's range, if it is not
            given.
        frames: pictures of the circle or path.
        options: others of `render_splats`; a light field takes none.
        progress: called with 1 after each picture.

    Raises:
        FileNotFoundError: the source is missing.
        ValueError: the source or an argument is not as it must be.
    """
    options = options or {}
    field = _light_field(source)
    if field is None:
        options = {**SPLAT_OPTIONS, **options}
        cameras = None if read_cameras is None else read_cameras(None)
        count = render_splats(source, folder, cameras, frames, **options, progress=progress)
        return Rendered(f"{count:,} Gaussians", options)
    for option in options:
        raise ValueError(f"--{option} is for splats, and {source} is a light field: it is shown as it was fitted.")
    render_light_field(field, folder, read_cameras, frames, progress)
    return Rendered("a light field", {})


def render_light_field(
    field: DiffusionPipeline,
    folder: Path,
    read_cameras: Callable[[int | None], Cameras] | None = None,
    frames: int = 36,
    progress: Callable[[float], None] = lambda more: None,
) -> None:
    """Renders a light field, as `render_scene` does.

    Raises:
        ValueError: an argument is not as it must be, or cameras that the pipeline refuses.
    """
    seen = field.view_range
    check_count("frames", frames)
    if read_cameras is not None:
        cameras = read_cameras(None) if seen is None else seen.alike(read_cameras(max(seen.width, seen.height)))
    else:
        cameras = None if seen is None else seen.path(frames)
    field.check_inputs(cameras, "pil")
    each = (cameras.select([index]) for index in range(len(cameras)))
    save_series((field(camera).images[0] for camera in each), folder, progress)


def _light_field(source: Path) -> DiffusionPipeline | None:
    """The pipeline of a folder that holds a light field; None for all else."""
    slug = scene_slug(source)
    if slug is None or not hasattr(pipeline_class(slug), "view_range"):
        return None
    return scene_pipeline(source, slug)
