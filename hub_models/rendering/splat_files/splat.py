"""`.splat` of antimatter15: 32 bytes a Gaussian and no header; no view-dependent colour.

Position and standard deviations as floats, then bytes: red, green, blue, opacity, and the quaternion w x y z. Bytes of
the quaternion are unpacked as the format's own viewer does, (b - 128) / 128, the inverse of how its converter packs.
"""

import os

import numpy as np

from ..gaussians import Gaussians
from ..spherical_harmonics import SH_C0
from .arrays import blocks, from_arrays
from .opacity_bytes import LOGITS
from .source import Source, opened

ROW = np.dtype(
    [("position", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 3), ("alpha", "u1"), ("rotation", "u1", 4)]
)
COLORS = ((np.arange(256) / 255 - 0.5) / SH_C0).astype(np.float32)
"""f_dc of each byte [256]."""


def read(source: bytes | str | os.PathLike) -> Gaussians:
    """Gaussians of a .splat file.

    Args:
        source: the file, or its bytes.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: its length is no multiple of 32, a standard deviation is not positive, or a value is not finite.
    """
    with opened(source) as file:
        return _decode(file)


def _decode(source: Source) -> Gaussians:
    count, left = divmod(source.length, ROW.itemsize)
    source.require(
        not left,
        f"must be a multiple of {ROW.itemsize} bytes long, not {source.length:,}: it is truncated, or no .splat file",
    )
    source.check_count(count, ROW.itemsize)
    means, log_scales = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    quaternions, logits = np.empty((count, 4), np.float32), np.empty(count, np.float32)
    sh = np.empty((count, 1, 3), np.float32)
    for block in blocks(count):
        rows = np.frombuffer(source.take((block.stop - block.start) * ROW.itemsize), ROW)
        means[block] = rows["position"]
        with np.errstate(divide="ignore", invalid="ignore"):  # refused below, as it is not finite
            log_scales[block] = np.log(rows["scale"])
        sh[block, 0], logits[block] = COLORS[rows["color"]], LOGITS[rows["alpha"]]
        rotation = (rows["rotation"].astype(np.float32) - 128) / 128
        quaternions[block] = rotation / np.maximum(np.linalg.norm(rotation, axis=1, keepdims=True), 1 / 128)
    return from_arrays(source.name, means, log_scales, quaternions, logits, sh)
