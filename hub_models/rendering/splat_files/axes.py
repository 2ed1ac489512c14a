"""Frames whose axes point other ways than those of a 3DGS PLY: what changes sign between them."""

from dataclasses import dataclass

import numpy as np

PLY_AXES = "RDF"


@dataclass(frozen=True)
class AxisFlips:
    """Signs that take Gaussians from one frame to the other, and back.

    A frame is three letters that say where x, y and z point, each along or against the axis of the other frame: L or R
    (left, right), U or D (up, down), F or B (front, back).

    Attributes:
        position: of x y z [3].
        quaternion: of w x y z [4].
        sh: of the 15 coefficients of degrees 1 to 3 [15]; each is the parity of its polynomial in x, y and z.
    """

    position: np.ndarray
    quaternion: np.ndarray
    sh: np.ndarray

    @classmethod
    def between(cls, frame: str, other: str = PLY_AXES) -> "AxisFlips":
        """The signs between two frames that are named in the order of x, y, z."""
        x, y, z = (1.0 if mine == theirs else -1.0 for mine, theirs in zip(frame, other, strict=True))
        sh = [y, z, x, x * y, y * z, 1, x * z, 1, y, x * y * z, y, z, x, z, x]
        quaternion = [1, y * z, x * z, x * y]  # a mirrored frame turns the other way round, so two signs each
        return cls(*(np.array(signs, np.float32) for signs in ([x, y, z], quaternion, sh)))
