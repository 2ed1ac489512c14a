"""Order along a Morton curve, in which neighbours in space lie near each other in a file and pack well."""

import numpy as np

BITS = 21  # an axis: three fit in one number


def order(cells: np.ndarray) -> np.ndarray:
    """Indices that sort whole numbers [gaussians, 3] along the curve; ties stay as they are.

    The numbers are those that a file stores, so that what is read from it and written again has the same order.
    """
    cells = cells.astype(np.int64)
    cells -= cells.min(0)
    cells >>= max(0, int(cells.max()).bit_length() - BITS)
    codes = sum(_spread(cells[:, axis].astype(np.uint64)) << np.uint64(axis) for axis in range(3))
    return np.argsort(codes, kind="stable")


def _spread(numbers: np.ndarray) -> np.ndarray:
    """Each bit moved to three times its place."""
    for shift, mask in (
        (32, 0x001F00000000FFFF),
        (16, 0x001F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        numbers = (numbers | numbers << np.uint64(shift)) & np.uint64(mask)
    return numbers
