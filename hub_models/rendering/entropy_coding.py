"""Entropy coding of integers with static, context-dependent frequencies: interleaved rANS (Duda 2014, arXiv 1311.2540).

Many coders ("lanes") take turns on one sequence, so that numpy, or a GPU, advances all of them at once. A symbol's
frequencies depend on a context that encoder and decoder both know, for instance what was decoded before.

A sequence is coded in parts, of which a decoder needs the contexts one part at a time. Every part starts at lane 0;
symbol i of a part belongs to lane i mod `lanes`. Layout of a coded sequence, all integers little-endian:

| bytes | content |
|---|---|
| 4 | symbols in all parts together |
| 2, 2 | contexts, size of the alphabet |
| 2 | lanes: one for every whole 4,096 symbols, at least one |
| 4 | bytes of the packed tables |
| as said | tables, raw deflate: for each context and each symbol one byte, its weight (below) |
| 4 a lane | states after encoding, which decoding starts from |
| the rest | 16-bit words in the order in which decoding consumes them |

A weight byte b is 0 for a symbol that does not occur, else (8 + (b - 1) mod 8) * 2^((b - 1) div 8) / 8, rounded down.
`frequencies_of` makes frequencies of sum 2^15 from a context's weights, in integers.

Decoding a symbol, with x the state of its lane: slot = x mod 2^15; the symbol is the one with
start <= slot < start + frequency; x becomes frequency * (x div 2^15) + slot - start; if that is below 2^16, x becomes
65536 * x + the next word. Lanes that need a word in the same round take theirs in the order of the lanes. After the
last symbol every state is 2^16 again and every word is consumed, which tells most damaged sequences.
"""

import struct
import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

PRECISION = 15  # log2 of the sum of a context's frequencies
TOTAL = 1 << PRECISION
STATE_FLOOR = 1 << 16  # states are in [2^16, 2^32) between symbols
SYMBOLS_A_LANE = 4096  # more lanes are faster, and each costs two bytes
MAX_COUNT = SYMBOLS_A_LANE << 16
MAX_ALPHABET = 4096
MAX_TABLE_ENTRIES = 1 << 20
HEADER = struct.Struct("<IHHHI")


def weight_bytes(counts: np.ndarray) -> np.ndarray:
    """Bytes that hold each row's counts with four significant bits, the largest of a row at most 2^15.

    Args:
        counts: occurrences [contexts, alphabet].
    """
    shift = np.maximum(0, np.ceil(np.log2(np.maximum(counts.max(1, keepdims=True), 1))) - PRECISION)
    weights = np.ceil(counts / 2**shift).astype(np.int64)  # what occurs keeps a weight of 1 or more
    exponent = np.floor(np.log2(np.maximum(weights, 1))).astype(np.int64)
    significant = np.floor(weights * 8 / 2.0**exponent + 0.5).astype(np.int64)  # 8 to 16: 16 carries into the exponent
    return np.where(weights > 0, 1 + 8 * exponent + significant - 8, 0).astype(np.uint8)


def frequencies_of(weights: np.ndarray) -> np.ndarray:
    """Frequencies of sum 2^15 in each row, at least 1 for a symbol that occurs; a row without any is given to symbol 0.

    Args:
        weights: weight bytes [contexts, alphabet].
    """
    code = np.maximum(weights.astype(np.int64) - 1, 0)
    values = np.where(weights > 0, ((8 + code % 8) << (code // 8)) >> 3, 0)
    values[:, 0] += values.sum(1) == 0
    occurs = values > 0
    spare = TOTAL - occurs.sum(1, keepdims=True)
    frequencies = occurs + values * spare // values.sum(1, keepdims=True)
    rows = np.arange(len(values))
    frequencies[rows, frequencies.argmax(1)] += TOTAL - frequencies.sum(1)
    return frequencies


class _Tables:
    """Frequencies and where each symbol's interval starts, flat over contexts and symbols."""

    def __init__(self, weights: np.ndarray):
        frequencies = frequencies_of(weights)
        self.alphabet = weights.shape[1]
        self.frequencies = frequencies.ravel()
        self.starts = (np.cumsum(frequencies, 1) - frequencies).ravel()
        # In one ascending array over all contexts, so that a single search finds context and symbol.
        self.ladder = self.starts + np.repeat(np.arange(len(weights)) * TOTAL, self.alphabet)

    def entries(self, contexts: np.ndarray, slots: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.ladder, contexts * TOTAL + slots, side="right") - 1


def encode(parts: Sequence[tuple[np.ndarray, np.ndarray]], num_contexts: int = 1, alphabet: int | None = None) -> bytes:
    """A coded sequence.

    Args:
        parts: (symbols, contexts) in the order of decoding: integers [count] each, of any count.
        num_contexts: contexts are below it, 1 to 65,535.
        alphabet: symbols are below it, 1 to 4,096; default one more than the largest.

    Raises:
        ValueError: when a symbol or context is out of range.
    """
    symbols = np.concatenate([np.zeros(0, np.int64), *(np.asarray(part[0], np.int64) for part in parts)])
    contexts = np.concatenate([np.zeros(0, np.int64), *(np.asarray(part[1], np.int64) for part in parts)])
    alphabet = int(symbols.max(initial=0)) + 1 if alphabet is None else alphabet
    _check_range("symbols", symbols, alphabet)
    _check_range("contexts", contexts, num_contexts)
    _check_sizes(len(symbols), num_contexts, alphabet)

    entries = contexts * alphabet + symbols
    weights = weight_bytes(np.bincount(entries, minlength=num_contexts * alphabet).reshape(num_contexts, alphabet))
    tables = _Tables(weights)
    frequencies, starts = tables.frequencies[entries], tables.starts[entries]
    lanes = max(1, len(symbols) // SYMBOLS_A_LANE)

    states = np.full(lanes, STATE_FLOOR, np.int64)
    words = []
    for start, stop in reversed(list(_rounds([len(part[0]) for part in parts], lanes))):
        frequency, state = frequencies[start:stop], states[: stop - start]
        full = state >= frequency << (32 - PRECISION)
        words.append((state[full] & 0xFFFF).astype("<u2"))
        quotient, remainder = np.divmod(np.where(full, state >> 16, state), frequency)
        states[: stop - start] = (quotient << PRECISION) + remainder + starts[start:stop]
    packed = zlib.compress(weights.tobytes(), 9, wbits=-15)
    header = HEADER.pack(len(symbols), num_contexts, alphabet, lanes, len(packed))
    return b"".join([header, packed, states.astype("<u4").tobytes(), *(word.tobytes() for word in reversed(words))])


class Decoder:
    """Reads a coded sequence part by part.

    Args:
        data: what `encode` made, of any origin.

    Raises:
        ValueError: when the data cannot be what `encode` makes, before anything larger than the tables is allocated.

    Attributes:
        count: symbols in all parts together, at most 1,024 a byte of data.
        num_contexts, alphabet: as in encoding.
        remaining: symbols not yet decoded.
    """

    def __init__(self, data: bytes):
        _require(len(data) >= HEADER.size, f"hold a header of {HEADER.size} bytes, not {len(data)} bytes")
        self.count, self.num_contexts, alphabet, lanes, packed_size = HEADER.unpack_from(data)
        _check_sizes(self.count, self.num_contexts, alphabet)
        # Certain symbols need no bits, so that the lanes alone keep the count in proportion to the bytes.
        wanted = max(1, self.count // SYMBOLS_A_LANE)
        _require(lanes == wanted, f"have {wanted} lanes for {self.count} symbols, not {lanes}")
        states_at = HEADER.size + packed_size
        words_at = states_at + 4 * lanes
        _require(words_at <= len(data), f"hold {words_at} bytes of tables and states, not {len(data)}")
        _require((len(data) - words_at) % 2 == 0, "end with whole words of 2 bytes, not with half a word")
        weights = _inflate(data[HEADER.size : states_at], self.num_contexts * alphabet)
        self.alphabet = alphabet
        self._weights = weights.reshape(self.num_contexts, alphabet)
        self._states = np.frombuffer(data, "<u4", lanes, states_at).astype(np.int64)
        _require(bool((self._states >= STATE_FLOOR).all()), f"have states of at least {STATE_FLOOR}, not a lower one")
        self._words = np.frombuffer(data, "<u2", offset=words_at).astype(np.int64)
        self._next_word = 0
        self.remaining = self.count

    @cached_property
    def _tables(self) -> _Tables:
        """Up to a hundred bytes a weight while they are made: there are none before a symbol is wanted."""
        return _Tables(self._weights)

    def decode(self, contexts: np.ndarray) -> np.ndarray:
        """The symbols of the next part [count].

        Args:
            contexts: as in encoding [count].

        Raises:
            ValueError: when the sequence is too short, or was not coded with these contexts.
        """
        contexts = np.asarray(contexts, np.int64)
        _check_range("contexts", contexts, self.num_contexts)
        _require(len(contexts) <= self.remaining, f"hold {len(contexts)} more symbols, not {self.remaining}")
        self.remaining -= len(contexts)
        tables = self._tables
        symbols = np.empty(len(contexts), np.int64)
        for start, stop in _rounds([len(contexts)], len(self._states)):
            state = self._states[: stop - start]
            slots = state & (TOTAL - 1)
            entries = tables.entries(contexts[start:stop], slots)
            state = tables.frequencies[entries] * (state >> PRECISION) + slots - tables.starts[entries]
            low = np.flatnonzero(state < STATE_FLOOR)
            word_end = self._next_word + len(low)
            _require(word_end <= len(self._words), f"hold at least {word_end} words, not {len(self._words)}")
            state[low] = (state[low] << 16) | self._words[self._next_word : word_end]
            self._next_word = word_end
            self._states[: stop - start] = state
            symbols[start:stop] = entries % tables.alphabet
        return symbols

    def finish(self) -> None:
        """Checks that the whole sequence was decoded, and decoded right.

        Raises:
            ValueError: when symbols or words are left, or a state is not the one that encoding began with.
        """
        _require(self.remaining == 0, f"hold no symbol after the last, not {self.remaining}")
        left = len(self._words) - self._next_word
        _require(left == 0, f"hold no word after the last symbol, not {left}")
        _require(bool((self._states == STATE_FLOOR).all()), "end in the states it began with, but it is damaged")


def decode(data: bytes) -> np.ndarray:
    """The symbols [count] of a sequence coded with one context.

    Raises:
        ValueError: when the data cannot be what `encode` makes.
    """
    decoder = Decoder(data)
    symbols = decoder.decode(np.zeros(decoder.count, np.int64))
    decoder.finish()
    return symbols


def _rounds(counts: Sequence[int], lanes: int):
    """(start, stop) in the whole sequence of what the lanes code at once; every part starts at lane 0."""
    start = 0
    for count in counts:
        for first in range(0, count, lanes):
            yield start + first, start + min(first + lanes, count)
        start += count


def _inflate(packed: bytes, size: int) -> np.ndarray:
    inflater = zlib.decompressobj(wbits=-15)
    try:
        raw = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(f"A coded sequence must hold deflated tables, but they cannot be inflated: {error}.") from None
    _require(len(raw) == size and inflater.eof, f"hold tables of {size} bytes, not of another size")
    weights = np.frombuffer(raw, np.uint8)
    most = int(weights.max(initial=0))
    _require(most <= 1 + 8 * PRECISION, f"have weights of at most {1 + 8 * PRECISION}, not {most}")
    return weights


def _check_sizes(count: int, num_contexts: int, alphabet: int) -> None:
    _require(count < MAX_COUNT, f"have fewer than {MAX_COUNT} symbols, not {count}")
    _require(1 <= num_contexts < 1 << 16, f"have 1 to 65,535 contexts, not {num_contexts}")
    _require(1 <= alphabet <= MAX_ALPHABET, f"have an alphabet of 1 to {MAX_ALPHABET} symbols, not {alphabet}")
    entries = num_contexts * alphabet
    _require(entries <= MAX_TABLE_ENTRIES, f"have at most {MAX_TABLE_ENTRIES} frequencies, not {entries}")


def _check_range(name: str, values: np.ndarray, stop: int) -> None:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high >= stop:
        raise ValueError(f"{name} must be from 0 to {stop - 1}, not {low if low < 0 else high}.")


def _require(condition: bool, wanted: str) -> None:
    if not condition:
        raise ValueError(f"A coded sequence must {wanted}.")
