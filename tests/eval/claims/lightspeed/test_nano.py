"""The nano field's rows, of a tiny field in its place, and what its bundles are asked for."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from pocket_diffusers.eval import exported
from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lightspeed.nano import NANO
from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.pipelines.fitting.light_field_fitting import RayViews
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.training.recipe_lightspeed import FIELD


@pytest.fixture
def settings(tmp_path):
    torch.manual_seed(0)
    field = LightSpeedField(grid_resolutions=(3,), width=8, blocks=1, tail_channels=(4, 4, 4))
    save_repository(LightSpeedPipeline(field), tmp_path / "checkpoints" / NANO)
    orbit = replace(FIELD["nano"], scene=0, image_size=16, num_pictures=5, held_out=2)
    return replace(BENCHMARK.settings, checkpoints=tmp_path / "checkpoints", world=orbit, back_ends=("onnx",))


def test_nano_rows_and_their_pictures(settings, tmp_path):
    rows = {row.id: row for row in BENCHMARK.measure("nano", tmp_path, settings)}
    assert list(rows) == ["nano-psnr", "nano-ssim", "nano-bytes"]
    field = LightSpeedPipeline.from_pretrained(settings.checkpoints / NANO).field.eval()
    psnrs = []
    for captures in settings.world.captures()[::-1]:
        views = RayViews.of_pictures(captures.posed.select([0, 1]), 8)
        with torch.no_grad():
            error = (field(views.origins, views.directions) - views.images).square().mean()
        psnrs.append(-10 * math.log10(error))
    psnr = rows["nano-psnr"]
    assert (psnr.measured, psnr.rival_measured) == tuple(pytest.approx(value, abs=0.01) for value in psnrs)
    assert psnr.n == 2 and "scene 0 of PocketWorld's split test from all around, 5 pictures of 16x16" in psnr.claim
    weights = list((settings.checkpoints / NANO).rglob("*.safetensors"))
    assert rows["nano-bytes"].measured == pytest.approx(sum(path.stat().st_size for path in weights), rel=1e-5)
    with Image.open(tmp_path / "lightspeed-nano.png") as picture:
        assert picture.size == (2 * 16, 2 * 16)


def test_bundles_are_judged_as_the_field_itself_is(settings, tmp_path, monkeypatch):
    posed = settings.world.captures()[1].posed

    def off(cameras, output_type):
        """Pictures that are off by a tenth where they can be."""
        assert output_type == "pt" and torch.equal(cameras.viewmats, posed.viewmats)
        return SimpleNamespace(images=posed.images + torch.where(posed.images > 0.5, -0.1, 0.1))

    monkeypatch.setattr(exported, "export_pipeline", lambda slug, model, back_end, precision, output: precision)
    monkeypatch.setattr(exported, "load_bundle", lambda bundle: off)
    monkeypatch.setattr(exported, "measure_storage", lambda bundle: SimpleNamespace(weight_bytes=2_000_000))
    rows = {row.id: row for row in BENCHMARK.measure("exported", tmp_path, settings)}
    assert list(rows) == ["exported-onnx-fp32-psnr", "exported-onnx-int8-psnr", "exported-onnx-int8-bytes"]
    int8 = rows["exported-onnx-int8-psnr"]
    assert (int8.measured, int8.unit, int8.n) == (pytest.approx(20, abs=1e-3), "dB", 2)
    assert int8.rival_measured is not None and "pictures that it never saw" in int8.claim
