"""Quaternions of three numbers: near what they were, and the same when packed again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering.splat_files.smallest_three import add_largest, drop_largest

HALVES = [511, 511.5, 127.5]  # of SPZ, compressed PLY and SOG


def unit(quaternions):
    wide = quaternions.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


@pytest.mark.parametrize("half", HALVES)
def test_components_are_within_half_a_step(half):
    quaternions = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32) * 100
    index, others = drop_largest(quaternions, half)
    again, wanted = add_largest(index, others, half), unit(quaternions)
    wanted *= np.sign((again * wanted).sum(1, keepdims=True))
    step = 1 / (half * np.sqrt(2))
    error = np.abs(again - wanted)
    np.put_along_axis(error, index[:, None], 0, 1)
    steps = error.max(1) / step
    assert (steps > 0.501).mean() < 0.01, "only where two components tie within a step"
    assert steps.max() < 1.6
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, atol=1e-6)
    if half % 1:
        assert np.unique(np.abs(others) % 1).tolist() == [0.5]
    assert np.abs(others).max() <= half


NUMBER = st.sampled_from([0, 1, -1, 0.5, 1e-3, 0.99999, 1.000001, 2.0**-0.5, -(2.0**-0.5), 3e-20, 1e30]) | st.floats(
    -1, 1
)


@pytest.mark.parametrize("half", HALVES)
@given(rows=st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER).filter(any), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_packing_again_gives_the_same_numbers(half, rows):
    quaternions = np.array(rows, np.float32)
    quaternions = quaternions[quaternions.any(1)]
    if len(quaternions):
        index, others = drop_largest(quaternions, half)
        index_again, others_again = drop_largest(add_largest(index, others, half), half)
        assert np.array_equal(index, index_again) and np.array_equal(others, others_again)


def test_no_rotation_and_quarter_turns_stay_exact():
    s = np.sqrt(0.5)
    quaternions = np.array([[1, 0, 0, 0], [s, s, 0, 0], [s, 0, 0, -s], [-1, 0, 0, 0], [s + 3e-8, 0, s, 0]], np.float32)
    index, others = drop_largest(quaternions, 511)
    assert index.tolist() == [0] * 5
    assert others.tolist() == [[0, 0, 0], [511, 0, 0], [0, 0, -511], [0, 0, 0], [0, 511, 0]]
