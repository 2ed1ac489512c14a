"""Arrays of floats in .npy files: the header is checked against the file's size before anything is made of it."""

import math
import tokenize
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""By version of the format; later ones only bring names of fields."""

LONGEST_HEADER = 512
"""Characters; it is parsed as Python, and numpy writes 118 for an array of floats."""

KINDS = ("<f4", "<f8")


def floats_shape(path: str | Path) -> tuple[int, ...]:
    """Shape of the array in a .npy file of float32 or float64, of which only the header is read.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, or its size is not what the header says.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    with path.open("rb") as file:
        try:
            shape, in_columns, kind = HEADERS[npy.read_magic(file)](file, LONGEST_HEADER)
        except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, OverflowError, tokenize.TokenError):
            raise ValueError(f"{path} is truncated or no .npy file.") from None
        start = file.tell()
    if kind.str not in KINDS or in_columns:
        raise ValueError(f"{path} must hold float32 or float64 in the order of C, not {kind}.")
    size, told = path.stat().st_size, start + kind.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or size != told:
        raise ValueError(f"{path} must be {told} bytes as its header's shape {list(shape)} says, not {size}.")
    return shape


def read_floats(path: str | Path, shape: tuple[int | None, ...]) -> Float[np.ndarray, "..."]:
    """The array in a .npy file of float32 or float64, as float32.

    Args:
        path: the file.
        shape: that it must have; None is any number of at least 1.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, its size is not what the header says, or a number is not finite.
    """
    found = floats_shape(path)
    fits = len(found) == len(shape) and all(
        side == wanted if wanted is not None else side > 0 for side, wanted in zip(found, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"{path} must have the shape [{wanted}], not {list(found)}.")
    with np.errstate(over="ignore"):  # what does not fit is refused by its result
        array = np.load(path, allow_pickle=False).astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{path} must be finite in single precision, but holds NaN or infinity.")
    return array
