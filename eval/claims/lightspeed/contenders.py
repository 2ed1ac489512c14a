"""What is timed of fields: a graph from pose to pixels in ONNX Runtime, and nothing else in memory; or fields in torch.

Nothing heavy is imported before it is needed, for the memory of a process is the contender's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ...timing.contender_process import IMPORTS, Work, held_memory_mb

if TYPE_CHECKING:
    from torch import Tensor


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


def build_field(weights: str, viewmat: list[list[float]], K: list[list[float]], side: int) -> Work:
    """A square picture by the light field in a folder, in torch."""
    from ....pipelines.pipeline_lightspeed import LightSpeedPipeline
    from ....pipelines.scene_cameras import Cameras

    imports = held_memory_mb()
    pipeline = LightSpeedPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    camera = Cameras(*_matrices(viewmat, K), side, side)
    return Work(lambda: pipeline(camera, output_type="pt").images, {IMPORTS: imports})


def build_teacher(weights: str, viewmat: list[list[float]], K: list[list[float]], side: int) -> Work:
    """The same picture by the radiance field in a folder, in torch."""
    from ....hub_models.radiance_lightspeed import LightSpeedRadianceField

    imports = held_memory_mb()
    teacher = LightSpeedRadianceField.from_pretrained(weights).eval()
    camera = _matrices(viewmat, K)
    return Work(lambda: teacher.render(*camera, side, side)[0], {IMPORTS: imports})


def _matrices(viewmat: list[list[float]], K: list[list[float]]) -> "tuple[Tensor, Tensor]":
    import torch

    return torch.tensor([viewmat]), torch.tensor([K])
