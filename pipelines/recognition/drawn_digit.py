"""A drawn or photographed digit, brought into the form of the UCI digits: 8 x 8 pixels, light on dark."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from .picture_input import rgb_picture

SIDE = 8
INK_SHARE = 0.29
"""Thin strokes are thickened up to this share of the square: the UCI digits, full 8 rows high, have 0.31 on average,
nine of ten of them between 0.24 and 0.37."""
LEAST_CONTRAST = 0.15

_HEIGHT = 64  # at which strokes are thickened
_FAINT = 0.3  # of the strongest ink: weaker is paper


def read_digit(picture: Image.Image) -> Image.Image:
    """What the classifier of UCI digits should see of a picture with one digit.

    As the UCI digits were made from forms: the digit is cut out, scaled to the full height, and each of 8 x 8 cells is
    as light as its share of ink. The paper is what most of the picture's edge shows; ink is whatever differs from it,
    darker or lighter. Thin strokes are thickened until they are as heavy as the pens of that data.

    Args:
        picture: of any mode and size; transparent parts are white paper.

    Returns:
        An 8 x 8 picture of mode "L": 0 is paper, 255 ink.

    Raises:
        ValueError: when all of it has one shade.
    """
    strokes = _scaled(_cropped(_ink(picture) >= _FAINT), _HEIGHT) >= 0.5
    for radius in range(_HEIGHT // 4):
        cells = _cells(_thickened(strokes, radius))
        if cells.mean() >= INK_SHARE:
            break
    return Image.fromarray(np.round(255 * cells).astype(np.uint8))


def _ink(picture: Image.Image) -> Float[np.ndarray, "height width"]:
    """How far each pixel is from the paper, 1 where it is farthest."""
    grey = np.asarray(rgb_picture(picture).convert("L"), np.float32) / 255
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(edge))
    if ink.max() < LEAST_CONTRAST:
        raise ValueError("there is no digit to be seen: all of the picture has one shade.")
    return ink / ink.max()


def _cropped(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thickened(strokes: np.ndarray, radius: int) -> np.ndarray:
    """Strokes grown by a pen that is an octagon: a cross and a square by turns."""
    grown = np.pad(strokes, radius)
    for step in range(radius):
        rows = np.pad(grown, ((1, 1), (0, 0)))
        tall = rows[:-2] | rows[1:-1] | rows[2:]
        columns = np.pad(tall if step % 2 else grown, ((0, 0), (1, 1)))
        grown = tall | columns[:, :-2] | columns[:, 2:]
    return _cropped(grown)


def _cells(mask: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    """Share of ink in each of 8 x 8 cells of the square in whose middle the digit stands."""
    digit, side = _scaled(mask, 4 * SIDE), 4 * SIDE
    square = np.zeros((side, side))
    top, left = (side - digit.shape[0]) // 2, (side - digit.shape[1]) // 2
    square[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return square.reshape(SIDE, 4, SIDE, 4).mean((1, 3))


def _scaled(mask: np.ndarray, side: int) -> Float[np.ndarray, "rows columns"]:
    """Share of ink in each pixel when the longer side becomes `side` pixels."""
    rows, columns = (max(1, round(length * side / max(mask.shape))) for length in mask.shape)
    return _overlaps(mask.shape[0], rows) @ mask @ _overlaps(mask.shape[1], columns).T


def _overlaps(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Share of each new pixel that lies on each old one."""
    edges = np.arange(new + 1) * old / new
    below = np.clip(edges[:, None] - np.arange(old), 0, 1)
    return np.diff(below, axis=0) * new / old
