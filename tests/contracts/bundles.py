"""Export bundles that tests of several folders read, each exported once a run however many processes there are."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline

NEEDED = {"onnx": ("optimum", "onnx", "onnxscript", "onnxruntime"), "executorch": ("optimum", "executorch")}


def bundle_of(model: str, back_end: str, factory: pytest.TempPathFactory) -> Path:
    """The bundle in fp32 of weights that come with the package, such as "snapgen-nano"; tests leave it as it is."""
    slug = model.partition("-")[0]
    need_back_end(back_end)
    return made_once(f"{model}-{back_end}", factory, lambda place: export_pipeline(slug, model, back_end, output=place))


def need_back_end(back_end: str) -> None:
    """Leaves a test out where a back end is not installed."""
    for package in NEEDED[back_end]:
        pytest.importorskip(package, reason="needs the extra 'export'")


def made_once(name: str, factory: pytest.TempPathFactory, make: Callable[[Path], object]) -> Path:
    """What `make` writes into a folder of the whole run; pytest gives each of its processes a folder in that one."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    place = run / "bundles" / name
    place.parent.mkdir(exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not place.exists():
            make(place)
    return place


def reuse_graphs(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets exports of the same weights to ONNX begin with a bundle's graphs in float32: tracing is what takes long."""

    def copy(job: ExportJob, path: Path) -> None:
        shutil.copyfile(bundle / f"{job.component.name}.onnx", path)

    monkeypatch.setattr(back_end_module("onnx"), "_write_float", copy)
