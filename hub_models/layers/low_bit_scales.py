"""Scales of low-bit weights by alternating optimisation (BitsFusion, arXiv 2406.04333, section 4.1)."""

import ctypes
from pathlib import Path

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from .compiled_twin import compiled_twin
from .low_bit_levels import LARGEST_SCALE, SMALLEST_SCALE, Levels

ITERATIONS = 10
SOURCE = Path(__file__).with_name("low_bit.cpp")


def alternating_scales(
    weight: Float[Tensor, "rows ..."], levels: Levels, iterations: int = ITERATIONS
) -> Float32[Tensor, " rows"]:
    """A scale a row for which levels times scale come near to the weights in squared error (equations 4 and 5).

    The start is the smallest scale that clips no weight; then levels and scale are chosen in turn, each the best for
    the other. A row of zeros has the smallest scale there is; one whose levels are all 0 keeps the scale it had.

    Args:
        weight: any floating type; a row is an output channel.
        levels: what weights are rounded to.
        iterations: how often both are chosen; 0 gives the start, which is min-max quantisation.

    Raises:
        ValueError: a weight is NaN or infinite, or larger than float16 scales reach.
    """
    rows = weight.detach().float().flatten(1)
    start = torch.maximum(rows.amax(1) / levels.highest, rows.amin(1) / levels.lowest)
    if not bool((start <= LARGEST_SCALE).all()):  # NaN compares as False
        raise ValueError(f"weights must be finite and at most {LARGEST_SCALE} times 2^(bits-1), not {_worst(rows)}.")
    scales = start.clamp_min(SMALLEST_SCALE)
    library = compiled_twin(SOURCE)
    if library is not None and rows.device.type == "cpu":
        rows, scales = rows.contiguous(), scales.contiguous()
        library.low_bit_scales(
            ctypes.c_int(torch.get_num_threads()), *map(ctypes.c_int64, rows.shape), ctypes.c_float(levels.lowest),
            ctypes.c_float(levels.highest), ctypes.c_int(iterations), ctypes.c_float(SMALLEST_SCALE),
            ctypes.c_void_p(rows.data_ptr()), ctypes.c_void_p(scales.data_ptr()),
        )  # fmt: skip
        return scales
    return _alternate(rows, scales, levels, iterations)


def _alternate(rows: Tensor, scales: Tensor, levels: Levels, iterations: int) -> Tensor:
    """What the compiled form is held to."""
    for _ in range(iterations):
        q = levels.of(rows, scales)
        along, square = (rows.double() * q).sum(1), q.square().sum(1, dtype=torch.float64)  # <w, q>, <q, q>
        fitted = (along / square).float().clamp_min(SMALLEST_SCALE)
        scales = torch.where(square > 0, fitted, scales)
    return scales


def _worst(rows: Tensor) -> float:
    odd = rows[~rows.isfinite()]
    return float(odd[0] if len(odd) else rows.abs().max())
