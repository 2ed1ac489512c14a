"""A tiny pipeline of random weights, saved as a user's own folder, and its bundles: exported once for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import save_repository


@pytest.fixture(scope="session")
def folder(components: Callable[..., dict], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user who trained a model of their own has."""
    pipeline = SnapGenPipeline(**components("l"))
    return save_repository(pipeline, tmp_path_factory.mktemp("own") / "mine", dtype=torch.float32)


@pytest.fixture(scope="session")
def original(folder: Path) -> SnapGenPipeline:
    pipeline = SnapGenPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def onnx_bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("optimum", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra 'export'")
    return export_pipeline("snapgen", str(folder), "onnx", "fp32", tmp_path_factory.mktemp("onnx") / "bundle")


@pytest.fixture(scope="session")
def executorch_bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("optimum", "executorch"):
        pytest.importorskip(package, reason="needs the extra 'export'")
    output = tmp_path_factory.mktemp("executorch") / "bundle"
    return export_pipeline("snapgen", str(folder), "executorch", "fp32", output)
