"""The Morton curve."""

import numpy as np

from pocket_diffusers.hub_models.rendering.splat_files.morton import order


def code(x, y, z):
    return sum(
        (x >> bit & 1) << 3 * bit | (y >> bit & 1) << 3 * bit + 1 | (z >> bit & 1) << 3 * bit + 2 for bit in range(21)
    )


def test_cells_are_sorted_by_interleaved_bits():
    cells = np.random.default_rng(0).integers(1 << 21, size=(500, 3))
    cells[0], cells[1] = 0, (1 << 21) - 1
    codes = [code(*map(int, cell)) for cell in cells]
    assert order(cells).tolist() == sorted(range(500), key=codes.__getitem__)


def test_wide_and_negative_numbers_keep_their_leading_bits():
    cells = np.random.default_rng(1).integers(-(1 << 23), 1 << 23, size=(500, 3))
    cells[0], cells[1] = -(1 << 23), (1 << 23) - 1
    codes = [code(*(int(number + (1 << 23)) >> 3 for number in cell)) for cell in cells]
    assert order(cells).tolist() == sorted(range(500), key=codes.__getitem__)


def test_ties_stay_in_order():
    assert order(np.zeros((9, 3), np.int32)).tolist() == list(range(9))
    assert order(np.array([[5, 5, 5]])).tolist() == [0]
