"""Drawn digits in the form of the UCI data: paper and ink either way round, full height, heavy strokes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pocket_diffusers.pipelines.recognition.drawn_digit import INK_SHARE, read_digit


def drawing(width: int = 280, pen: int = 12, ink="black", paper="white", mode: str = "RGB") -> Image.Image:
    """A seven."""
    picture = Image.new(mode, (width, width), paper)
    points = [(x * width / 280, y * width / 280) for x, y in ((90, 60), (190, 60), (130, 220))]
    ImageDraw.Draw(picture).line(points, fill=ink, width=pen)
    return picture


def values(picture: Image.Image) -> np.ndarray:
    return np.asarray(read_digit(picture), int)


def test_seven_has_a_bar_above_and_a_slanted_leg():
    seven = values(drawing())
    assert seven.shape == (8, 8)
    assert seven[0, 2:6].min() > 128, "no bar"
    assert seven[7].argmax() < seven[2, 2:].argmax() + 2, "the leg does not lean"
    assert seven[3:, 0].max() < 128 and seven[4:, 7].max() == 0


@pytest.mark.parametrize(("ink", "paper"), [("white", "black"), ("navy", "#fff2c0"), ("#999999", "#cccccc")])
def test_ink_is_what_differs_from_the_paper(ink, paper):
    assert np.abs(values(drawing(ink=ink, paper=paper)) - values(drawing())).max() <= 1


def test_transparent_parts_are_paper():
    clear = drawing(paper=(0, 0, 0, 0), ink=(0, 0, 0, 255), mode="RGBA")
    assert values(clear).tolist() == values(drawing()).tolist()


@pytest.mark.parametrize("pen", [3, 8, 20])
def test_strokes_get_the_weight_of_the_data(pen):
    assert INK_SHARE <= values(drawing(pen=pen)).mean() / 255 <= 0.42


def test_size_and_place_do_not_matter():
    small = Image.new("RGB", (600, 400), "white")
    small.paste(drawing(140, pen=6), (400, 50))
    assert np.abs(values(small) - values(drawing())).mean() < 20


def test_full_height():
    seven = values(drawing())
    assert seven[0].max() > 128 and seven[7].max() > 128


def test_digits_of_the_data_stay_themselves():
    datasets = pytest.importorskip("sklearn.datasets", reason="needs the extra 'eval'")
    pictures = datasets.load_digits().images[:100]
    for digit in pictures:
        large = Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((96, 96), Image.Resampling.NEAREST)
        known, seen = digit.ravel() - digit.mean(), values(large).ravel() - values(large).mean()
        assert known @ seen > 0.6 * np.linalg.norm(known) * np.linalg.norm(seen)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_one_shade_is_no_digit(mode):
    with pytest.raises(ValueError, match="no digit to be seen: all of the picture has one shade"):
        read_digit(Image.new(mode, (50, 40)))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_any_spots_make_a_picture(width, height, seed):
    spots = np.random.default_rng(seed).random((height, width)) > 0.8
    spots.flat[0] = not spots.flat[-1]
    picture = Image.fromarray(np.uint8(255) * spots)
    if spots.all() or not spots.any():
        return
    assert read_digit(picture).size == (8, 8)
