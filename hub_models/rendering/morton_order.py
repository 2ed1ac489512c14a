"""Order along a Morton curve, in which neighbours in space lie near each other in a file and pack well."""

import numpy as np

BITS = 21  # an axis: three fit in one number
# Each bit to three times its place, in steps: how far, and which bits are in place afterwards.
_SPREADS = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def morton_order(cells: np.ndarray) -> np.ndarray:
    """Indices [points] that sort whole numbers [points, 3] along the curve; ties stay as they are.

    Where they span more than 2^21, the lowest bits do not count. In files the numbers are those that are stored, so
    that what is read and written again has the same order.
    """
    cells = cells.astype(np.int64)
    if len(cells):
        cells -= cells.min(0)
    cells >>= max(0, int(cells.max(initial=0)).bit_length() - BITS)
    return np.argsort(morton_codes(cells), kind="stable")


def morton_codes(cells: np.ndarray) -> np.ndarray:
    """Bits of x, y and z in turn, x lowest [points], from coordinates of 0 to 2^21 - 1 [points, 3]."""
    return _spread(cells[:, 0]) | _spread(cells[:, 1]) << 1 | _spread(cells[:, 2]) << 2


def cells_of(codes: np.ndarray) -> np.ndarray:
    """Coordinates [points, 3] of Morton codes [points]."""
    return np.stack([_gather(codes >> axis) for axis in range(3)], 1)


def _spread(numbers: np.ndarray) -> np.ndarray:
    numbers = numbers.astype(np.int64)
    for shift, mask in _SPREADS:
        numbers = (numbers | numbers << shift) & mask
    return numbers


def _gather(numbers: np.ndarray) -> np.ndarray:
    """Each third bit, as `_spread` puts them."""
    numbers = numbers & _SPREADS[-1][1]
    masks = [mask for _, mask in _SPREADS[-2::-1]] + [(1 << BITS) - 1]
    for (shift, _), mask in zip(reversed(_SPREADS), masks, strict=True):
        numbers = (numbers | numbers >> shift) & mask
    return numbers
