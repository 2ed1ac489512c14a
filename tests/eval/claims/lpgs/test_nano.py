"""The nano scene's rows, of a tiny scene in its place, and what its bundles are asked for."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_lpgs import make_pipeline

from pocket_diffusers.eval import exported
from pocket_diffusers.eval.claims.lpgs.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lpgs.nano import NANO
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.training.recipe_lpgs import SCENE


@pytest.fixture
def settings(tmp_path):
    save_repository(make_pipeline(), tmp_path / "checkpoints" / NANO)
    world = replace(SCENE["nano"], image_size=16)
    return replace(BENCHMARK.settings, checkpoints=tmp_path / "checkpoints", world=world, back_ends=("onnx",))


def test_nano_rows(settings, tmp_path):
    rows = {row.id: row for row in BENCHMARK.measure("nano", tmp_path, settings)}
    assert list(rows) == ["nano-psnr", "nano-ssim", "nano-bytes", "nano-parents"]
    pipeline = LPGSPipeline.from_pretrained(settings.checkpoints / NANO)
    seen, held_out = settings.world.captures()
    drawn = [
        rasterize_gaussians(pipeline.gaussians(), one.posed.viewmats, one.posed.Ks, 16, 16, form="torch").rgb
        for one in (held_out, seen)
    ]
    psnrs = [
        -10 * math.log10(float((picture.clamp(0, 1) - one.posed.images).square().mean()))
        for picture, one in zip(drawn, (held_out, seen), strict=True)
    ]
    psnr = rows["nano-psnr"]
    assert (psnr.measured, psnr.rival_measured) == (
        pytest.approx(psnrs[0], abs=0.01),
        pytest.approx(psnrs[1], abs=0.01),
    )
    assert psnr.n == 4 and -1 <= rows["nano-ssim"].measured <= 1
    pipeline.to_container(tmp_path / "a.lpgs")
    pipeline.to_spz(tmp_path / "a.spz")
    size, parents = rows["nano-bytes"], rows["nano-parents"]
    assert size.measured == (tmp_path / "a.lpgs").stat().st_size
    assert size.rival_measured == (tmp_path / "a.spz").stat().st_size
    assert (parents.measured, parents.rival_measured) == (120, 360)


def test_bundles_are_judged_as_the_scene_itself_is(settings, tmp_path, monkeypatch):
    posed = settings.world.captures()[1].posed

    class Off:
        """A bundle whose pictures are off by a tenth where they can be."""

        def __call__(self, cameras, output_type):
            assert output_type == "pt" and (cameras.width, cameras.height) == (16, 16)
            assert torch.equal(cameras.viewmats, posed.viewmats) and torch.equal(cameras.Ks, posed.Ks)
            return SimpleNamespace(images=posed.images + torch.where(posed.images > 0.5, -0.1, 0.1))

    score = exported.shown_score(Off(), posed)
    assert score == (pytest.approx(20, abs=1e-4), None, 4)
    monkeypatch.setattr(exported, "export_pipeline", lambda slug, model, back_end, precision, output: precision)
    monkeypatch.setattr(exported, "load_bundle", lambda bundle: Off())
    monkeypatch.setattr(exported, "measure_storage", lambda bundle: SimpleNamespace(weight_bytes=2_000_000))
    rows = {row.id: row for row in BENCHMARK.measure("exported", tmp_path, settings)}
    assert list(rows) == ["exported-onnx-fp32-psnr", "exported-onnx-int8-psnr", "exported-onnx-int8-bytes"]
    fp32, nano = rows["exported-onnx-fp32-psnr"], BENCHMARK.measure("nano", tmp_path, settings)[0]
    assert (fp32.measured, fp32.unit, fp32.n) == (pytest.approx(20, abs=1e-3), "dB", 4)
    assert fp32.rival_measured == nano.measured and "pictures that it never saw" in fp32.claim
