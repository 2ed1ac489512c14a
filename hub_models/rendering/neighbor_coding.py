"""Integer attributes of points, coded with what their neighbours along a space-filling curve are known to hold.

Points in Morton order are coded coarse to fine: first every 2^k-th, then in each pass the points halfway between those
known. A point's four known neighbours before it and four after it on the curve give, weighted by nearness in space, an
expected value and how far they spread about it. Both together choose the context, so that no symbol is a difference and
bounded or clustered values stay what they are. All arithmetic is in integers, so that every decoder agrees.

A point may be coarse: its values count steps of 2^coarseness, and it has contexts of its own. Neighbours are compared
in single steps.

Layout: one byte each for the channels, the bins of the expected value and the classes of spread; a little-endian 32-bit
integer a channel, its lowest value in single steps, a multiple of 4; then a coded sequence (`entropy_coding`) of values
above the lowest. Its parts are the passes, each point by point, all channels of a point together.
"""

import struct
from collections.abc import Iterator

import numpy as np

from .entropy_coding import MAX_ALPHABET, MAX_TABLE_ENTRIES, Decoder, encode

COARSEST = 2
REACH = 4  # neighbours on each side
NEAREST = 1 << 20  # weight of a neighbour in the same cell
FRACTION = 8  # expected value and spread are in eighths of a step
SPREADS = (2, 4, 8, 16)  # between the classes of spread, in eighths
CHOICES = ((1, 1), (8, 1), (16, 1), (32, 1), (8, 5), (16, 5), (32, 5))  # bins of the expected value, classes of spread
TABLE_ENTRY_BITS = 5  # about what a frequency costs
HEADER = struct.Struct("<3B")


def encode_values(values: np.ndarray, cells: np.ndarray, coarseness: np.ndarray | None = None) -> bytes:
    """Integers [points, channels] of points whose cells [points, 3], in Morton order, the decoder knows.

    Args:
        values: in steps of 2^coarseness.
        cells: coordinates on the grid.
        coarseness: 0, 1 or 2 for each point, known to the decoder; default 0 [points].

    Raises:
        ValueError: when a channel's values span more than 4,096.
    """
    shifts = _shifts(coarseness, len(values))
    single = values << shifts
    lowest = single.min(0) >> COARSEST << COARSEST if len(values) else np.zeros(values.shape[1], np.int64)
    symbols = values - (lowest >> shifts)
    span = int(symbols.max(initial=0)) + 1
    if span > MAX_ALPHABET:
        raise ValueError(f"A channel's values must span at most {MAX_ALPHABET} steps, not {span}.")
    above = symbols << shifts
    known = [(passed, *_expect(above, cells, shifts, passed, step)) for passed, step in _passes(len(values))]

    def parts(bins: int, classes: int):
        return [
            (symbols[passed].ravel(), _contexts(expected, spread, shifts[passed], bins, classes, span))
            for passed, expected, spread in known
        ]

    channels = values.shape[1]
    possible = [choice for choice in CHOICES if _num_contexts(channels, *choice) * span <= MAX_TABLE_ENTRIES]
    bins, classes = min(possible, key=lambda choice: _estimated_bits(parts(*choice), span))
    header = HEADER.pack(channels, bins, classes) + lowest.astype("<i4").tobytes()
    return header + encode(parts(bins, classes), _num_contexts(channels, bins, classes), span)


class ValuesDecoder:
    """Reads coded values; how many there are is known before the cells.

    Args:
        data: what `encode_values` made, of any origin.
        channels: that it must have.

    Raises:
        ValueError: when the data cannot be what `encode_values` makes of so many channels.

    Attributes:
        count: points, at most 1,024 a byte of data.
    """

    def __init__(self, data: bytes, channels: int):
        start = HEADER.size + 4 * channels
        if len(data) < start:
            raise ValueError(f"Coded values of {channels} channels must hold {start} bytes, not {len(data)}.")
        stored, self._bins, self._classes = HEADER.unpack_from(data)
        if stored != channels or (self._bins, self._classes) not in CHOICES:
            raise ValueError(
                f"Coded values must have {channels} channels and bins and classes among {CHOICES}, "
                f"not {stored} channels and {(self._bins, self._classes)}."
            )
        contexts = _num_contexts(channels, self._bins, self._classes)
        self._lowest = np.frombuffer(data, "<i4", channels, HEADER.size).astype(np.int64)
        self._decoder = Decoder(data[start:])
        if self._decoder.num_contexts != contexts or self._decoder.count % channels:
            raise ValueError(
                f"Coded values must have {contexts} contexts and a multiple of {channels} "
                f"symbols, not {self._decoder.num_contexts} and {self._decoder.count}."
            )
        self.count = self._decoder.count // channels

    def decode(self, cells: np.ndarray, coarseness: np.ndarray | None = None) -> np.ndarray:
        """Integers [points, channels], in steps of 2^coarseness.

        Args:
            cells, coarseness: as in encoding.

        Raises:
            ValueError: when the data is damaged.
        """
        shifts = _shifts(coarseness, self.count)
        above = np.zeros((self.count, len(self._lowest)), np.int64)
        for passed, step in _passes(self.count):
            expected, spread = _expect(above, cells, shifts, passed, step)
            contexts = _contexts(expected, spread, shifts[passed], self._bins, self._classes, self._decoder.alphabet)
            above[passed] = self._decoder.decode(contexts).reshape(expected.shape) << shifts[passed]
        self._decoder.finish()
        above += self._lowest
        above >>= shifts
        return above


def _shifts(coarseness: np.ndarray | None, count: int) -> np.ndarray:
    """Coarseness [points, 1]."""
    return np.zeros((count, 1), np.int64) if coarseness is None else np.asarray(coarseness, np.int64)[:, None]


def _num_contexts(channels: int, bins: int, classes: int) -> int:
    return channels * (COARSEST + 1) * bins * classes


def _passes(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """(points of a pass, their distance on the curve to the nearest known ones), coarse to fine."""
    step = 1 << max(0, count - 1).bit_length()
    yield np.arange(min(count, 1)), step
    while step > 1:
        step //= 2
        yield np.arange(step, count, 2 * step), step


def _expect(
    values: np.ndarray, cells: np.ndarray, shifts: np.ndarray, passed: np.ndarray, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Expected values and their spread, in eighths of a point's own steps [points, channels]; 0 for the first point."""
    odd = np.arange(1, 2 * REACH, 2)
    neighbors = passed[:, None] + step * np.concatenate([-odd, odd])
    exists = (neighbors >= 0) & (neighbors < len(values))
    neighbors = np.where(exists, neighbors, 0)
    squared = ((cells[neighbors] - cells[passed][:, None]) ** 2).sum(2)
    weights = np.where(exists, np.maximum(1, NEAREST // (squared + 1)), 0)
    total = np.maximum(weights.sum(1), 1)
    expected = np.empty((len(passed), values.shape[1]), np.int64)
    spread = np.empty_like(expected)
    for channel in range(values.shape[1]):
        held = FRACTION * values[neighbors, channel]
        expected[:, channel] = (weights * held).sum(1) // total
        spread[:, channel] = (weights * np.abs(held - expected[:, channel, None])).sum(1) // total
    expected >>= shifts[passed]
    spread >>= shifts[passed]
    return expected, spread


def _contexts(
    expected: np.ndarray, spread: np.ndarray, shifts: np.ndarray, bins: int, classes: int, span: int
) -> np.ndarray:
    """Contexts [points * channels]."""
    group = np.arange(expected.shape[1]) * (COARSEST + 1) + shifts
    binned = np.minimum(expected * bins // (FRACTION * span), bins - 1)
    classed = np.searchsorted(SPREADS, spread, side="right") if classes > 1 else 0
    return ((group * bins + binned) * classes + classed).ravel()


def _estimated_bits(parts: list[tuple[np.ndarray, np.ndarray]], span: int) -> float:
    joint = np.concatenate([contexts * span + symbols for symbols, contexts in parts])
    counts = np.bincount(joint)  # there are at most MAX_TABLE_ENTRIES, so that counting is quicker than sorting
    pairs = np.flatnonzero(counts)
    counts = counts[pairs]
    totals = np.bincount(pairs // span, counts)[pairs // span] if len(pairs) else counts
    return float((counts * np.log2(totals / counts)).sum()) + TABLE_ENTRY_BITS * len(pairs)
