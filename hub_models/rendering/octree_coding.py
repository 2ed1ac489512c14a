"""Points on an integer grid, coded as the occupancy of an octree from its root to its leaves.

Layout: one byte, the depth of the octree; three little-endian 32-bit integers, the corner of the root cell; then a
coded sequence (`entropy_coding`). Its parts are the levels from the root: one symbol a node in Morton order, a bit for
each occupied child less 1, in the context of the level. Then come the points a leaf holds less 1, in a context of their
own: 255 says that as many or more follow, and the next part, of these leaves alone, tells how many above 255.
"""

import struct

import numpy as np

from .entropy_coding import Decoder, encode
from .morton_order import cells_of, morton_codes

MAX_DEPTH = 20
MAX_SPAN = 1 << MAX_DEPTH
MANY = 255
HEADER = struct.Struct("<B3i")


def encode_cells(cells: np.ndarray) -> bytes:
    """Integer coordinates [points, 3], of which only the order is lost: decoding gives Morton order.

    Raises:
        ValueError: when the cells span more than 2^20 an axis.
    """
    corner = _corner(cells)
    depth = int((cells - corner).max(initial=0)).bit_length()
    codes = np.sort(morton_codes(cells - corner))
    parts = []
    for level in range(depth if len(cells) else 0):
        children = np.unique(codes >> 3 * (depth - level - 1))
        parents, first = np.unique(children >> 3, return_index=True)
        occupancy = np.bitwise_or.reduceat(1 << (children & 7), first)
        parts.append((occupancy - 1, np.full(len(parents), level)))
    more = np.unique(codes, return_counts=True)[1] - 1
    while len(more):
        parts.append((np.minimum(more, MANY), np.full(len(more), depth)))
        more = more[more >= MANY] - MANY
    return HEADER.pack(depth, *corner.tolist()) + encode(parts, depth + 1, MANY + 1)


def decode_cells(data: bytes, count: int) -> np.ndarray:
    """Integer coordinates [points, 3] in Morton order.

    Args:
        data: what `encode_cells` made, of any origin.
        count: the points that it must hold.

    Raises:
        ValueError: when the data cannot be what `encode_cells` makes of so many points.
    """
    if len(data) < HEADER.size:
        raise ValueError(f"Coded cells must hold a header of {HEADER.size} bytes, not {len(data)} bytes.")
    depth, *corner = HEADER.unpack_from(data)
    decoder = Decoder(data[HEADER.size :])
    if depth > MAX_DEPTH or decoder.num_contexts != depth + 1:
        raise ValueError(
            f"Coded cells must have a depth of at most {MAX_DEPTH} and a context a level, "
            f"not a depth of {depth} and {decoder.num_contexts} contexts."
        )
    codes = np.zeros(min(count, 1), np.int64)
    for level in range(depth if count else 0):
        occupancy = (decoder.decode(np.full(len(codes), level)) + 1).astype(np.uint8)
        parents, child = np.nonzero(np.unpackbits(occupancy[:, None], axis=1, bitorder="little"))
        codes = codes[parents] * 8 + child
        if len(codes) > count:  # occupied cells of a stream that lies would grow without bound
            raise ValueError(f"Coded cells must have at most {count} occupied cells, not {len(codes)}.")
    points = np.ones(len(codes), np.int64)
    full = np.arange(len(codes))
    while len(full):
        more = decoder.decode(np.full(len(full), depth))
        points[full] += more
        full = full[more == MANY]
    decoder.finish()
    if points.sum() != count:
        raise ValueError(f"Coded cells must hold {count} points, not {points.sum()}.")
    return cells_of(np.repeat(codes, points)) + np.array(corner)


def _corner(cells: np.ndarray) -> np.ndarray:
    if not len(cells):
        return np.zeros(3, np.int64)
    corner = cells.min(0)
    span = int((cells - corner).max())
    if span >= MAX_SPAN:
        raise ValueError(f"Cells must span at most {MAX_SPAN} an axis, not {span + 1}.")
    if np.abs(corner).max() >= 1 << 31:
        raise ValueError(f"Cells must be within 2^31 of the origin, not at {corner.tolist()}.")
    return corner
