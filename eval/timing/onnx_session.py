"""A module as a graph in ONNX Runtime, as it would run on a device."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def onnx_call(module: nn.Module, inputs: Tensor) -> tuple[Callable[[], list[np.ndarray]], dict[str, Any]]:
    """What runs the module's graph on these inputs, in float32 on the CPU with torch's number of threads.

    Returns:
        The call, which gives the outputs; and the graph's sha256 and ONNX Runtime's version.

    Raises:
        ImportError: onnx or onnxruntime is missing (extra export).
    """
    import onnxruntime

    graph = onnx_graph(module, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: inputs.numpy()}
    facts = {"graph_sha256": hashlib.sha256(graph).hexdigest(), "onnxruntime": onnxruntime.__version__}
    return lambda: session.run(None, feed), facts


def onnx_graph(module: nn.Module, inputs: Tensor) -> bytes:
    """The module's graph with its weights, for inputs of exactly this shape."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        torch.onnx.export(module, (inputs,), path, dynamo=True, external_data=False, verbose=False)
        return path.read_bytes()
