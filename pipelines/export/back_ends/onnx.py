"""ONNX: one file a component with its weights inside; runs in ONNX Runtime, on phones and in a browser."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...library_chatter import quiet
from ..contract import ComponentContract
from ..exporter_config import dynamic_axes
from ..unsupported import unsupported
from . import ArrayFunction, ExportJob

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATED = ("int8",)
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
MAX_BATCH = None
OPSET = 20
INT8_OPERATORS = ["Conv", "MatMul", "Gemm"]
MAX_INSIDE = 2_000_000_000
"""Bytes of weights that fit into one file: protobuf ends at 2 GiB."""


def can_run() -> str | None:
    """None: ONNX Runtime runs wherever Python does."""
    return None


def prepare() -> None:
    """Imports what runs the files."""
    import onnxruntime  # noqa: F401


def export(job: ExportJob, path: Path) -> None:
    """Writes a component, batch left open.

    fp16 keeps inputs and outputs in float32, and whatever weights the network itself keeps there. int8 quantises
    convolutions and matrix products, weights a channel at a time and activations by the ranges that the calibration
    inputs show (QDQ); the rest stays float32. Without such inputs it keeps gathered grids and the weights of
    convolutions in 8 bits and computes in float32.

    Raises:
        ValueError: for an operator that ONNX does not have, naming it, or weights that do not fit into one file.
    """
    size = sum(value.numel() * value.element_size() for value in job.module.state_dict().values())
    if size > MAX_INSIDE:
        raise ValueError(f"{job.component.name} has {size / 1e9:.1f} GB of weights, but one ONNX file holds 2 GB.")
    if job.precision == "int8" and job.calibration:
        with tempfile.TemporaryDirectory(prefix=".int8-", dir=path.parent) as scratch:
            plain = Path(scratch) / "plain.onnx"
            _write_float(job, plain)
            _quantize(job, plain, path)
    elif job.precision == "int8":
        from ..eight_bit_weights import eight_bit_weights

        _write_float(replace(job, module=eight_bit_weights(job.module)), path)
    elif job.precision == "fp16":
        _write_half(job, path)
    else:
        _write_float(job, path)


def load(path: Path, component: ComponentContract, threads: int | None = None) -> ArrayFunction:
    """A function that runs the file: arrays by position in, a list of arrays out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in component.inputs]

    def run(*arrays: "np.ndarray") -> "list[np.ndarray]":
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return run


def graph_text(path: Path) -> str:
    """Operators with their wiring, one a line, without weights."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return "\n".join(f"{node.op_type} {' '.join(node.input)} -> {' '.join(node.output)}" for node in graph.node)


def _write_half(job: ExportJob, path: Path) -> None:
    from ..half_precision import Halved

    halved = Halved(job.module)
    if halved.keeps_single:
        _write(halved, (_open_axes(job),), job, path)  # all tensors are one argument of it
    else:
        _write_float(job, path)
        _halve(path)


def _write_float(job: ExportJob, path: Path) -> None:
    _write(job.module, _open_axes(job), job, path)


def _open_axes(job: ExportJob) -> tuple[dict[int, Any], ...]:
    import torch

    batch = torch.export.Dim("batch", min=1, max=2**31 - 1)
    return tuple({axis: batch for axis in dynamic_axes(spec)} for spec in job.component.inputs)


def _write(module: "nn.Module", shapes: tuple[Any, ...], job: ExportJob, path: Path) -> None:
    """In the precision of the module's weights."""
    import torch

    with quiet():
        try:
            program = torch.onnx.export(
                module,
                job.example,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                input_names=[spec.name for spec in job.component.inputs],
                output_names=[spec.name for spec in job.component.outputs],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise unsupported(job.component.name, "ONNX", error, "`--to executorch`") from error
        program.save(str(path), external_data=False)
    _strip(path)


def _strip(path: Path) -> None:
    """Drops the exporter's notes on each node, which are a quarter of a small file and name places on this disk."""
    import onnx

    model = onnx.load(path)
    for item in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    onnx.save(model, path)


def _halve(path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def _quantize(job: ExportJob, source: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [spec.name for spec in job.component.inputs]

    class Recorded(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(job.calibration)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {name: t.numpy() for name, t in zip(names, row, strict=True)}

    with quiet():
        prepared = source.with_name("prepared.onnx")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Recorded(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=INT8_OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
