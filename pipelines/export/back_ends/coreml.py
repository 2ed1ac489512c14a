"""Core ML: one .mlpackage a component for iPhone, iPad and Mac; converted anywhere, run on macOS only."""

import contextlib
import io
import logging
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...library_chatter import quiet
from ..contract import ComponentContract
from ..unsupported import unsupported
from . import ArrayFunction, ExportJob

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".mlpackage"
PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATED = ()
PACKAGES = ("torch", "coremltools")
MAX_BATCH = 1
"""The converter takes no open batch through a group norm, and the Neural Engine wants fixed sizes."""


def prepare() -> None:
    """Imports the converter."""
    with quiet():
        import coremltools

    logging.getLogger(coremltools.__name__).setLevel(logging.ERROR)


def can_run() -> str | None:
    """Core ML itself is part of macOS."""
    return None if platform.system() == "Darwin" else "Core ML runs on macOS only"


def export(job: ExportJob, path: Path) -> None:
    """Writes a component for a batch of 1, for iOS 17 and macOS 14 on.

    fp16 computes in half precision, inputs and outputs stay float32. int8 stores weights as 8-bit numbers, a scale for
    each channel, and computes in half precision: Core ML's weight-only form, which needs no calibration. Gathered grids
    are in 8 bits already.

    Raises:
        ValueError: for an operator that Core ML does not have, naming it.
    """
    import coremltools as ct
    import numpy as np
    import torch

    from ..eight_bit_weights import eight_bit_grids

    _teach_alias()
    example = tuple(tensor[:MAX_BATCH] for tensor in job.example)
    module = eight_bit_grids(job.module) if job.precision == "int8" else job.module
    precision = ct.precision.FLOAT32 if job.precision == "fp32" else ct.precision.FLOAT16
    with quiet(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():  # the converter draws progress bars
        try:
            program = torch.export.export(module, example, strict=False)
            package = ct.convert(
                program.run_decompositions({}),
                inputs=_inputs(job.component),
                outputs=[ct.TensorType(name=spec.name, dtype=np.float32) for spec in job.component.outputs],
                compute_precision=precision,
                minimum_deployment_target=ct.target.iOS17,
                skip_model_load=True,
            )
            if job.precision == "int8":
                package = _quantized(package)
        except Exception as error:  # the converter raises whatever it likes
            raise unsupported(job.component.name, "Core ML", error, "`--to onnx` or `--to executorch`") from error
        package.short_description = job.component.purpose
        package.save(str(path))


def load(path: Path, component: ComponentContract, threads: int | None = None) -> ArrayFunction:
    """A function that runs the package on a Mac: arrays by position in, a list of arrays out."""
    import coremltools as ct

    model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_ONLY)

    def run(*arrays: "np.ndarray") -> "list[np.ndarray]":
        given = {spec.name: array for spec, array in zip(component.inputs, arrays, strict=True)}
        found = model.predict(given)
        return [found[spec.name] for spec in component.outputs]

    return run


def graph_text(path: Path) -> str:
    """Operators with their results, one a line, without weights."""
    import coremltools as ct

    functions = ct.utils.load_spec(str(path)).mlProgram.functions
    blocks = [block for function in functions.values() for block in function.block_specializations.values()]
    lines = [f"{op.type} -> {' '.join(out.name for out in op.outputs)}" for b in blocks for op in b.operations]
    return "\n".join(lines)


def _inputs(component: ComponentContract) -> list:
    import coremltools as ct
    import numpy as np

    shapes = [[MAX_BATCH if isinstance(size, str) else size for size in spec.shape] for spec in component.inputs]
    return [
        ct.TensorType(name=spec.name, shape=shape, dtype=np.dtype(spec.dtype).type)
        for spec, shape in zip(component.inputs, shapes, strict=True)
    ]


def _teach_alias() -> None:
    """Tells the converter that `alias`, which torch.export writes and it does not know, does nothing."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    @register_torch_op(override=True)
    def alias(context: Any, node: Any) -> None:
        context.add(context[node.inputs[0]], torch_name=node.name)


def _quantized(package: object) -> object:
    import coremltools.optimize.coreml as optimize

    config = optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
    return optimize.linear_quantize_weights(package, config=config)
