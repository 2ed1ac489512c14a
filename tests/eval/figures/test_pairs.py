import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.figures.pairs import draw_pair_sheet, pair_sheet
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS, COLORS, HELD_OUT_PAIRS, SHAPES


def inks() -> dict:
    """A color of its own for every pair."""
    return {pair: (4 * number, 255 - 5 * number, 10) for number, pair in enumerate(ALL_PAIRS)}


def pictures() -> dict:
    return {pair: (torch.tensor(ink) / 255).view(3, 1, 1).expand(3, 8, 8) for pair, ink in inks().items()}


def places(sheet) -> dict:
    """Left, top, right, bottom of each pair's picture, found by its color."""
    found = {}
    for pair, ink in inks().items():
        rows, columns = np.nonzero((np.asarray(sheet) == ink).all(axis=-1))
        found[pair] = (columns.min(), rows.min(), columns.max(), rows.max())
    return found


def test_a_row_for_each_color_and_a_column_for_each_shape():
    boxes = places(pair_sheet(pictures(), {pair: pair for pair in ALL_PAIRS}, cell=24))
    lefts = [boxes[next(iter(COLORS)), shape][0] for shape in SHAPES]
    tops = [boxes[color, SHAPES[0]][1] for color in COLORS]
    assert lefts == sorted(set(lefts)) and tops == sorted(set(tops))
    for (color, shape), (left, top, right, bottom) in boxes.items():
        assert left == lefts[SHAPES.index(shape)] and top == tops[list(COLORS).index(color)]
        assert (right - left + 1, bottom - top + 1) == (24, 24)


def test_held_out_pairs_are_framed_and_only_they():
    sheet = pair_sheet(pictures(), {pair: pair for pair in ALL_PAIRS}, cell=24)
    pixels, paper = np.asarray(sheet), np.asarray(sheet)[0, 0]
    for pair, (left, top, right, bottom) in places(sheet).items():
        around = [pixels[top - 2, left - 2], pixels[bottom + 2, right + 2]]
        assert all((pixel != paper).any() for pixel in around) == (pair in HELD_OUT_PAIRS)


def test_what_the_judge_got_wrong_is_written_below():
    right = {pair: pair for pair in ALL_PAIRS}
    wrong = right | {("blue", "cone"): ("purple", "cone")}
    one, other = (np.asarray(pair_sheet(pictures(), named, cell=64)).astype(int) for named in (right, wrong))
    rows, columns = np.nonzero((one != other).any(axis=-1))
    left, _, right_edge, bottom = places(pair_sheet(pictures(), wrong, cell=64))["blue", "cone"]
    assert rows.min() > bottom and rows.max() < bottom + 30
    assert columns.min() > left - 32 and columns.max() < right_edge + 32


def test_a_pair_without_picture_is_refused():
    some = pictures()
    del some["red", "cube"]
    with pytest.raises(ValueError, match=r"lacks a picture or a name for \('red', 'cube'\)"):
        pair_sheet(some, {pair: pair for pair in ALL_PAIRS})


def test_the_sheet_is_written_in_the_order_of_the_pairs(tmp_path):
    sheet, ordered = pair_sheet(pictures(), {pair: pair for pair in ALL_PAIRS}), list(pictures().values())
    images = [Image.new("RGB", (8, 8), ink) for ink in inks().values()]
    for kind in (torch.stack(ordered), images):
        draw_pair_sheet(tmp_path / "new" / "sheet.png", kind, ALL_PAIRS)
        with Image.open(tmp_path / "new" / "sheet.png") as drawn:
            assert drawn.tobytes() == sheet.tobytes()
    with pytest.raises(ValueError, match="shorter"):
        draw_pair_sheet(tmp_path / "new" / "sheet.png", images[:3], ALL_PAIRS)
