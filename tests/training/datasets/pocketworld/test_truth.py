"""Descriptions held against boxes, and an independent reading of GenEval's rules."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.pocketworld.descriptions import (
    Clause,
    Description,
    color_attr,
    colors,
    counting,
    position,
    single_object,
    two_object,
)
from pocket_diffusers.training.datasets.pocketworld.truth import describes, exact_relation, relations


def geneval_relations(box_a, box_b):
    """An independent reading of GenEval's `relative_position`, in numpy."""
    corners = np.array([box_a, box_b], dtype=np.float64).reshape(2, 2, 2)
    (center_a, center_b), (size_a, size_b) = corners.mean(axis=1), np.abs(np.diff(corners, axis=1))[:, 0]
    offset = center_a - center_b
    revised = np.maximum(np.abs(offset) - 0.1 * (size_a + size_b), 0) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return set()
    x, y = revised / np.linalg.norm(offset)
    names = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in names.items() if holds}


@pytest.mark.parametrize(
    ("box_a", "held"),
    [
        ((0, 40, 20, 60), {"left of"}),
        ((80, 40, 100, 60), {"right of"}),
        ((40, 0, 60, 20), {"above"}),
        ((40, 80, 60, 100), {"below"}),
        ((0, 0, 20, 20), {"left of", "above"}),
        ((80, 80, 100, 100), {"right of", "below"}),
        ((40, 40, 60, 60), set()),
        ((44, 40, 64, 60), set()),  # offset 4 = 0.1 (20 + 20): shortened to nothing
        ((45, 40, 65, 60), set()),  # (5 - 4) / 5 = 0.2 of the offset is left
        ((47.9, 40, 67.9, 60), set()),  # (7.9 - 4) / 7.9 < 0.5; by the shortened norm it would be 1
        ((48.1, 40, 68.1, 60), {"right of"}),  # (8.1 - 4) / 8.1 > 0.5
        ((0, 25, 20, 45), {"left of"}),  # 36 and 11 of 42.7: left only
        ((20, 30, 40, 50), {"left of"}),
        ((30, 30, 50, 50), set()),  # diagonal and near: 6 / 14.1 each
    ],
)
def test_relations_by_hand(box_a, held):
    target = (40, 40, 60, 60)
    assert relations(box_a, target) == geneval_relations(box_a, target) == held
    assert exact_relation(box_a, target) == (next(iter(held)) if len(held) == 1 else None)


coordinates = st.one_of(st.integers(0, 64), st.floats(0, 64, allow_nan=False, width=32))
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)


@given(boxes, boxes)
@settings(max_examples=500, deadline=None)
def test_relations_against_twin(box_a, box_b):
    held = relations(box_a, box_b)
    assert held == geneval_relations(box_a, box_b)
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert relations(box_b, box_a) == {opposite[relation] for relation in held}
    assert not {"left of", "right of"} <= held and not {"above", "below"} <= held


def test_relations_need_half_of_the_offset():
    for degrees in range(0, 360, 5):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        far = (1e4 * x - 1, 1e4 * y - 1, 1e4 * x + 1, 1e4 * y + 1)
        if min(abs(abs(x) - 0.5), abs(abs(y) - 0.5)) > 1e-2:
            expected = {"left of"} if x < -0.5 else {"right of"} if x > 0.5 else set()
            expected |= {"above"} if y < -0.5 else {"below"} if y > 0.5 else set()
            assert relations(far, (-1, -1, 1, 1)) == expected


LEFT, MIDDLE, RIGHT, CORNER = (0, 40, 20, 60), (40, 40, 60, 60), (80, 40, 100, 60), (0, 0, 20, 20)
RED_CUBE, BLUE_CUBE = ("cube", "red", LEFT), ("cube", "blue", RIGHT)
RED_CONE, GREEN_CONE = ("cone", "red", MIDDLE), ("cone", "green", CORNER)


@pytest.mark.parametrize(
    ("description", "objects", "true"),
    [
        (single_object("cube"), [], False),
        (single_object("cube"), [RED_CONE], False),
        (single_object("cube"), [RED_CUBE], True),
        (single_object("cube"), [RED_CUBE, BLUE_CUBE, RED_CONE], True),
        (counting("cube", 2), [RED_CUBE], False),
        (counting("cube", 2), [RED_CUBE, BLUE_CUBE], True),
        (counting("cube", 2), [RED_CUBE, BLUE_CUBE, RED_CONE], True),
        (counting("cube", 2), [RED_CUBE, BLUE_CUBE, RED_CUBE], False),
        (colors("red", "cube"), [RED_CUBE], True),
        (colors("red", "cube"), [BLUE_CUBE, RED_CONE], False),
        (colors("red", "cube"), [RED_CUBE, BLUE_CUBE], True),
        (colors("red", "cube"), [BLUE_CUBE, RED_CUBE], False),  # GenEval looks at the first cube only
        (two_object("cube", "cone"), [RED_CONE, RED_CUBE], True),
        (two_object("cube", "cone"), [RED_CUBE, BLUE_CUBE], False),
        (color_attr(("red", "cube"), ("green", "cone")), [RED_CUBE, GREEN_CONE], True),
        (color_attr(("green", "cube"), ("red", "cone")), [RED_CUBE, GREEN_CONE], False),
        (position("cube", "left of", "cone"), [RED_CUBE, RED_CONE], True),
        (position("cone", "right of", "cube"), [RED_CUBE, RED_CONE], True),
        (position("cone", "left of", "cube"), [RED_CUBE, RED_CONE], False),
        (position("cube", "above", "cone"), [RED_CUBE, RED_CONE], False),
        (position("cube", "left of", "cone"), [RED_CUBE], False),
        (position("cube", "left of", "cone"), [RED_CONE], False),
    ],
)
def test_describes_by_hand(description, objects, true):
    assert describes(description, objects) is true


def test_describes_exactly():
    corner_cone = [("cone", "red", MIDDLE), ("cube", "red", CORNER)]
    for relation in ("left of", "above"):
        assert describes(position("cube", relation, "cone"), corner_cone)
        assert not describes(position("cube", relation, "cone"), corner_cone, exact=True)
    assert describes(position("cube", "left of", "cone"), [RED_CUBE, RED_CONE], exact=True)


def test_describes_every_pair_of_a_plural_position():
    both_left = Description("position", (Clause("cone"), Clause("cube", 2, position=("left of", 0))))
    assert not describes(both_left, [RED_CUBE, BLUE_CUBE, RED_CONE])
    assert describes(both_left, [RED_CUBE, ("cube", "blue", (1, 40, 21, 60)), RED_CONE])
    assert not describes(both_left, [RED_CUBE, RED_CONE])
