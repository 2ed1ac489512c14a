"""The captioned sheet: every picture is where it belongs, whatever its size."""

import numpy as np
import pytest
from PIL import Image

from pocket_diffusers.pipelines.contact_sheet import contact_sheet

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]


def test_every_picture_is_drawn_whole_and_in_order():
    images = [Image.new("RGB", (16, 16), colour) for colour in COLOURS]
    sheet = np.asarray(contact_sheet(images, ["a"] * 5, columns=2, cell=40))
    centres = []
    for colour in COLOURS:
        rows, columns = np.nonzero((sheet == colour).all(-1))
        assert len(rows) == 40 * 40
        centres.append((rows.mean(), columns.mean()))
    assert centres == sorted(centres), "left to right, then top to bottom"
    assert len({column for _, column in centres}) == 2


def test_a_wide_picture_keeps_its_aspect_ratio():
    sheet = np.asarray(contact_sheet([Image.new("RGB", (64, 16), (255, 0, 0))], ["wide"], cell=80))
    rows, columns = np.nonzero((sheet == (255, 0, 0)).all(-1))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 80)


def test_long_captions_are_wrapped_below_their_picture():
    image = Image.new("RGB", (8, 8), (255, 255, 255))
    short = contact_sheet([image], ["cube"], cell=100)
    long = contact_sheet([image], ["a red cube to the left of a blue sphere above a green cone"], cell=100)
    assert long.width == short.width and long.height > short.height
    ink = np.asarray(long.convert("L")) < 128
    assert ink.sum() > 5 * (np.asarray(short.convert("L")) < 128).sum() > 0
    assert not ink[:, -12:].any(), "no letter runs into the margin"


@pytest.mark.parametrize(
    ("images", "captions", "options"),
    [(0, [], {}), (1, [], {}), (1, ["a", "b"], {}), (1, ["a"], {"columns": 0}), (1, ["a"], {"cell": 0})],
)
def test_sheets_that_cannot_be_made(images, captions, options):
    with pytest.raises(ValueError, match="caption|at least 1"):
        contact_sheet([Image.new("RGB", (8, 8))] * images, captions, **options)
