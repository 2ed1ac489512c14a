"""The picture of a picture model: one picture of every colour and shape, held-out pairs framed."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...pipelines.files import whole_file
from ...training.datasets.pocketworld.scene import ALL_PAIRS, COLORS, HELD_OUT_PAIRS, SHAPES
from ..scores.naming import Pair

_PAPER, _INK, _FRAME, _WRONG = (250, 250, 248), (32, 32, 36), (230, 120, 20), (190, 30, 30)
_GAP, _LABEL, _LINE, _FONT_SIZE, _FRAME_WIDTH = 14, 76, 20, 15, 4


def draw_pair_sheet(
    path: Path,
    pictures: Sequence[Float[Tensor, "3 height width"] | Image.Image],
    named: Sequence[Pair],
    framed: Collection[Pair] = HELD_OUT_PAIRS,
) -> None:
    """Writes `pair_sheet` as PNG, whole or not at all; pictures and names in the order of `ALL_PAIRS`.

    Raises:
        OSError: it cannot be written.
    """
    sheet = pair_sheet(dict(zip(ALL_PAIRS, pictures, strict=True)), dict(zip(ALL_PAIRS, named, strict=True)), framed)
    with whole_file(path) as draft:
        sheet.save(draft, format="PNG")


def pair_sheet(
    pictures: Mapping[Pair, Float[Tensor, "3 height width"] | Image.Image],
    named: Mapping[Pair, Pair],
    framed: Collection[Pair] = HELD_OUT_PAIRS,
    cell: int = 128,
) -> Image.Image:
    """Draws pictures in a table, a row for each colour and a column for each shape.

    Args:
        pictures: of every (color, shape); tensors in [0, 1].
        named: what the judge took each picture for; written below it where that is wrong.
        framed: pairs that get a frame.
        cell: side of a picture on the sheet, in pixels.

    Raises:
        ValueError: when a pair has no picture or no name.
    """
    for pair in ((color, shape) for color in COLORS for shape in SHAPES):
        if pair not in pictures or pair not in named:
            raise ValueError(f"the sheet lacks a picture or a name for {pair!r}; it needs every color and shape.")
    font = ImageFont.load_default(_FONT_SIZE)
    step_x, step_y = cell + _GAP, cell + _LINE + _GAP
    sheet = Image.new("RGB", (_LABEL + len(SHAPES) * step_x, 3 * _LINE + len(COLORS) * step_y), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, shape in enumerate(SHAPES):
        left = _LABEL + column * step_x
        draw.text((left + cell / 2, _LINE), shape, _INK, font, anchor="mm")
        for row, color in enumerate(COLORS):
            pair, top = (color, shape), 2 * _LINE + row * step_y
            if pair in framed:
                draw.rectangle(_around(left, top, cell), _FRAME)
            sheet.paste(_image(pictures[pair], cell), (left, top))
            if named[pair] != pair:
                below = (left + cell / 2, top + cell + _FRAME_WIDTH + _LINE / 2)
                draw.text(below, " ".join(named[pair]), _WRONG, font, anchor="mm")
    for row, color in enumerate(COLORS):
        draw.text((_LABEL - _GAP, 2 * _LINE + row * step_y + cell / 2), color, _INK, font, anchor="rm")
    legend = "framed: never seen by the UNet; red: what the judge took a picture for, where that is wrong"
    draw.text((_LABEL, sheet.height - _LINE / 2), legend, _INK, font, anchor="lm")
    return sheet


def _around(left: int, top: int, cell: int) -> tuple[int, int, int, int]:
    edge = _FRAME_WIDTH
    return left - edge, top - edge, left + cell + edge - 1, top + cell + edge - 1


def _image(picture: Tensor | Image.Image, cell: int) -> Image.Image:
    if isinstance(picture, Tensor):
        pixels = (picture.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        picture = Image.fromarray(pixels.cpu().numpy())
    return picture.resize((cell, cell), Image.Resampling.BICUBIC)
