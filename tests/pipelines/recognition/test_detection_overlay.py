"""Detections on their picture: what is tinted, what is left alone, and tags that stay inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pocket_diffusers.pipelines.outputs import Detections, MaskRLE
from pocket_diffusers.pipelines.recognition.detection_overlay import (
    MASK_SHARE,
    draw_detections,
    enlargement,
    object_color,
    object_name,
)

GREY = (100, 100, 100)


def square_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> MaskRLE:
    mask = np.zeros((size[1], size[0]), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return MaskRLE.encode(mask)


def found(size=(400, 300), box=(100, 100, 200, 180), colors=("red",)) -> Detections:
    return Detections(("cube",), (0.9,), (box,), (square_mask(size, box),), colors)


def test_mask_is_tinted_and_the_rest_left_alone():
    picture = Image.new("RGB", (400, 300), GREY)
    drawn = np.asarray(draw_detections(picture, found(), smallest_side=1), int)
    tint = [round(MASK_SHARE * new + (1 - MASK_SHARE) * old) for new, old in zip(object_color(0), GREY, strict=True)]
    assert drawn.shape == (300, 400, 3)
    assert np.abs(drawn[150, 150] - tint).max() <= 1
    assert drawn[150, 250].tolist() == list(GREY) and drawn[250, 150].tolist() == list(GREY)
    assert drawn[179, 150].tolist() != drawn[150, 150].tolist(), "the box has no lower edge"
    assert np.asarray(picture).min() == np.asarray(picture).max() == 100, "the picture itself was drawn on"


def test_name_stands_above_the_box():
    drawn = np.asarray(draw_detections(Image.new("RGB", (400, 300), GREY), found(), smallest_side=1))
    tag = drawn[80:100, 100:200].reshape(-1, 3).tolist()
    assert list(object_color(0)) in tag and [20, 20, 24] in tag


@pytest.mark.parametrize(
    ("size", "scale"), [((64, 64), 6), ((64, 32), 6), ((384, 10), 1), ((500, 500), 1), ((1, 1), 384)]
)
def test_small_pictures_are_enlarged(size, scale):
    assert enlargement(size) == scale
    drawn = draw_detections(Image.new("L", size, 7), Detections((), (), ()))
    assert drawn.size == (scale * size[0], scale * size[1]) and drawn.mode == "RGB"
    assert set(np.unique(np.asarray(drawn))) == {7}


def test_enlarged_masks_lie_where_the_small_ones_did():
    drawn = np.asarray(draw_detections(Image.new("RGB", (40, 40)), found((40, 40), (20, 20, 30, 30)), 400), int)
    bright = drawn.max(2) > 0
    rows, columns = np.nonzero(bright[200:300, 200:300])
    assert len(rows) == 100 * 100, "the mask does not fill its box"
    assert not bright[310:, :].any() and not bright[:, :190].any()


def test_names_of_objects():
    assert object_name(found(), 0) == "red cube"
    assert object_name(found(colors=(None,)), 0) == object_name(found(colors=None), 0) == "cube"
    assert len({object_color(index) for index in range(20)}) == 20


def test_transparent_parts_become_white():
    drawn = draw_detections(Image.new("RGBA", (500, 500), (0, 0, 0, 0)), Detections((), (), ()))
    assert drawn.getextrema() == ((255, 255),) * 3


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"masks are 300 x 400 pixels \(height x width\), but the picture is 64 x 64"):
        draw_detections(Image.new("RGB", (64, 64)), found())
    with pytest.raises(ValueError, match="smallest_side must be at least 1, not 0"):
        enlargement((4, 4), 0)


corners = st.tuples(*[st.floats(-50, 120)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), *map(max, c[:2], c[2:]))
)


@settings(deadline=None)
@given(st.lists(corners, max_size=4), st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_any_box_can_be_drawn(boxes, size):
    many = Detections(("torus",) * len(boxes), (1.0,) * len(boxes), tuple(boxes))
    assert draw_detections(Image.new("RGB", size), many, smallest_side=32).size[0] == size[0] * enlargement(size, 32)
