"""Differences, worked out by hand."""

import numpy as np
import pytest

from pocket_diffusers.pipelines.export.back_ends import PRECISIONS
from pocket_diffusers.pipelines.export.parity import TOLERANCE, Parity, compare


def test_differences_by_hand():
    parity = compare(
        [np.array([[3.0, 4.0]]), np.array([[0.0], [12.5]])], [np.array([[3.0, 4.0]]), np.array([[0.0], [12.0]])]
    )
    assert parity.max_abs == 0.5 and parity.largest == 12.0 and parity.samples == 3
    assert parity.relative == pytest.approx(0.5 / 13)


def test_the_relative_difference_is_that_of_the_worst_output():
    """Two runs of two outputs: a large one that is right and a small one that is blank."""
    large, small = np.full((1, 2), 100.0), np.full((1, 2), 1e-6)
    parity = compare([large, 0 * small, large, 0 * small], [large, small, large, small], outputs=2)
    assert parity.relative == pytest.approx(1) and parity.max_abs == 1e-6
    assert not any(parity.within_tolerance(precision) for precision in PRECISIONS)


@pytest.mark.parametrize(
    ("difference", "largest", "within"),
    [(TOLERANCE, 0.5, True), (1.1 * TOLERANCE, 0.5, False), (1.1 * TOLERANCE, 2.0, True), (3 * TOLERANCE, 2.0, False)],
)
def test_tolerance_of_fp32_grows_with_outputs_beyond_one_only(difference, largest, within):
    assert Parity(difference, 0.0, largest, 1).within_tolerance("fp32") is within


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 0.001), ("fp16", 0.01), ("int8", 0.25)])
def test_every_precision_has_a_limit(precision, limit):
    for relative, within in ((limit, True), (1.01 * limit, False), (1.0, False), (float("nan"), False)):
        assert Parity(1e-9, relative, 1.0, 1).within_tolerance(precision) is within


def test_what_cannot_be_compared_is_refused():
    one = np.ones((1, 2))
    with pytest.raises(ValueError, match=r"is \[1, 3\], but its reference \[1, 2\]"):
        compare([np.ones((1, 3))], [one])
    with pytest.raises(ValueError, match="not finite"):
        compare([one * np.nan], [one])
    with pytest.raises(ValueError, match="there are 0 outputs, but 1 references"):
        compare([], [one])
