"""Blocks of GGUF, the file format of llama.cpp, in plain numpy: ternary TQ1_0 and TQ2_0, and Q4_0 of 4 bits.

A block is a scale in float16 and the weights in steps of it. The file format lays blocks along the rows of a matrix
and leaves a tensor whose rows are no whole blocks in float16, such as most kernels of convolutions; here blocks go
through the whole tensor, the last one filled up with zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

Values = Float32[np.ndarray, "blocks weights"]
Blocks = UInt8[np.ndarray, "blocks bytes"]

TRITS_BY_BYTE = 5  # 3^5 = 243 values fit in a byte
RUNS = ((32, 5), (16, 5), (4, 4))  # of a block of TQ1_0: so many bytes in a row, so many ternary digits in each


@dataclass(frozen=True)
class BlockFormat:
    """How a block is laid out.

    Attributes:
        weights: in a block.
        bytes: of a block, its scale included.
        encode: blocks of weights to blocks of bytes.
        decode: back, to the rounded weights.
    """

    weights: int
    bytes: int
    encode: Callable[[Values], Blocks]
    decode: Callable[[Blocks], Values]


def encode(weight: Float32[np.ndarray, "..."], name: str) -> Blocks:
    """Blocks of a weight in the format of that name, of `FORMATS`."""
    form = FORMATS[name]
    flat = weight.reshape(-1)
    padded = np.zeros(-(-flat.size // form.weights) * form.weights, np.float32)
    padded[: flat.size] = flat
    return form.encode(padded.reshape(-1, form.weights))


def decode(blocks: Blocks, shape: tuple[int, ...], name: str) -> Float32[np.ndarray, "..."]:
    """The rounded weight of this shape."""
    return FORMATS[name].decode(blocks).reshape(-1)[: int(np.prod(shape))].reshape(shape)


def _encode_tq1(values: Values) -> Blocks:
    trits, scale = _ternary(values)
    parts, start = [], 0
    for width, digits in RUNS:
        run = trits[:, start : start + width * digits].reshape(-1, digits, width).astype(np.uint16)
        number = np.zeros((len(run), width), np.uint16)
        for place in range(TRITS_BY_BYTE):
            number = number * 3 + (run[:, place] if place < digits else 0)
        parts.append(((number * 256 + 242) // 243).astype(np.uint8))  # as a fraction of 256, rounded up
        start += width * digits
    return np.concatenate([*parts, scale], axis=1)


def _decode_tq1(blocks: Blocks) -> Values:
    parts, start = [], 0
    for width, digits in RUNS:
        fraction = blocks[:, start : start + width]
        for place in range(digits):  # the place's digit is the whole part of three times what is left of the fraction
            left = fraction * np.uint8(3**place)
            parts.append((left.astype(np.uint16) * 3 >> 8).astype(np.float32) - 1)
        start += width
    return np.concatenate(parts, axis=1) * _scale(blocks[:, -2:])


def _encode_tq2(values: Values) -> Blocks:
    trits, scale = _ternary(values)
    quarters = trits.reshape(-1, 2, 4, 32)  # two runs of 32 bytes, each with 4 digits of 2 bits
    packed = sum(quarters[:, :, place] << 2 * place for place in range(4))
    return np.concatenate([packed.reshape(-1, 64), scale], axis=1)


def _decode_tq2(blocks: Blocks) -> Values:
    packed = blocks[:, :64].reshape(-1, 2, 1, 32)
    digits = packed >> np.arange(0, 8, 2, dtype=np.uint8).reshape(1, 1, 4, 1) & 3
    return (digits.reshape(-1, 256).astype(np.float32) - 1) * _scale(blocks[:, -2:])


def _encode_q4(values: Values) -> Blocks:
    largest = np.take_along_axis(values, np.abs(values).argmax(1)[:, None], axis=1)  # with its sign
    steps = _steps(values, largest / -8)
    levels = np.minimum(np.floor(steps + 8.5), 15).astype(np.uint8)
    return np.concatenate([_bytes(largest / -8), levels[:, :16] | levels[:, 16:] << 4], axis=1)


def _decode_q4(blocks: Blocks) -> Values:
    packed = blocks[:, 2:]
    levels = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    return levels * _scale(blocks[:, :2])


def _ternary(values: Values) -> tuple[UInt8[np.ndarray, "blocks weights"], UInt8[np.ndarray, "blocks 2"]]:
    """The nearest of 0, 1 and 2 for -1, 0 and 1 times the largest magnitude of a block, and that magnitude."""
    largest = np.abs(values).max(1, keepdims=True)
    steps = _steps(values, largest)
    rounded = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
    return (rounded + 1).astype(np.uint8), _bytes(largest)


def _steps(values: Values, scale: Float32[np.ndarray, "blocks 1"]) -> Float64[np.ndarray, "blocks weights"]:
    return values.astype(np.float64) / np.where(scale == 0, 1, scale)


def _bytes(scale: Float32[np.ndarray, "blocks 1"]) -> UInt8[np.ndarray, "blocks 2"]:
    return np.ascontiguousarray(scale.astype("<f2")).view(np.uint8)


def _scale(two_bytes: UInt8[np.ndarray, "blocks 2"]) -> Float32[np.ndarray, "blocks 1"]:
    return np.ascontiguousarray(two_bytes).view("<f2").astype(np.float32)


FORMATS = {
    "TQ1_0": BlockFormat(256, 54, _encode_tq1, _decode_tq1),
    "TQ2_0": BlockFormat(256, 66, _encode_tq2, _decode_tq2),
    "Q4_0": BlockFormat(32, 18, _encode_q4, _decode_q4),
}
