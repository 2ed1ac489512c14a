"""Unit quaternions without their largest component, which files store as three small numbers and an index."""

from math import sqrt

import numpy as np

TIE = 1e-4  # components this near count as equally large, and the first is left out: so noise does not decide


def drop_largest(quaternions: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Which component to leave out, and the three others in units of 1 / (half sqrt 2), rounded.

    Reading and packing again gives the same numbers: where rounding would make another component the largest, it is
    rounded towards 0.

    Args:
        quaternions: of any length but 0 [gaussians, 4], components in the order of the file.
        half: the largest number to store. A whole one stores whole numbers from -half to half, and another, such as
            127.5, the numbers halfway between whole ones.

    Returns:
        Index of the component left out [gaussians], and the others in order [gaussians, 3], float64.
    """
    unit = quaternions.astype(np.float64)
    unit /= np.abs(unit).max(1, keepdims=True)  # a length that under- or overflows else
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    index = _first_largest(unit)
    unit *= np.where(np.take_along_axis(unit, index[:, None], 1) < 0, -1, 1)
    others = np.take_along_axis(unit, _others(index), 1) * (sqrt(2) * half)
    offset = half % 1
    others = (np.floor(others - offset + 0.5) + offset).clip(-half, half)
    while (moved := _first_largest(add_largest(index, others, half)) != index).any():
        rows = np.flatnonzero(moved)
        columns = np.abs(others[rows]).argmax(1)
        others[rows, columns] -= np.sign(others[rows, columns])
    return index, others


def add_largest(index: np.ndarray, others: np.ndarray, half: float) -> np.ndarray:
    """The quaternions that `drop_largest` packed, of unit length [gaussians, 4], float32."""
    small = others / (sqrt(2) * half)
    unit = np.empty((len(small), 4), np.float32)
    np.put_along_axis(unit, _others(index), small.astype(np.float32), 1)
    largest = np.sqrt(np.maximum(0, 1 - np.square(small).sum(1, keepdims=True)))
    np.put_along_axis(unit, index[:, None], largest.astype(np.float32), 1)
    return unit


def _first_largest(unit: np.ndarray) -> np.ndarray:
    size = np.abs(unit)
    return (size >= size.max(1, keepdims=True) - TIE).argmax(1)


def _others(index: np.ndarray) -> np.ndarray:
    """Indices of the three components that are not `index`, in order [gaussians, 3]."""
    places = np.arange(3)
    return places + (places >= index[:, None])
