"""The formats that a component can be exported to. Each is a module of this folder with the same few names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .... import unknown_name
from ..contract import ComponentContract

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

BACK_ENDS = ("onnx", "executorch", "coreml")
"""Each is a module with

    SUFFIX       of its files
    PRECISIONS   that it can write
    CALIBRATED   those of them that take ranges from the inputs of a real run
    PACKAGES     whose versions decide the result
    MAX_BATCH    largest batch it accepts, None for any
    export(job, path)            writes a component
    graph_text(path) -> str      operators of the written graph, for its hash
    load(path, component, threads) -> function of arrays by position that returns a list of arrays
    prepare()                    imports what runs the files
    can_run() -> str | None      why this machine cannot run the files, None where it can
"""

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class ExportJob:
    """A component on its way out.

    Attributes:
        module: float32, on the CPU, in evaluation mode, taking the contract's tensors by position.
        component: its contract.
        precision: one of the back end's `PRECISIONS`.
        example: inputs of batch 2, for tracing.
        calibration: inputs that a real run gave to it, for the ranges of int8; where there are none, int8 is of weights
            alone.
    """

    module: "nn.Module"
    component: ComponentContract
    precision: str
    example: "tuple[Tensor, ...]"
    calibration: "Sequence[tuple[Tensor, ...]]"


ArrayFunction = Callable[..., "list[np.ndarray]"]
"""Runs an exported component: arrays by position in, a list of arrays out."""


def back_end_module(name: str, precision: str = "fp32") -> ModuleType:
    """The module of a back end.

    Raises:
        ValueError: for an unknown back end, or a precision that it does not have.
    """
    if name not in BACK_ENDS:
        raise unknown_name("back end", name, BACK_ENDS)
    module = import_module(f".{name}", __package__)
    if precision not in module.PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(module.PRECISIONS)} for {name}, not {precision!r}.")
    return module


def artefact(folder: Path, back_end: str, component: str) -> Path:
    """Where a bundle keeps a component: a file, or a folder for Core ML."""
    return Path(folder) / f"{component}{back_end_module(back_end).SUFFIX}"
