"""A field of full size as it leaves for a phone: what graphs from camera to pixels weigh, and how true they are."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from ....hub_models.rendering.cameras import intrinsics
from ....pipelines.export.back_ends import ExportJob, artefact, back_end_module
from ....pipelines.export.export_bundle import bytes_of
from ....pipelines.export.exporter_config import dummy_inputs
from ....pipelines.export.methods import export_of
from ....pipelines.export.parity import compare
from ....pipelines.pipeline_lightspeed import LightSpeedPipeline
from ....pipelines.view_ranges import GridViews
from ...benchmark import Run
from ...exported import RUNTIMES
from ...results import Row
from .graphs import FAR, FIELD_OF_VIEW, Frame, lightspeed_view
from .parameters import HALF_BYTES, LARGEST, PUBLISHED
from .settings import Settings

WEIGHED = {
    ("onnx", "int8"): ("its grids and convolutions in 8 bits", LARGEST),
    ("onnx", "fp16"): ("in half precision", None),
    ("executorch", "int8"): ("its grids in 8 bits and the rest in float32", LARGEST),
}
"""Back end and precision -> in what its numbers are kept, and the most megabytes that it should take."""
PARITY, CAMERAS = 1e-3, 3


def measure_bundle(settings: Settings, run: Run) -> Iterator[Row]:
    """Bytes of the graph in each form, and the largest difference of a pixel in float32; weights are random."""
    frame = settings.bundle
    shown = f"pictures of {frame.width}x{frame.height} pixels by a field of the preset {frame.preset}"
    pipeline = frontal_pipeline(frame)
    with TemporaryDirectory(prefix="pocket-bundle-") as scratch:
        for (back_end, precision), (kept, most) in WEIGHED.items():
            path = export_graph(pipeline, back_end, precision, Path(scratch))
            yield run.row(
                f"bundle-{back_end}-{precision}-bytes",
                f"One graph for {RUNTIMES[back_end]} from cameras to {shown}, {kept}, takes so many bytes.",
                measured=bytes_of(path) / 1e6, unit="MB", better="lower", target=most, size="paper", hardware=None,
                rival=f"the parameters of MobileR2L at {frame.tail} in half precision",
                rival_measured=HALF_BYTES * PUBLISHED[frame.tail] / 1e6,
            )  # fmt: skip
        yield run.row(
            "bundle-onnx-parity",
            f"A graph in float32 makes in {RUNTIMES['onnx']} of cameras the same {shown} as the field in torch: the "
            "largest difference of a value in [0, 1].",
            measured=largest_difference(pipeline, export_graph(pipeline, "onnx", "fp32", Path(scratch))), unit="of 1",
            better="lower", target=PARITY, size="paper", n=CAMERAS, seed=0,
        )  # fmt: skip


def frontal_pipeline(frame: Frame) -> LightSpeedPipeline:
    """A random field looked at from a grid of cameras, whose batch norms know what they are given.

    Norms that know nothing make pictures of one grey, which every graph shows.
    """
    field = lightspeed_view(frame).field.requires_grad_(False)
    focal = float(intrinsics(FIELD_OF_VIEW, frame.height, frame.width)[1, 1])
    views = GridViews(
        viewmat=tuple(torch.eye(4).flatten().tolist()), half_width=1.0, half_height=1.0, focus=FAR,
        focal=(focal, focal), width=frame.width, height=frame.height,
    )  # fmt: skip
    for module in field.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    camera = views.camera(0.0, 0.0)
    field.train().show(camera.viewmats, camera.Ks, frame.height, frame.width)
    return LightSpeedPipeline(field.eval(), views.to_config())


def export_graph(pipeline: LightSpeedPipeline, back_end: str, precision: str, folder: Path) -> Path:
    """The file of a field of one slab, as `export_pipeline` writes it."""
    export = export_of(pipeline)
    (component,) = export.contract(pipeline).components
    network = export.modules(pipeline)[component.name]
    path = artefact(folder, back_end, f"{component.name}-{precision}")
    job = ExportJob(network, component, precision, dummy_inputs(component), calibration=[])
    back_end_module(back_end, precision).export(job, path)
    return path


@torch.no_grad()
def largest_difference(pipeline: LightSpeedPipeline, graph: Path) -> float:
    """Between pictures of an ONNX graph and those of the field, along a path through its range."""
    cameras = pipeline.view_range.path(CAMERAS)
    (component,) = export_of(pipeline).contract(pipeline).components
    run = back_end_module("onnx").load(graph, component)
    wanted = pipeline.field.show(cameras.viewmats, cameras.Ks, cameras.height, cameras.width)
    return compare(run(cameras.viewmats.numpy(), cameras.Ks.numpy()), [wanted.numpy()]).max_abs
