"""Rows of fits that are made up."""

from pocket_diffusers.eval.claims.lightspeed import orbit
from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lightspeed.orbit_fits import DIVIDED, SINGLE, SPLATS, OrbitFit


def test_divide_and_conquer_stands_beside_both_rivals(tmp_path, monkeypatch):
    fits = {
        DIVIDED: OrbitFit(DIVIDED, 300.0, 2500, 28.0, 0.9, 7000, 3500),
        SINGLE: OrbitFit(SINGLE, 310.0, 2500, 24.5, 0.8, 7010, 3505),
        SPLATS: OrbitFit(SPLATS, 300.1, 4000, 29.0, 0.95, 3500, 12000),
    }
    monkeypatch.setattr(orbit, "orbit_fits", lambda settings, path: fits)
    rows = {row.id: row for row in BENCHMARK.measure("orbit", tmp_path)}
    assert rows["orbit-divided-psnr"].measured == 28 and rows["orbit-splats-ssim"].measured == 0.95
    assert rows["orbit-over-single"].measured == 3.5 and rows["orbit-over-splats"].measured == -1
    assert rows["orbit-bytes-splats"].ratio == 0.5 and rows["orbit-bytes-splats"].better == "lower"
    assert rows["orbit-seconds-single"].rival_measured == 310
    assert "clamped" in rows["orbit-single-psnr"].claim and "12,000 splats as SPZ" in rows["orbit-splats-psnr"].claim
    preset = BENCHMARK.settings.orbit
    assert f"split test from all around, {preset.num_pictures} pictures" in rows["orbit-divided-psnr"].claim
