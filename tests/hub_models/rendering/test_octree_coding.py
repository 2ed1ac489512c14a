import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering.morton_order import morton_codes, morton_order
from pocket_diffusers.hub_models.rendering.octree_coding import decode_cells, encode_cells


def _same_points(first, second):
    return sorted(map(tuple, first.tolist())) == sorted(map(tuple, second.tolist()))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 50, 3000]), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_any_points_come_back_in_morton_order(seed, count, bits):
    random = np.random.default_rng(seed)
    cells = random.integers(0, 1 << bits, (count, 3)) - random.integers(0, 1 << 20)
    decoded = decode_cells(encode_cells(cells), count)
    assert (decoded == cells[morton_order(cells)]).all() and _same_points(decoded, cells)


@pytest.mark.parametrize("copies", [2, 255, 256, 257, 511, 3000])
def test_many_points_in_a_cell_come_back(copies):
    cells = np.repeat([[5, -3, 9], [6, -3, 9]], [copies, 1], axis=0)
    assert (decode_cells(encode_cells(cells), copies + 1) == cells).all()


def test_a_surface_costs_less_than_its_morton_deltas():
    random = np.random.default_rng(0)
    directions = random.normal(size=(30_000, 3))
    cells = np.rint(500 * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(int)
    deltas = np.diff(np.sort(morton_codes(cells - cells.min(0))))
    length_classes = np.floor(np.log2(deltas + 1)).astype(int)
    counts = np.bincount(length_classes)
    counts = counts[counts > 0]
    bits = (counts * np.log2(len(deltas) / counts)).sum() + length_classes.sum()
    assert len(encode_cells(cells)) < bits / 8


def test_points_too_far_apart_are_refused():
    with pytest.raises(ValueError, match="span at most 1048576 an axis, not 1048577"):
        encode_cells(np.array([[0, 0, 0], [0, 1 << 20, 0]]))
    with pytest.raises(ValueError, match="within 2"):
        encode_cells(np.array([[0, 0, 1 << 40]]))


def test_another_count_is_refused():
    data = encode_cells(np.random.default_rng(0).integers(0, 50, (100, 3)))
    for count in (0, 99, 101):
        with pytest.raises(ValueError, match="A coded sequence must|hold|must have at most"):
            decode_cells(data, count)


def test_a_depth_that_its_contexts_do_not_match_is_refused():
    data = encode_cells(np.random.default_rng(0).integers(0, 50, (100, 3)))
    for depth in (5, 7, 200):
        with pytest.raises(ValueError, match=f"not a depth of {depth} and 7 contexts"):
            decode_cells(struct.pack("<B", depth) + data[1:], 100)
    with pytest.raises(ValueError, match="hold a header of 13 bytes"):
        decode_cells(data[:5], 100)


def test_more_cells_than_points_are_refused_before_they_multiply():
    axis = np.arange(16)
    data = encode_cells(np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3))
    with pytest.raises(ValueError, match="at most 10 occupied cells, not 64"):
        decode_cells(data, 10)
