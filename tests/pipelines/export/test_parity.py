"""Differences, worked out by hand."""

import numpy as np
import pytest

from pocket_diffusers.pipelines.export.parity import TOLERANCE, Parity, compare


def test_differences_by_hand():
    parity = compare(
        [np.array([[3.0, 4.0]]), np.array([[0.0], [12.5]])], [np.array([[3.0, 4.0]]), np.array([[0.0], [12.0]])]
    )
    assert parity.max_abs == 0.5 and parity.largest == 12.0 and parity.samples == 3
    assert parity.relative == pytest.approx(0.5 / 13)


@pytest.mark.parametrize(
    ("difference", "largest", "within"),
    [(TOLERANCE, 0.5, True), (1.1 * TOLERANCE, 0.5, False), (1.1 * TOLERANCE, 2.0, True), (3 * TOLERANCE, 2.0, False)],
)
def test_tolerance_grows_with_outputs_beyond_one_only(difference, largest, within):
    assert Parity(difference, 0.0, largest, 1).within_tolerance is within


def test_what_cannot_be_compared_is_refused():
    one = np.ones((1, 2))
    with pytest.raises(ValueError, match=r"is \[1, 3\], but its reference \[1, 2\]"):
        compare([np.ones((1, 3))], [one])
    with pytest.raises(ValueError, match="not finite"):
        compare([one * np.nan], [one])
    with pytest.raises(ValueError, match="there are 0 outputs, but 1 references"):
        compare([], [one])
