"""Compressed PLY of SuperSplat: 16 bytes a Gaussian within the ranges of its chunk of 256, a byte an SH coefficient.

Bit positions were checked against the SPZ file of the same scene.
"""

import os

import numpy as np

from ..gaussians import Gaussians
from ..morton_order import BITS, morton_order
from ..spherical_harmonics import SH_C0
from .arrays import blocks, from_arrays, to_arrays
from .opacity_bytes import LOGITS, to_bytes
from .ply import rest_names
from .ply_header import Element, read_header, read_rows, seek_rows
from .smallest_three import add_largest, drop_largest
from .source import Source, opened

CHUNK = 256
RANGES = [
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
]
NUM_RANGES_WITHOUT_COLOR = 12  # older files: colours then reach from 0 to 1
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
MAX_LOG_SCALE = 20.0  # and -20 at least, as written
MIN_SPAN = 1e-5  # of a range: where it is smaller, all of the chunk is at its lower end
HALF = 511.5  # numbers of 10 bits, of which the middle one stands for no rotation

_unit = (np.arange(256) + 0.5) / 256
_unit[[0, 255]] = 0, 1
SH_VALUES = ((_unit - 0.5) * 8).astype(np.float32)
"""Coefficient of each byte, from -4 to 4 [256]."""


def read(source: bytes | str | os.PathLike) -> Gaussians:
    """Gaussians of a compressed PLY file, with or without ranges of colour and spherical harmonics.

    Args:
        source: the file, or its bytes.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, or truncated, or holds what is not finite.
    """
    with opened(source) as file:
        return decode(file, read_header(file))


def decode(source: Source, elements: dict[str, Element]) -> Gaussians:
    """As `read`, of a file whose header was read."""
    source.require("chunk" in elements, "is a plain PLY file, which `ply.read` reads")
    ranges = _read_ranges(source, elements)
    vertex = seek_rows(source, elements, "vertex")
    packed = [name for name in PACKED if name in vertex.properties and vertex.row[name] == np.dtype("<u4")]
    source.require(len(packed) == len(PACKED), f"must hold vertices with the uint properties {', '.join(PACKED)}")
    chunks = -(-vertex.count // CHUNK)
    source.require(
        len(ranges) == chunks,
        f"must hold {chunks:,} chunks for {vertex.count:,} Gaussians, {CHUNK} in each, but holds {len(ranges):,}",
    )
    means, log_scales = np.empty((vertex.count, 3), np.float32), np.empty((vertex.count, 3), np.float32)
    quaternions, logits = np.empty((vertex.count, 4), np.float32), np.empty(vertex.count, np.float32)
    dc = np.empty((vertex.count, 3), np.float32)
    for block in blocks(vertex.count):
        rows = read_rows(source, vertex, block)
        position, rotation, scale, color = (rows[name] for name in PACKED)
        within = ranges[np.arange(block.start, block.stop) // CHUNK]  # [rows, what, end, channel]
        with np.errstate(over="ignore", invalid="ignore"):  # ranges that are not finite are refused by their results
            means[block] = _interpolated(within[:, 0], _fractions(position, 11, 10, 11))
            log_scales[block] = _interpolated(within[:, 1], _fractions(scale, 11, 10, 11))
            rgb = _interpolated(within[:, 2], _fractions(color >> 8, 8, 8, 8))
            dc[block] = (rgb - 0.5) / SH_C0
        logits[block] = LOGITS[color & 255]
        others = np.stack([(rotation >> shift) & 1023 for shift in (20, 10, 0)], 1) - HALF
        quaternions[block] = add_largest((rotation >> 30).astype(np.intp), others, HALF)
    return from_arrays(source.name, means, log_scales, quaternions, logits, _with_rest(source, elements, dc))


def _read_ranges(source: Source, elements: dict[str, Element]) -> np.ndarray:
    """Lower and upper end of position, log scale and colour in each chunk [chunks, 3, 2, 3]."""
    chunk = seek_rows(source, elements, "chunk")
    given = sum(name in chunk.properties for name in RANGES)
    source.require(
        given in (NUM_RANGES_WITHOUT_COLOR, len(RANGES)) and set(RANGES[:given]) <= set(chunk.properties),
        "must hold chunks with the lower and upper ends of position and scale, and of all colours or none",
    )
    rows = read_rows(source, chunk, slice(0, chunk.count))
    ranges = np.zeros((chunk.count, len(RANGES)))
    ranges[:, -3:] = 1
    with np.errstate(invalid="ignore"):  # of NaN, which is refused by its results
        for column, name in enumerate(RANGES[:given]):
            ranges[:, column] = rows[name]
    return ranges.reshape(-1, 3, 2, 3)


def _fractions(packed: np.ndarray, *widths: int) -> np.ndarray:
    """Numbers of so many bits each, the last in the lowest bits, as fractions from 0 to 1 [rows, numbers]."""
    shifts = [sum(widths[place + 1 :]) for place in range(len(widths))]
    limits = [(1 << width) - 1 for width in widths]
    return np.stack([((packed >> shift) & limit) / limit for shift, limit in zip(shifts, limits, strict=True)], 1)


def _interpolated(ends: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    return ends[:, 0] + fractions * (ends[:, 1] - ends[:, 0])


def _with_rest(source: Source, elements: dict[str, Element], dc: np.ndarray) -> np.ndarray:
    """The colours with the coefficients of the element `sh`, if there is one."""
    if "sh" not in elements:
        return dc[:, None]
    element = seek_rows(source, elements, "sh")
    names = rest_names(source, element)
    if not names:
        return dc[:, None]
    source.require(all(element.row[name] == np.uint8 for name in names), "must hold bytes in its PLY element 'sh'")
    source.require(
        element.count == len(dc), f"must hold {len(dc):,} rows of 'sh', one a Gaussian, not {element.count:,}"
    )
    sh = np.empty((len(dc), 1 + len(names) // 3, 3), np.float32)
    sh[:, 0] = dc
    for block in blocks(len(dc)):
        rows = read_rows(source, element, block)
        for index, name in enumerate(names):
            channel, coefficient = divmod(index, len(names) // 3)
            sh[block, 1 + coefficient, channel] = SH_VALUES[rows[name]]
    return sh


def write(gaussians: Gaussians, path: str | os.PathLike) -> None:
    """Writes a compressed PLY file, in Morton order; spherical harmonics are clipped to [-4, 4].

    The ranges of a chunk follow from which Gaussians are in it, so what is read and written again may be grouped, and
    then rounded, in another way.

    Args:
        gaussians: at least one.
        path: of the file, written in place.

    Raises:
        OSError: it cannot be written.
        ValueError: there is no Gaussian, or one holds what is not finite.
    """
    arrays = to_arrays(gaussians)
    order = _along_curve(arrays["means"])
    num_rest = 3 * (arrays["sh"].shape[1] - 1)
    values = [
        arrays["means"][order],
        arrays["log_scales"][order].clip(-MAX_LOG_SCALE, MAX_LOG_SCALE),
        np.float32(0.5) + np.float32(SH_C0) * arrays["sh"][order, 0],
    ]
    starts = np.arange(0, len(order), CHUNK)
    ends = [[end.reduceat(numbers, starts) for end in (np.minimum, np.maximum)] for numbers in values]
    ranges = np.stack([np.stack(pair, 1) for pair in ends], 1)  # [chunks, what, end, channel]
    head = ["ply", "format binary_little_endian 1.0", f"element chunk {len(ranges)}"]
    head += [*(f"property float {name}" for name in RANGES), f"element vertex {len(order)}"]
    head += [f"property uint {name}" for name in PACKED]
    if num_rest:
        head += [f"element sh {len(order)}", *(f"property uchar f_rest_{index}" for index in range(num_rest))]
    with open(path, "wb") as file:
        file.write("\n".join([*head, "end_header", ""]).encode())
        file.write(ranges.astype("<f4").tobytes())
        for block in blocks(len(order)):
            within = ranges[np.arange(block.start, block.stop) // CHUNK].astype(np.float64)
            position, scale, color = (
                _joined(_steps(numbers[block], within[:, what], widths), widths)
                for what, (numbers, widths) in enumerate(
                    zip(values, ((11, 10, 11), (11, 10, 11), (8, 8, 8)), strict=True)
                )
            )
            index, others = drop_largest(arrays["quaternions"][order[block]], HALF)
            rotation = index.astype(np.uint32) << 30 | _joined((others + HALF).astype(np.uint32), (10, 10, 10))
            alpha = to_bytes(arrays["opacity_logits"][order[block]]).astype(np.uint32)
            file.write(np.stack([position, rotation, scale, color << 8 | alpha], 1).astype("<u4").tobytes())
        for block in blocks(len(order) if num_rest else 0):
            rest = arrays["sh"][order[block], 1:].transpose(0, 2, 1)  # all of red first
            file.write(np.floor((rest / 8 + 0.5) * 256).clip(0, 255).astype(np.uint8).tobytes())


def _along_curve(means: np.ndarray) -> np.ndarray:
    least = means.min(0).astype(np.float64)
    span = np.maximum((means.max(0) - least).max(), 1e-30)
    return morton_order(((means - least) * (((1 << BITS) - 1) / span)).astype(np.int64))


def _steps(values: np.ndarray, ends: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """The nearest of the 2^width steps from one end to the other [rows, numbers]."""
    span = ends[:, 1] - ends[:, 0]
    fractions = np.where(span < MIN_SPAN, 0, (values - ends[:, 0]) / np.maximum(span, MIN_SPAN))
    return np.floor(fractions * [(1 << width) - 1 for width in widths] + 0.5).astype(np.uint32)


def _joined(numbers: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Numbers of so many bits each in one, the last in the lowest bits."""
    packed = np.zeros(len(numbers), np.uint32)
    for column, width in zip(numbers.T, widths, strict=True):
        packed = packed << width | column
    return packed
