"""Frames as files that play: GIF by Pillow, MP4 by ffmpeg where it is installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from .. import missing_package
from .files import whole_file

MP4_QUALITY = 7
"""Of 10, as imageio-ffmpeg counts it."""


def write_gif(path: str | Path, frames: UInt8[np.ndarray, "frames height width 3"], frames_per_second: float) -> Path:
    """Writes an endless GIF whose frames share 256 colours.

    A GIF counts time in hundredths of a second: 20 frames a second are exact.

    Raises:
        OSError: it cannot be written, with the path and the reason.
    """
    palette = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)])).quantize(256)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with whole_file(path) as draft:
        pictures[0].save(
            draft,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / frames_per_second),
            loop=0,
        )
    return Path(path)


def can_write_mp4() -> bool:
    """Whether imageio-ffmpeg is installed, which brings ffmpeg."""
    return find_spec("imageio_ffmpeg") is not None


def write_mp4(path: str | Path, frames: UInt8[np.ndarray, "frames height width 3"], frames_per_second: float) -> Path:
    """Writes an MP4 (H.264, 4:2:0) of frames with even sides.

    Raises:
        ImportError: imageio-ffmpeg is missing; names the extra that brings it.
        OSError: it cannot be written, with the path and the reason.
    """
    if not can_write_mp4():
        raise missing_package("an MP4", "imageio-ffmpeg", "train")
    from imageio_ffmpeg import write_frames

    height, width = frames.shape[1:3]
    with whole_file(path) as draft:
        writer = write_frames(
            str(draft),
            (width, height),
            fps=frames_per_second,
            codec="libx264",
            quality=MP4_QUALITY,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-f", "mp4"],
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
    return Path(path)
