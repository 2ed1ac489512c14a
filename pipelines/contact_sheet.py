"""Many captioned pictures on one."""

from collections.abc import Sequence
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from .recognition.picture_input import rgb_picture

_PAPER, _INK = (250, 250, 248), (32, 32, 36)
_MARGIN, _FONT_SIZE, _LINE_HEIGHT = 12, 15, 20


def contact_sheet(
    images: Sequence[Image.Image], captions: Sequence[str], columns: int = 4, cell: int = 240
) -> Image.Image:
    """Draws `images` in rows, each with its caption below.

    Args:
        images: pictures of any size; each is scaled to fit a square and keeps its aspect ratio.
        captions: one text a picture, wrapped to its width.
        columns: pictures a row, at least 1; fewer are used where there are fewer pictures.
        cell: side of a picture's square, in pixels.

    Raises:
        ValueError: for no pictures, a caption too many or too few, or a number below 1.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"a sheet takes one caption a picture: there are {len(images)} and {len(captions)}.")
    if columns < 1 or cell < 1:
        raise ValueError(f"columns and cell must be at least 1: they are {columns} and {cell}.")
    font = ImageFont.load_default(_FONT_SIZE)
    letters = max(8, int(cell / font.getlength("n")))
    lines = [wrap(caption, letters) for caption in captions]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    caption_height = _LINE_HEIGHT * max(map(len, lines))
    step_x, step_y = cell + _MARGIN, cell + caption_height + 2 * _MARGIN
    sheet = Image.new("RGB", (columns * step_x + _MARGIN, rows * step_y + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption_lines) in enumerate(zip(images, lines, strict=True)):
        left, top = _MARGIN + index % columns * step_x, _MARGIN + index // columns * step_y
        sheet.paste(_fitted(image, cell), (left, top))
        text_top = top + cell + _MARGIN // 2
        draw.multiline_text((left, text_top), "\n".join(caption_lines), _INK, font, spacing=_LINE_HEIGHT - _FONT_SIZE)
    return sheet


def _fitted(image: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    picture = Image.new("RGB", (cell, cell), _PAPER)
    offset = tuple((cell - side) // 2 for side in size)
    picture.paste(rgb_picture(image).resize(size, Image.Resampling.BICUBIC), offset)
    return picture
