"""ExecuTorch: one .pte file a component, lowered for XNNPACK, for apps on phones and boards with a CPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...library_chatter import quiet
from ..contract import ComponentContract
from ..exporter_config import dynamic_axes
from ..unsupported import unsupported
from . import ArrayFunction, ExportJob

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".pte"
PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATED = ("int8",)
PACKAGES = ("torch", "executorch", "torchao")
MAX_BATCH = 2
"""One picture with guidance: a .pte reserves memory for its largest batch, and `load_bundle` splits larger ones."""


def prepare() -> None:
    """Imports what runs the files."""
    with quiet():
        import executorch.runtime  # noqa: F401


def can_run() -> str | None:
    """None where the XNNPACK kernels were built into the installed package."""
    from executorch.runtime import Runtime

    built = Runtime.get().backend_registry.is_available("XnnpackBackend")
    return None if built else "this build of executorch has no XNNPACK kernels"


def export(job: ExportJob, path: Path) -> None:
    """Writes a component for batches from 1 to `MAX_BATCH`.

    fp16 computes in half precision. Inputs and outputs stay float32, and so do the weights of convolutions and linear
    layers in the file, from which XNNPACK makes its own: it is no smaller. int8 quantises convolutions and linear
    layers, weights a channel at a time and activations by the ranges that the calibration inputs show (PT2E); the rest
    stays float32. Without such inputs it keeps gathered grids in 8 bits and computes in float32: XNNPACK has no form of
    convolutions whose weights alone are rounded.

    Raises:
        ValueError: for an operator that ExecuTorch does not have, naming it.
    """
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

    from ..eight_bit_weights import eight_bit_grids
    from ..half_precision import Halved

    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    shapes = tuple({axis: batch for axis in dynamic_axes(spec)} for spec in job.component.inputs)
    module = job.module
    if job.precision == "fp16":
        module, shapes = Halved(module), (shapes,)  # all tensors are one argument of it
    elif job.precision == "int8" and not job.calibration:
        module = eight_bit_grids(module)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, job.example, dynamic_shapes=shapes, strict=False)
            if job.precision == "int8" and job.calibration:
                quantized = _quantized(program.module(), job)
                program = torch.export.export(quantized, job.example, dynamic_shapes=shapes, strict=False)
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            written = edge.to_executorch(ExecutorchBackendConfig())
        except Exception as error:  # the passes raise whatever they like
            raise unsupported(job.component.name, "ExecuTorch", error, "`--to onnx`") from error
    path.write_bytes(written.buffer)
    _check_kernels(path, job.component.name)


def load(path: Path, component: ComponentContract, threads: int | None = None) -> ArrayFunction:
    """A function that runs the file: arrays by position in, a list of arrays out.

    `threads` sets the one pool of the process, so give it only where nothing else was loaded.
    """
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    if threads is not None:
        portable_lib._unsafe_reset_threadpool(threads)  # before loading: a loaded method keeps the pool that it saw
    with quiet():
        program = Runtime.get().load_program(path)
        method = program.load_method("forward")

    def run(*arrays: "np.ndarray") -> "list[np.ndarray]":
        assert program is not None  # the method reads the program's memory, so it must live as long
        outputs = method.execute([torch.from_numpy(array) for array in arrays])
        return [output.clone().numpy() for output in outputs]  # the next call writes over the method's own memory

    return run


def graph_text(path: Path) -> str:
    """Operators and delegates in the order in which they run, one a line, without weights."""
    plan = _plan(path)
    return "\n".join(_instruction(plan, entry.instr_args) for chain in plan.chains for entry in chain.instructions)


def operators(path: Path) -> list[str]:
    """Names of the operators that run outside the delegates, such as "aten::native_group_norm.out"."""
    return [f"{operator.name}.{operator.overload}".rstrip(".") for operator in _plan(path).operators]


def _plan(path: Path) -> Any:
    from executorch.exir._serialize._program import deserialize_pte_binary

    found = deserialize_pte_binary(path.read_bytes())
    return getattr(found, "program", found).execution_plan[0]


def _instruction(plan: Any, call: Any) -> str:
    if hasattr(call, "op_index"):
        operator = plan.operators[call.op_index]
        return f"{operator.name}.{operator.overload} {list(call.args)}"
    if hasattr(call, "delegate_index"):
        return f"{plan.delegates[call.delegate_index].id} {list(call.args)}"
    return type(call).__name__


def _check_kernels(path: Path, component: str) -> None:
    """Refuses a file with an operator that the runtime has no kernel for: it would fail in the app."""
    from executorch.runtime import Runtime

    missing = sorted(set(operators(path)) - Runtime.get().operator_registry.operator_names)
    if missing:
        path.unlink()
        raise ValueError(
            f"{component} cannot be exported to ExecuTorch: its runtime has no kernel for {', '.join(missing)}. "
            "Write it with other operators, or use `--to onnx`."
        )


def _quantized(graph: Any, job: ExportJob) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torch import ops
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    class Quantizer(XNNPACKQuantizer):
        def transform_for_annotation(self, model: Any) -> Any:
            """Nothing: numbers in sums and products, in those of indices too, would become float32 tensors."""
            return model

    quantizer = Quantizer()
    for operator in (ops.aten.conv2d.default, ops.aten.linear.default):  # sums and products lose too much in eight bits
        quantizer.set_operator_type(operator, get_symmetric_quantization_config(is_per_channel=True))
    _part_batch_norms(graph)
    prepared = prepare_pt2e(graph, quantizer)
    for row in job.calibration:
        prepared(*row)
    return convert_pt2e(prepared)


def _part_batch_norms(graph: Any) -> None:
    """Puts a copy between a convolution and a batch norm where something else, such as a shortcut, reads the former.

    PT2E folds every batch norm into the convolution before it, and the other readers would see its output normed.
    """
    from torch import ops

    for norm in graph.graph.find_nodes(op="call_function", target=ops.aten.batch_norm.default):
        source = norm.args[0]
        if len(source.users) > 1:
            with graph.graph.inserting_before(norm):
                copy = graph.graph.call_function(ops.aten.clone.default, (source,))
            copy.meta = dict(source.meta)
            norm.replace_input_with(source, copy)
    graph.recompile()
