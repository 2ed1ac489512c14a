"""The curve on a scene of a few hundred splats: files that fit, pictures compared, and rows beside rivals."""

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.benchmark import MissingData
from pocket_diffusers.eval.claims.lpgs import curve
from pocket_diffusers.eval.claims.lpgs.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lpgs.curve import CODED, OURS, PRUNED, Source
from pocket_diffusers.eval.claims.lpgs.scenes import SplatScene
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.pruning import prune
from pocket_diffusers.hub_models.rendering.splat_files import write_splats
from pocket_diffusers.pipelines.files import read_json
from pocket_diffusers.pipelines.splat_compression import cameras_around, covered_psnr

BUDGET = 18_000
SCENE = SplatScene("ball", "a ball", "ball.ply", fits={BUDGET: 3}, bytes=(6000,))
SETTINGS = replace(BENCHMARK.settings, scenes=(SCENE,), regression_steps=4, fit_side=24, curve_side=32)


@pytest.fixture
def ball(tmp_path, monkeypatch):
    """The scene, where the benchmark looks for it."""
    draw = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(400, 3, generator=draw), dim=1)
    splats = Gaussians(
        means, torch.randn(400, 3, generator=draw) / 3 - 2.5, torch.randn(400, 4, generator=draw),
        torch.randn(400, generator=draw) + 1, torch.randn(400, 4, 3, generator=draw) / 2,
    )  # fmt: skip
    folder = tmp_path / "data" / "splats" / "playcanvas_engine"
    folder.mkdir(parents=True)
    write_splats(splats, folder / "ball.ply")
    monkeypatch.setenv("POCKET_DATA", str(tmp_path / "data"))
    return splats


@pytest.fixture
def small_importance(monkeypatch):
    """What splats paint, judged in small pictures."""

    def around(gaussians, up, side=48, frames=1):
        return cameras_around(gaussians, up, side, frames)

    monkeypatch.setattr(curve, "cameras_around", around)


def test_every_file_is_made_measured_and_beside_its_rivals(ball, small_importance, tmp_path):
    out = tmp_path / "out"
    rows = {row.id: row for row in BENCHMARK.run(["curve"], out, SETTINGS)}
    formats = [f"curve-ball-{name}-{what}" for name in ("spz", "sog", "compressed-ply") for what in ("bytes", "psnr")]
    whats = ("bytes", "psnr", "over-pruned", "splatz", "ssim", "encode", "decode", "renders")
    assert list(rows) == formats + [f"curve-ball-{BUDGET}-{what}" for what in whats]
    kept = {(p["codec"], p["budget"]): p for p in read_json(out / "lpgs" / "curve-ball.json")["measurements"]}
    ours = kept[OURS, BUDGET]
    assert ours["bytes"] <= BUDGET and ours["gaussians"] % 3 == 0 and ours["encode_seconds"] > 0
    assert kept.keys() == {
        *((name, None) for name in ("spz", "sog", "compressed-ply")), (OURS, BUDGET),
        *((codec, size) for codec in (PRUNED, CODED) for size in (ours["bytes"], 6000)),
    }  # fmt: skip
    assert all(p["bytes"] <= p["budget"] for p in kept.values() if p["budget"])
    psnr = rows[f"curve-ball-{BUDGET}-psnr"]
    assert (psnr.n, psnr.measured) == (30, pytest.approx(ours["psnr"], rel=1e-5)) and psnr.target is None
    assert psnr.rival_measured == pytest.approx(kept[PRUNED, ours["bytes"]]["psnr"], rel=1e-5)
    assert rows[f"curve-ball-{BUDGET}-splatz"].rival_measured > psnr.measured, "four steps fit nothing"
    assert rows[f"curve-ball-{BUDGET}-over-pruned"].measured == pytest.approx(
        psnr.measured - psnr.rival_measured, abs=1e-3
    )
    assert "30 held-out cameras" in psnr.claim and "32x32 pixels over black" in psnr.claim
    size = rows[f"curve-ball-{BUDGET}-bytes"]
    assert size.passed and size.target == BUDGET and size.rival_measured == rows["curve-ball-spz-bytes"].measured
    assert 0 < rows[f"curve-ball-{BUDGET}-ssim"].measured < 1
    with Image.open(out / "lpgs-curve.png") as picture:
        assert picture.width > 600
    assert sorted(path.name for path in out.iterdir()) == ["lpgs", "lpgs-curve.png", "lpgs.json"], "no fit is left"


def test_a_run_goes_on_with_fits_and_files_that_are_there(ball, small_importance, tmp_path, monkeypatch):
    drafts = BENCHMARK.drafts(tmp_path)
    fit = curve.fit_splats
    whole, how = Source(SCENE, SETTINGS, drafts).whole, curve.LPGSFit(max_bytes=BUDGET, steps=3, regression_steps=4)
    made, _ = fit(whole, how, side=24, output=drafts / f"fit-ball-{BUDGET}", progress=False)
    found = {}

    def resumed(*given, **options):
        found["made"] = fit(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(curve, "fit_splats", resumed)
    with pytest.raises(KeyboardInterrupt):
        BENCHMARK.run(["curve"], tmp_path, SETTINGS)
    assert found["made"][0].data == made.data, "every step was there"
    monkeypatch.setattr(curve, "fit_splats", fit)
    formats = {name: None for name in curve.FORMATS}
    monkeypatch.setattr(
        curve, "CODECS", {name: codec for name, codec in curve.CODECS.items() if name not in formats} | formats
    )
    assert BENCHMARK.run(["curve"], tmp_path, SETTINGS), "whole files were in the record"
    assert not drafts.exists()


def test_rivals_fill_their_bytes_with_what_is_seen_most(ball, small_importance, tmp_path):
    source = Source(SCENE, SETTINGS, tmp_path)
    coded = curve.CODECS[PRUNED](source, 5000)
    count, importance = len(coded.gaussians), source.importance[0]
    assert coded.bytes <= 5000 < curve._save(prune(ball, importance, count + 2), ".spz").bytes
    kept = curve._save(prune(ball, importance, count), ".spz").gaussians
    assert torch.equal(kept.means, coded.gaussians.means)
    point = source.measure(PRUNED, 5000)
    _, held_out = cameras_around(ball, "-y", 32)
    assert point.psnr == pytest.approx(covered_psnr(ball, coded.gaussians, held_out), abs=0.01)
    assert point.bytes == coded.bytes and math.isfinite(point.draw_seconds)


def test_targets_are_those_of_the_scenes_that_are_measured():
    names = {scene.name: scene for scene in BENCHMARK.settings.scenes}
    assert curve.TARGETS == {("biker", 897_000): (29.0, 2.0)} and 897_000 in names["biker"].fits
    assert names["playbot"].level == 3 and "level" in names["playbot"].words


def test_a_scene_that_is_not_here_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKET_DATA", str(tmp_path))
    with pytest.raises(
        MissingData, match="ball.ply is missing: set POCKET_DATA to a folder with splats/playcanvas_engine"
    ):
        BENCHMARK.run(["curve"], tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
