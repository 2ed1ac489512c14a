"""SPZ of Niantic: numbers of 8 to 24 bits, each attribute in a stream of its own, packed by ZSTD or gzip.

Version 4 is a header of 32 bytes, extensions, a table of streams, and a ZSTD frame a stream. Versions 1 to 3 are one
gzip file of a header of 16 bytes, the attributes in the same order, and extensions. Axes are right, up, back.
"""

import gzip
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import zstandard

from ..gaussians import Gaussians
from ..morton_order import morton_order
from ..spherical_harmonics import MAX_DEGREE, num_coefficients
from .arrays import blocks, from_arrays, to_arrays
from .axes import AxisFlips
from .opacity_bytes import LOGITS, to_bytes
from .smallest_three import add_largest, drop_largest
from .source import Source, check_expansion, opened

MAGIC = b"NGSP"
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 32  # of version 4
ZSTD_LEVEL = 9  # 20 packs 2 % smaller in six times the time
GZIP_LEVEL = 6
AXES = "RUB"
EXTENDED = 2  # the flag that extensions follow; 1 says that training was antialiased, which no Gaussian records
MAX_FRACTIONAL_BITS = 23  # of 24, one for the sign
MAX_SH_DEGREE = 4
MAX_EXTENSION_BYTES = 1 << 20

COORDINATE_SYSTEM = 0xADBE0003  # SPZ_ADOBE_coordinate_system: the frame that the Gaussians of this file lie in
FRAMES = (AXES, "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF")  # by its value; 0 says nothing
# The values from 9 on, LFD to RBU, have y and z exchanged by a quarter turn. Two versions of the specification list
# them in two orders, so what such a file means is uncertain as well.
MAX_FRAME = 16

HALF = 511  # of the numbers of a rotation: 9 bits and a sign
_bytes = np.arange(256)
LOG_SCALES = (_bytes / 16 - 10).astype(np.float32)
COLORS = ((_bytes / 255 - 0.5) / 0.15).astype(np.float32)
SH_VALUES = ((_bytes - 128) / 128).astype(np.float32)


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    version: int
    count: int
    sh_degree: int
    fractional_bits: int
    flags: int
    num_streams: int  # in version 4

    @property
    def widths(self) -> dict[str, int]:
        """Bytes a Gaussian of each stream, in order."""
        widths = {
            "positions": 6 if self.version == 1 else 9,
            "alphas": 1,
            "colors": 3,
            "scales": 3,
            "rotations": 3 if self.version < 3 else 4,
        }
        rest = 3 * (num_coefficients(self.sh_degree) - 1)
        return {**widths, "sh": rest} if rest else widths


def read(source: bytes | str | os.PathLike) -> Gaussians:
    """Gaussians of an SPZ file of version 1 to 4.

    Degree 4 of the spherical harmonics is left out, with a warning. Extensions are skipped but for the frame that an
    SPZ_ADOBE_coordinate_system names, from which Gaussians are taken to the axes of a PLY.

    Args:
        source: the file, or its bytes.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, or truncated or damaged, or lies in a frame whose vertical is z.
    """
    with opened(source) as file:
        start = file.take(8)
        file.stream.seek(0)
        if start[:2] == GZIP_MAGIC:
            with gzip.GzipFile(fileobj=file.stream) as stream:
                return _read_one_stream(Source(stream, file.length, file.name))
        file.require(start[:4] == MAGIC, "must be an SPZ file, but begins with neither NGSP nor a gzip header")
        return _read_one_stream(file) if int.from_bytes(start[4:], "little") < 4 else _read_many_streams(file)


def _read_header(source: Source, versions: range) -> Header:
    magic, *values = struct.unpack("<4sIIBBBB", source.take(16))
    source.require(magic == MAGIC, "must be an SPZ file, but does not hold NGSP")
    header = Header(*values)
    known = ", ".join(map(str, versions))
    source.require(
        header.version in versions, f"must be an SPZ file of version {known} in this container, not {header.version}"
    )
    source.require(header.count > 0, "must hold Gaussians, but holds none")
    source.require(header.sh_degree <= MAX_SH_DEGREE, f"must have an SH degree of 0 to 4, not {header.sh_degree}")
    source.require(
        header.fractional_bits <= MAX_FRACTIONAL_BITS,
        f"must have 0 to {MAX_FRACTIONAL_BITS} fractional bits, not {header.fractional_bits}",
    )
    check_expansion(source.name, header.count * sum(header.widths.values()), source.length)
    return header


def _read_one_stream(source: Source) -> Gaussians:
    """Of versions 1 to 3."""
    header = _read_header(source, range(1, 4))
    parts = {name: source.take(header.count * width) for name, width in header.widths.items()}
    rest = source.stream.read(MAX_EXTENSION_BYTES + 1)  # to the end, so that the checksum of gzip is compared
    source.require(len(rest) <= MAX_EXTENSION_BYTES, "holds too much behind its Gaussians")
    frame = _frame(source, rest) if header.flags & EXTENDED else AXES
    return _decode(source, header, frame, parts.__getitem__)


def _read_many_streams(source: Source) -> Gaussians:
    """Of version 4."""
    header = _read_header(source, range(4, 5))
    num_streams = len(header.widths)
    source.require(header.num_streams == num_streams, f"must hold {num_streams} streams, not {header.num_streams}")
    offset = struct.unpack("<I12x", source.take(16))[0]
    extensions = offset - HEADER_BYTES
    source.require(
        0 <= extensions <= MAX_EXTENSION_BYTES,
        f"must have a table of streams from byte {HEADER_BYTES} on, not from {offset:,}",
    )
    block = source.take(extensions)
    frame = _frame(source, block) if header.flags & EXTENDED else AXES
    table = [struct.unpack("<QQ", source.take(16)) for _ in range(num_streams)]
    for (_, unfolded), (name, width) in zip(table, header.widths.items(), strict=True):
        source.require(
            unfolded == header.count * width,
            f"must hold {width} bytes of {name} a Gaussian, {header.count * width:,} in all, not {unfolded:,}",
        )
    held = source.length - offset - 16 * num_streams
    source.require(sum(stored for stored, _ in table) <= held, "is truncated")
    sizes = dict(zip(header.widths, table, strict=True))
    return _decode(source, header, frame, lambda name: _unfold(source, name, *sizes[name]))


def _unfold(source: Source, name: str, stored: int, unfolded: int) -> bytes:
    """The stream that comes next."""
    packed = source.take(stored)
    try:
        claimed = zstandard.frame_content_size(packed)
        source.require(claimed in (-1, unfolded), f"must unfold its {name} to {unfolded:,} bytes, not {claimed:,}")
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=unfolded, allow_extra_data=False)
    except zstandard.ZstdError:
        raise source.refusal(f"is damaged: its {name} cannot be unfolded") from None
    source.require(len(data) == unfolded, f"must unfold its {name} to {unfolded:,} bytes, not {len(data):,}")
    return data


def _frame(source: Source, extensions: bytes) -> str:
    """The frame that the first SPZ_ADOBE_coordinate_system names."""
    place = 0
    while place < len(extensions):
        source.require(place + 8 <= len(extensions), "holds an extension that is truncated")
        kind, length = struct.unpack_from("<II", extensions, place)
        place += 8 + length
        source.require(place <= len(extensions), "holds an extension that is truncated")
        if kind == COORDINATE_SYSTEM:
            source.require(length == 4, f"must name its coordinate system in 4 bytes, not {length}")
            (value,) = struct.unpack_from("<I", extensions, place - 4)
            source.require(value <= MAX_FRAME, f"must name a coordinate system from 0 to {MAX_FRAME}, not {value}")
            source.require(
                value < len(FRAMES),
                f"lies in coordinate system {value} of SPZ_ADOBE_coordinate_system, one of those that are turned by a "
                "quarter about x (LFD to RBU), which are not read",
            )
            return FRAMES[value]
    return AXES


def _decode(source: Source, header: Header, frame: str, part: Callable[[str], bytes]) -> Gaussians:
    """Takes the parts in the order of the file, so that each can be let go before the next is read."""
    flips = AxisFlips.between(frame)
    means = _decode_positions(header, part("positions"))
    means *= flips.position
    logits = LOGITS[_rows(part("alphas"), 1)[:, 0]]
    dc = COLORS[_rows(part("colors"), 3)]
    log_scales = LOG_SCALES[_rows(part("scales"), 3)]
    quaternions = _decode_rotations(header, part("rotations"))
    quaternions *= flips.quaternion
    sh = _decode_sh(source, header, dc, part, flips)
    return from_arrays(source.name, means, log_scales, quaternions, logits, sh)


def _rows(data: bytes, width: int) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(-1, width)


def _decode_positions(header: Header, data: bytes) -> np.ndarray:
    if header.version == 1:
        return np.frombuffer(data, "<f2").reshape(-1, 3).astype(np.float32)
    means, raw = np.empty((header.count, 3), np.float32), _rows(data, 9)
    for block in blocks(header.count):
        digits = raw[block].reshape(-1, 3, 3).astype(np.int32)
        whole = digits[..., 0] | digits[..., 1] << 8 | digits[..., 2] << 16
        means[block] = (whole ^ 1 << 23) - (1 << 23)  # the 24th bit is the sign
    means *= 2.0**-header.fractional_bits
    return means


def _decode_rotations(header: Header, data: bytes) -> np.ndarray:
    quaternions = np.empty((header.count, 4), np.float32)
    for block in blocks(header.count):
        if header.version < 3:
            xyz = _rows(data, 3)[block] / 127.5 - 1
            w = np.sqrt(np.maximum(0, 1 - np.square(xyz).sum(1)))
            quaternions[block] = np.column_stack([w, xyz])
        else:
            packed = np.frombuffer(data, "<u4")[block]
            numbers = np.stack([packed >> 20, packed >> 10, packed], 1).astype(np.int32)
            others = np.where(numbers & 512, -1, 1) * (numbers & 511)
            quaternions[block] = np.roll(add_largest((packed >> 30).astype(np.intp), others, HALF), 1, 1)
    return quaternions


def _decode_sh(
    source: Source, header: Header, dc: np.ndarray, part: Callable[[str], bytes], flips: AxisFlips
) -> np.ndarray:
    if not header.sh_degree:
        return dc[:, None]
    if header.sh_degree > MAX_DEGREE:
        dropped = f"{source.name} holds spherical harmonics of degree 4, of which degrees 0 to 3 are read."
        warnings.warn(dropped, stacklevel=5)
    raw = _rows(part("sh"), header.widths["sh"]).reshape(header.count, -1, 3)
    read = num_coefficients(min(header.sh_degree, MAX_DEGREE)) - 1
    sh = np.empty((header.count, 1 + read, 3), np.float32)
    sh[:, 0] = dc
    for block in blocks(header.count):
        sh[block, 1:] = SH_VALUES[raw[block, :read]] * flips.sh[:read, None]
    return sh


def write(
    gaussians: Gaussians,
    path: str | os.PathLike,
    version: int = 4,
    fractional_bits: int = 12,
    sh_bits: tuple[int, int] = (5, 4),
) -> None:
    """Writes an SPZ file, in Morton order.

    Positions beyond +-2^(23 - fractional_bits) and standard deviations outside [e^-10, e^5.94] are clipped to these,
    spherical harmonics to [-1, 1].

    Args:
        gaussians: at least one.
        path: of the file, written in place.
        version: 4, or 3 for readers that know only gzip.
        fractional_bits: of positions, 0 to 23: their step is 2^-fractional_bits.
        sh_bits: of coefficients of degree 1 and of those above, 1 to 8 each.

    Raises:
        OSError: it cannot be written.
        ValueError: an option is out of its range, there is no Gaussian, or one holds what is not finite.
    """
    _check("version", version, 3, 4)
    _check("fractional_bits", fractional_bits, 0, MAX_FRACTIONAL_BITS)
    for bits in sh_bits:
        _check("sh_bits", bits, 1, 8)
    arrays, flips = to_arrays(gaussians), AxisFlips.between(AXES)
    limit = 1 << MAX_FRACTIONAL_BITS
    positions = (
        np.rint(arrays["means"] * (flips.position * 2.0**fractional_bits)).clip(-limit, limit - 1).astype(np.int32)
    )
    order = morton_order(positions)
    parts = {
        "positions": positions[order].astype("<i4").view(np.uint8).reshape(-1, 3, 4)[..., :3],
        "alphas": to_bytes(arrays["opacity_logits"][order]),
        "colors": _to_bytes(arrays["sh"][order, 0] * (0.15 * 255) + 127.5),
        "scales": _to_bytes((arrays["log_scales"][order] + 10) * 16),
        "rotations": _pack_rotations(arrays["quaternions"][order] * flips.quaternion),
        "sh": _pack_sh(arrays["sh"], order, flips, sh_bits),
    }
    streams = [part.tobytes() for part in parts.values() if part.size]
    head = (version, len(gaussians), gaussians.sh_degree, fractional_bits, 0)
    with open(path, "wb") as file:
        if version == 3:
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
                packed.write(struct.pack("<4sIIBBBB", MAGIC, *head, 0))
                for stream in streams:
                    packed.write(stream)
            return
        frames = [zstandard.ZstdCompressor(ZSTD_LEVEL).compress(stream) for stream in streams]
        file.write(struct.pack("<4sIIBBBBI12x", MAGIC, *head, len(frames), HEADER_BYTES))
        for frame, stream in zip(frames, streams, strict=True):
            file.write(struct.pack("<QQ", len(frame), len(stream)))
        for frame in frames:
            file.write(frame)


def _check(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, not {value!r}.")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _pack_rotations(quaternions: np.ndarray) -> np.ndarray:
    packed = np.empty(len(quaternions), "<u4")
    for block in blocks(len(quaternions)):
        index, others = drop_largest(np.roll(quaternions[block], -1, 1), HALF)  # w goes last
        numbers = np.abs(others).astype(np.uint32) | (others < 0).astype(np.uint32) << 9
        packed[block] = index.astype(np.uint32) << 30 | numbers[:, 0] << 20 | numbers[:, 1] << 10 | numbers[:, 2]
    return packed


def _pack_sh(sh: np.ndarray, order: np.ndarray, flips: AxisFlips, bits: tuple[int, int]) -> np.ndarray:
    """Bytes rounded to buckets, which leaves fewer numbers to pack."""
    rest = sh.shape[1] - 1
    packed = np.empty((len(sh), rest, 3), np.uint8)
    buckets = np.where(np.arange(rest) < 3, 1 << 8 - bits[0], 1 << 8 - bits[1])[:, None].astype(np.int16)
    for block in blocks(len(sh)):
        numbers = np.rint(sh[order[block], 1:] * (flips.sh[:rest, None] * 128)).clip(-128, 127).astype(np.int16)
        packed[block] = ((numbers + 128 + buckets // 2) & -buckets).clip(0, 255)
    return packed
