"""Pictures of a file of Gaussian splats, from cameras on a circle or from those of a capture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import ImageColor
from torch import Tensor

from .inputs import check_count, check_number, require
from .picture_series import save_series
from .scene_cameras import Cameras, turntable
from .splat_conversion import read_scene


def render_splats(
    source: str | Path,
    folder: Path,
    cameras: Cameras | None = None,
    frames: int = 36,
    size: tuple[int, int] = (512, 512),
    elevation: float | None = None,
    up: str | None = None,
    background: str = "black",
    level: int = 0,
    progress: Callable[[float], None] = lambda more: None,
) -> int:
    """Renders a file into a folder, as `save_series` writes pictures.

    Args:
        source: as `read_source` takes it.
        folder: an empty one.
        cameras: from where; if left out, a circle: the scene's own where it has one, else around all of it.
        frames, size: of the circle: pictures, and width and height in pixels.
        elevation, up: of the circle, in degrees and as an axis, where they shall be others than its own.
        background: a colour by its name or as #rrggbb.
        level: of detail of a streamed scene, 0 for the finest.
        progress: called with 1 after each picture.

    Returns:
        the number of Gaussians.

    Raises:
        FileNotFoundError: the source is missing.
        ValueError: the source or an argument is not as it must be.
    """
    colour = background_color(background)
    width, height = (check_count(name, side) for name, side in zip(("width", "height"), size, strict=True))
    check_count("frames", frames)
    given = {"elevation": elevation, "up": up}
    changes = {name: value for name, value in given.items() if value is not None}
    if elevation is not None:
        check_number("elevation", elevation, -89, 89)
    scene = read_scene(source, level)
    gaussians = scene.gaussians
    if cameras is None and scene.circle is None:
        cameras = turntable(gaussians, frames, width, height, **changes)
    elif cameras is None:
        cameras = replace(scene.circle, **changes).cameras(frames, width, height)
    save_series((cameras.picture(gaussians, index, colour) for index in range(len(cameras))), folder, progress)
    return len(gaussians)


def background_color(name: str) -> Float[Tensor, "3"]:
    """Red, green and blue in [0, 1] of a colour's name, or of #rrggbb.

    Raises:
        ValueError: it is neither.
    """
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        require(False, "background", name, "the name of a colour, or #rrggbb")
    return torch.tensor([red, green, blue]) / 255
