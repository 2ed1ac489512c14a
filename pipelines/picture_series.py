"""Pictures of one scene from many cameras as files: each by itself, all of them moving, and some on a sheet."""

from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from .contact_sheet import contact_sheet

FRAME_MILLISECONDS = 66
SHEET_FRAMES = 8


def save_series(
    pictures: Iterable[Image.Image], folder: Path, progress: Callable[[float], None] = lambda more: None
) -> None:
    """Writes `frame_0000.png` and so on, `turntable.webp`, which plays them without end, and `sheet.png`.

    Args:
        pictures: one or more of one size, drawn as they are taken.
        folder: an empty one.
        progress: called with 1 after each picture.
    """
    drawn = []
    for index, picture in enumerate(pictures):
        drawn.append(picture)
        picture.save(folder / f"frame_{index:04d}.png")
        progress(1)
    first, *rest = drawn
    first.save(folder / "turntable.webp", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    shown = drawn[:: max(1, len(drawn) // SHEET_FRAMES)][:SHEET_FRAMES]
    contact_sheet(shown, [""] * len(shown)).save(folder / "sheet.png")
