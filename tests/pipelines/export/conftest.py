"""A tiny pipeline of random weights, saved as a user's own folder, and its bundles: exported once for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bundles import made_once, need_back_end

from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from pocket_diffusers.pipelines.export import export_bundle
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.export.measurement import measure
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import save_repository


@pytest.fixture(scope="session")
def folder(components: Callable[..., dict], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user who trained a model of their own has; one stage, for exporters take their time for every operator."""
    parts = components("l")
    parts["unet"] = SnapGenUNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(16,), layers_per_block=1,
        transformer_layers_per_block=(1,), mid_transformer_depth=0, attention_head_dim=8,
        cross_attention_dim=parts["unet"].config.cross_attention_dim, temb_dim=32, norm_num_groups=8,
    )  # fmt: skip
    return save_repository(SnapGenPipeline(**parts), tmp_path_factory.mktemp("own") / "mine", dtype=torch.float32)


@pytest.fixture(scope="session")
def original(folder: Path) -> SnapGenPipeline:
    pipeline = SnapGenPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def onnx_bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(folder, "onnx", tmp_path_factory)


@pytest.fixture(scope="session")
def executorch_bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process measures for all three components: each takes six seconds to import ExecuTorch."""
    with pytest.MonkeyPatch.context() as patch:
        found: dict = {}
        patch.setattr(export_bundle, "measure", lambda *given: found or found.update(measure(*given)) or found)
        return _bundle(folder, "executorch", tmp_path_factory)


def _bundle(folder: Path, back_end: str, factory: pytest.TempPathFactory) -> Path:
    """Of the same weights in every process: they are drawn from one seed."""
    need_back_end(back_end)
    return made_once(
        f"tiny-{back_end}", factory, lambda place: export_pipeline("snapgen", str(folder), back_end, output=place)
    )
