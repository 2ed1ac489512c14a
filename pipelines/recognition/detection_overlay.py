"""Detections drawn on their picture, for people to look at: masks, boxes and names."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..outputs import Detections
from .picture_input import rgb_picture

MASK_SHARE, OUTLINE_SHARE = 0.12, 0.9
"""Part of a pixel inside a mask, and on its outline, that is the mask's colour: what lies below keeps its own."""
_OUTLINE = 5  # pixels of the filter that leaves an outline of two
SMALLEST_SIDE = 384
"""Pixels of the longer side, up to which small pictures are enlarged so that names can be read."""

_GOLDEN = 0.618034
_DARK, _LIGHT = (20, 20, 24), (255, 255, 255)


def draw_detections(
    picture: Image.Image, detections: Detections, smallest_side: int = SMALLEST_SIDE, scores: bool = True
) -> Image.Image:
    """Draws what was found on a copy of a picture.

    Each object has a hue of its own, whatever its colour, so that neighbours can be told apart. The best object is
    drawn last and so lies on top.

    Args:
        picture: of any mode; transparent parts become white.
        detections: in the picture's own pixels.
        smallest_side: a picture whose longer side is shorter is enlarged by a whole number to at least this many
            pixels; 1 draws at the picture's own size.
        scores: write scores behind the names.

    Returns:
        An RGB picture, `enlargement(picture.size, smallest_side)` times as large.

    Raises:
        ValueError: for masks of another size than the picture's, or a `smallest_side` below 1.
    """
    picture = rgb_picture(picture)
    scale = enlargement(picture.size, smallest_side)
    _check_masks(picture, detections)
    drawn = picture.resize([scale * side for side in picture.size], Image.Resampling.BICUBIC)
    order = sorted(range(len(detections)), key=lambda index: detections.scores[index])
    for index in order:
        if detections.masks is not None:
            _tint(drawn, detections.masks[index].decode(), object_color(index))
    draw = ImageDraw.Draw(drawn)
    line = max(2, max(drawn.size) // 192)
    for index in order:
        left, top, right, bottom = (scale * side for side in detections.boxes[index])
        box = (left, top, max(left, right - 1), max(top, bottom - 1))
        draw.rectangle(box, outline=_DARK, width=line + 1)
        draw.rectangle(box, outline=object_color(index), width=line)
    for index in order:
        _write_name(draw, drawn.size, scale, detections, index, scores)
    return drawn


def enlargement(size: tuple[int, int], smallest_side: int = SMALLEST_SIDE) -> int:
    """How many times larger a picture of `size` is drawn.

    Raises:
        ValueError: for a `smallest_side` below 1.
    """
    if smallest_side < 1:
        raise ValueError(f"smallest_side must be at least 1, not {smallest_side}.")
    return -(-smallest_side // max(1, *size))


def object_name(detections: Detections, index: int) -> str:
    """Such as "red cube", or "cube" where no colour was read."""
    color = None if detections.colors is None else detections.colors[index]
    return detections.labels[index] if color is None else f"{color} {detections.labels[index]}"


def object_color(index: int) -> tuple[int, int, int]:
    """RGB of the object's mask, box and name: neighbouring numbers get hues far apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.53 + index * _GOLDEN) % 1, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _check_masks(picture: Image.Image, detections: Detections) -> None:
    for mask in detections.masks or ():
        if (mask.width, mask.height) != picture.size:
            raise ValueError(
                f"masks are {mask.height} x {mask.width} pixels (height x width), but the picture is "
                f"{picture.height} x {picture.width}."
            )


def _tint(drawn: Image.Image, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    shape = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(drawn.size, Image.Resampling.NEAREST)
    inside = np.asarray(shape.filter(ImageFilter.MinFilter(_OUTLINE))) > 0
    share = np.where(inside, MASK_SHARE, OUTLINE_SHARE) * (np.asarray(shape) > 0)
    drawn.paste(color, (0, 0), Image.fromarray(np.round(255 * share).astype(np.uint8)))


def _write_name(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], scale: int, detections: Detections, index: int, scores: bool
) -> None:
    """A name tag above its box, or inside where there is no room, never beyond the picture."""
    text = object_name(detections, index) + (f" {detections.scores[index]:.2f}" if scores else "")
    font = ImageFont.load_default(max(11, max(size) // 30))
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    width, height = right - left + 6, bottom - top + 6
    box_left, box_top = (scale * side for side in detections.boxes[index][:2])
    x = min(max(0, box_left), max(0, size[0] - width))
    y = box_top - height if box_top >= height else min(max(0, box_top), max(0, size[1] - height))
    color = object_color(index)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    luma = (299 * color[0] + 587 * color[1] + 114 * color[2]) / 1000
    draw.text((x + 3 - left, y + 3 - top), text, _DARK if luma > 110 else _LIGHT, font)
