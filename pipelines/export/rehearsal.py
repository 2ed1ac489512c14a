"""A real run of a pipeline before its export: what each network is given, to calibrate and to compare on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from .contract import PipelineContract
from .methods import Export

CALIBRATION_ROWS = 64
"""Different inputs of a real run that the ranges of each component's int8 are taken from.

With more the error falls no further. Of the text encoder of snapgen-nano in ONNX, calibrated on captions of PocketWorld
and compared on 256 others, three draws each:

    captions             5     16     64    128    256
    relative error  3.03 % 2.23 % 1.79 % 1.71 % 1.73 %
"""
PARITY_ROWS = 32
"""Inputs of a real run that parity is compared on, at most; none of them is one that ranges were taken from."""
HELD_OUT = slice(2, None, 3)
CALL_TOLERANCE = 1e-4
"""Between pictures of the pipeline and of what the contract describes. Threads and batches move the last bits of a
network, and four steps with guidance amplify them, to 2e-5 with two threads; another call differs far more."""

FEW, MANY = 6, CALIBRATION_ROWS + PARITY_ROWS
"""Samples of a rehearsal, and of one that calibrates: every network runs once a sample or more often."""

Rows = list[tuple[Tensor, ...]]
"""Inputs of a component, each of batch 1."""


@dataclass(frozen=True)
class RehearsedRows:
    """What a real run gave to a component.

    Attributes:
        calibration: for the ranges of int8; empty where nothing is calibrated.
        trials: for parity.
    """

    calibration: Rows
    trials: Rows


def rehearse(
    export: Export,
    pipeline: DiffusionPipeline,
    contract: PipelineContract,
    networks: Mapping[str, nn.Module],
    calibrated: bool,
) -> dict[str, RehearsedRows]:
    """Runs the pipeline as the contract describes it, on the original networks, and keeps what each was given.

    Args:
        export, pipeline, contract, networks: what is exported.
        calibrated: whether ranges are taken from the inputs, which makes a longer run.

    Raises:
        ValueError: when the contract describes another call, or a component met too few inputs to calibrate.
    """
    met: dict[str, dict[bytes, tuple[Tensor, ...]]] = {name: {} for name in networks}

    def recorder(name: str) -> Callable[..., Sequence[Tensor]]:
        def run(*tensors: Tensor) -> Sequence[Tensor]:
            for index in range(len(tensors[0])):
                row = tuple(tensor[index : index + 1].clone() for tensor in tensors)
                met[name].setdefault(_digest(row), row)  # an input that is met again says nothing new
            return as_tuple(networks[name](*tensors))

        return run

    parts = {name: getattr(pipeline, name) for name in contract.parts}
    assembled = export.assemble(contract, {name: recorder(name) for name in networks}, parts)
    assembled.set_progress_bar_config(disable=True)
    described, drawn = (export.rehearse(one, range(FEW)) for one in (assembled, pipeline))
    if not np.allclose(described, drawn, atol=CALL_TOLERANCE, rtol=0):
        raise ValueError(f"{contract.slug}'s contract describes another call than the pipeline's: this is a fault.")
    if not calibrated:
        return {name: RehearsedRows([], _spread(list(rows.values()), PARITY_ROWS)) for name, rows in met.items()}
    for start in range(FEW, MANY, FEW):  # few at a time, for memory
        export.rehearse(assembled, range(start, start + FEW))
    return {name: _parted(name, _spread(list(rows.values()), MANY)) for name, rows in met.items()}


def _digest(row: tuple[Tensor, ...]) -> bytes:
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in row)).digest()


def _spread(rows: Rows, most: int) -> Rows:
    """At most so many of them, evenly from first to last."""
    if len(rows) <= most:
        return rows
    picks = torch.linspace(0, len(rows) - 1, most).round().int().tolist()
    return [rows[pick] for pick in picks]


def _parted(name: str, rows: Rows) -> RehearsedRows:
    """Inputs to calibrate on, and others to compare on."""
    held_out = range(len(rows))[HELD_OUT]
    calibration = [row for index, row in enumerate(rows) if index not in held_out]
    if len(calibration) < CALIBRATION_ROWS:
        raise ValueError(
            f"{name} needs {CALIBRATION_ROWS} different inputs to take the ranges of int8 from, "
            f"but the rehearsal gave it {len(calibration)}."
        )
    return RehearsedRows(calibration, rows[HELD_OUT])


def as_tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a network returned, as a tuple."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
