"""Coloured points that a reconstruction leaves beside its cameras."""

import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...pipelines.files import whole_file

NUMBERS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
"""PLY's names of its kinds of numbers, and numpy's."""
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
COLOURS = ("red", "green", "blue")
LONGEST_HEADER = 65536
GREY = 128


class SparsePoints(NamedTuple):
    """Where a splat scene starts from.

    Attributes:
        positions: in scene units [points, 3].
        rgb: colours in [0, 1] [points, 3].
    """

    positions: Float[Tensor, "points 3"]
    rgb: Float[Tensor, "points 3"]

    @classmethod
    def of(cls, positions: np.ndarray, colours: np.ndarray) -> Self:
        """Points with colours of 8 bits.

        Raises:
            ValueError: a position is not finite in single precision, or a colour leaves 0 to 255.
        """
        with np.errstate(all="ignore"):  # what does not fit is refused by its result
            places = torch.from_numpy(np.asarray(positions, np.float32))
        if not torch.isfinite(places).all():
            raise ValueError("a point's position must be finite, but one is NaN or infinite.")
        if colours.size and not (colours.min() >= 0 and colours.max() <= 255):
            raise ValueError("a point's colour must lie in 0 to 255.")
        return cls(places, torch.from_numpy(np.asarray(colours, np.float32)) / 255)

    @classmethod
    def none(cls) -> Self:
        """No points."""
        return cls(torch.empty(0, 3), torch.empty(0, 3))


def read_points(path: str | Path) -> SparsePoints:
    """Points of a PLY file, text or binary: x, y, z and red, green, blue of its vertices; grey without colours.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is truncated, or no PLY file of points.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is missing.")
    data = path.read_bytes()
    end = data.find(b"end_header\n", 0, LONGEST_HEADER)
    lines = data[: max(end, 0)].decode("latin-1").split("\n")
    header = [line.split() for line in lines if not line.startswith(("comment", "obj_info"))]
    try:
        if header[0] != ["ply"] or header[1][0] != "format" or header[2][:2] != ["element", "vertex"]:
            raise ValueError
        order, count = ORDERS[header[1][1]], int(header[2][2])
        rest = [place for place, words in enumerate(header) if place > 2 and words[:1] != ["property"]]
        layout = np.dtype([(name, order + NUMBERS[kind]) for _, kind, name in header[3 : min(rest)]])
        if not 0 <= count <= len(data):
            raise ValueError
        vertices = _vertices(data[end + len(b"end_header\n") :], order, count, layout)
        positions = np.stack([vertices[axis] for axis in "xyz"], -1)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise ValueError(f"{path} is truncated, or no PLY file of points with x, y and z.") from None
    channels = [vertices[name] for name in COLOURS if name in layout.names]
    if any(channel.dtype != np.uint8 for channel in channels):
        raise ValueError(f"{path} must have colours of the kind uchar, not {channels[0].dtype}.")
    colours = np.stack(channels, -1) if len(channels) == 3 else np.full((count, 3), GREY)
    try:
        return SparsePoints.of(positions, colours)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_points(path: str | Path, points: SparsePoints) -> None:
    """Writes a binary PLY file with colours of 8 bits, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    layout = [("xyz", "<f4", 3), ("rgb", "u1", 3)]
    vertices = np.empty(len(points.positions), layout)
    vertices["xyz"] = points.positions.cpu().numpy()
    vertices["rgb"] = points.rgb.mul(255).round().byte().cpu().numpy()
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uchar {channel}" for channel in COLOURS]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", *properties, "end_header"]
    with whole_file(path) as draft:
        draft.write_bytes("".join(f"{line}\n" for line in header).encode() + vertices.tobytes())


def _vertices(data: bytes, order: str, count: int, layout: np.dtype) -> np.ndarray:
    if order:
        if count * layout.itemsize > len(data):
            raise ValueError
        return np.frombuffer(data, layout, count)
    rows = [line.split() for line in data.split(b"\n", count)[:-1]]
    if len(rows) != count:
        raise ValueError
    kinds = [float if layout[name].kind == "f" else int for name in layout.names]
    values = [tuple(kind(word) for kind, word in zip(kinds, row, strict=True)) for row in rows]
    with np.errstate(all="ignore"):  # positions are checked when they are points
        return np.array(values, layout)
