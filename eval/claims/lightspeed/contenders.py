"""What is timed of fields: one graph from a camera's pose to its pixels in ONNX Runtime, and nothing else in memory."""

from pathlib import Path

from ...timing.contender_process import IMPORTS, Work, held_memory_mb


def build_graph(graph: str, threads: int) -> Work:
    """A picture by the graph in the file of this name, from a camera at the origin.

    Raises:
        ImportError: onnxruntime is missing (extra export).
    """
    import numpy as np
    import onnxruntime

    imports = held_memory_mb()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (pose,) = session.get_inputs()
    feed = {pose.name: np.eye(4, dtype=np.float32)[None]}
    facts = {IMPORTS: imports, "graph_bytes": Path(graph).stat().st_size, "onnxruntime": onnxruntime.__version__}
    return Work(lambda: session.run(None, feed), facts)
