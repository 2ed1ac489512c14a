"""The Morton curve."""

import numpy as np

from pocket_diffusers.hub_models.rendering.morton_order import cells_of, morton_codes, morton_order


def code(x, y, z):
    return sum(
        (x >> bit & 1) << 3 * bit | (y >> bit & 1) << 3 * bit + 1 | (z >> bit & 1) << 3 * bit + 2 for bit in range(21)
    )


def some_cells():
    cells = np.random.default_rng(0).integers(1 << 21, size=(500, 3))
    cells[0], cells[1] = 0, (1 << 21) - 1
    return cells


def test_codes_interleave_the_bits_of_x_y_z_and_give_them_back():
    cells = some_cells()
    codes = morton_codes(cells)
    assert codes.tolist() == [code(*map(int, cell)) for cell in cells]
    assert (cells_of(codes) == cells).all()


def test_cells_are_sorted_by_interleaved_bits():
    codes = [code(*map(int, cell)) for cell in some_cells()]
    assert morton_order(some_cells()).tolist() == sorted(range(500), key=codes.__getitem__)


def test_wide_and_negative_numbers_keep_their_leading_bits():
    cells = np.random.default_rng(1).integers(-(1 << 23), 1 << 23, size=(500, 3))
    cells[0], cells[1] = -(1 << 23), (1 << 23) - 1
    codes = [code(*(int(number + (1 << 23)) >> 3 for number in cell)) for cell in cells]
    assert morton_order(cells).tolist() == sorted(range(500), key=codes.__getitem__)


def test_ties_stay_in_order():
    assert morton_order(np.zeros((9, 3), np.int32)).tolist() == list(range(9))
    assert morton_order(np.array([[5, 5, 5]])).tolist() == [0]


def test_no_points_have_an_order():
    assert morton_order(np.zeros((0, 3), int)).tolist() == []
