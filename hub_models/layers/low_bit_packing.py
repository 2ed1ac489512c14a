"""Low-bit weights in 64-bit words, and back: packing and decoding, compiled where a compiler is."""

import ctypes
import math
from ctypes import c_int, c_int64, c_void_p
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from .compiled_twin import compiled_twin
from .low_bit_levels import Levels, by_row
from .radix_packing import pack_digits, unpack_digits, words_for


def pack_weight(
    weight: Float32[Tensor, "rows ..."], scales: Float32[Tensor, " rows"], levels: Levels
) -> Int64[Tensor, " words"]:
    """The nearest levels of all weights in row-major order, `digits_per_word(levels.count)` to a word.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    if not all(math.isfinite(end) for end in map(float, weight.aminmax())):  # in one pass; NaN is both ends
        raise ValueError(f"weights must be finite, not {float(weight[~weight.isfinite()][0])}.")
    if not _is_compiled(levels, weight):
        return pack_weight_in_torch(weight, scales, levels)
    words = torch.empty(words_for(weight.numel(), levels.count), dtype=torch.int64)
    _call("low_bit_pack", levels, weight.numel(), weight.shape, weight.contiguous(), scales.contiguous(), words)
    return words


def decode_weight(
    words: Int64[Tensor, " words"],
    scales: Float32[Tensor, " rows"],
    shape: torch.Size,
    levels: Levels,
    out: Float32[Tensor, " weights"] | None = None,
) -> Float32[Tensor, "rows ..."]:
    """Levels times scales, which are exact in float32.

    Args:
        words: what `pack_weight` made; from anywhere else, `radix_packing.check_words` must have passed them.
        scales: with which they were packed.
        shape: of the weight.
        levels: of which it is made.
        out: memory to decode into, used where the compiled form serves; the result is a view of it.
    """
    if not _is_compiled(levels, words):
        return decode_weight_in_torch(words, scales, shape, levels)
    weight = torch.empty(shape.numel()) if out is None else out[: shape.numel()]
    _call("low_bit_decode", levels, shape.numel(), shape, words.contiguous(), scales.contiguous(), weight)
    return weight.view(shape)


def pack_weight_in_torch(weight: Tensor, scales: Tensor, levels: Levels) -> Tensor:
    """`pack_weight` in torch operations, which the compiled form is held to."""
    return pack_digits((levels.of(weight, scales) - levels.lowest).to(torch.uint8).flatten(), levels.count)


def decode_weight_in_torch(words: Tensor, scales: Tensor, shape: torch.Size, levels: Levels) -> Tensor:
    """`decode_weight` in torch operations, which the compiled form is held to."""
    digits = unpack_digits(words, shape.numel(), levels.count).view(shape)
    return digits.float().add_(levels.lowest).mul_(by_row(scales, digits))


def _library() -> ctypes.CDLL | None:
    return compiled_twin(Path(__file__).with_name("low_bit.cpp"))


def _is_compiled(levels: Levels, tensor: Tensor) -> bool:
    """Whether the compiled form serves, which is told bits alone and so knows the levels of `Levels` itself only."""
    return type(levels) is Levels and tensor.device.type == "cpu" and _library() is not None


def _call(name: str, levels: Levels, count: int, shape: torch.Size, *tensors: Tensor) -> None:
    numbers = c_int(torch.get_num_threads()), c_int(levels.bits), c_int64(count), c_int64(count // max(shape[0], 1))
    getattr(_library(), name)(*numbers, *(c_void_p(tensor.data_ptr()) for tensor in tensors))
