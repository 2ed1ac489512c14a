"""Rows of fits to pictures."""

from dataclasses import replace

import pytest

from pocket_diffusers.eval.claims.lpgs import pictures
from pocket_diffusers.eval.claims.lpgs.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lpgs.world_fits import FULL, PLAIN, WITHOUT, WorldFit
from pocket_diffusers.training.recipe_lpgs import SCENE

WORLD, ABLATED = (replace(SCENE["nano"], image_size=side) for side in (16, 24))
SETTINGS = replace(BENCHMARK.settings, world=WORLD, ablated=ABLATED, seeds=2)


def measure(name, output, monkeypatch, fits, settings=SETTINGS):
    def world_fits(names, settings, path):
        assert path.name == f"{name}.json"
        return {name: fits[name] for name in names}

    monkeypatch.setattr(pictures, "world_fits", world_fits)
    return {row.id: row for row in BENCHMARK.measure(name, output, settings)}


def fits(name, psnrs, **values):
    defaults = {"ssim": 0.5, "bytes": {"lpgs": 50_000}, "gaussians": 1000}
    return [WorldFit(name=name, seed=seed, psnr=psnr, **{**defaults, **values}) for seed, psnr in enumerate(psnrs)]


def test_pictures_rows_are_means_over_seeds_beside_plain_splats(tmp_path, monkeypatch):
    plain = fits(PLAIN, (25.0, 25.2), bytes={"ply": 800_000, "spz": 100_000}, ssim=0.7)
    rows = measure("pictures", tmp_path, monkeypatch, {FULL: fits(FULL, (24.6, 25.2)), PLAIN: plain})
    assert list(rows) == [
        "pictures-psnr", "pictures-ssim", "pictures-difference", "pictures-share-ply", "pictures-share-spz",
        "pictures-bytes",
    ]  # fmt: skip
    psnr = rows["pictures-psnr"]
    assert (psnr.measured, psnr.rival_measured, psnr.n) == (pytest.approx(24.9), pytest.approx(25.1), 2)
    assert psnr.interval == pytest.approx((24.9 - 12.7062 * 0.3, 24.9 + 12.7062 * 0.3), rel=1e-4)
    difference = rows["pictures-difference"]
    assert (difference.measured, difference.target, difference.passed) == (pytest.approx(-0.2), -0.3, True)
    assert rows["pictures-ssim"].ratio == pytest.approx(5 / 7, rel=1e-3)
    share, spz = rows["pictures-share-ply"], rows["pictures-share-spz"]
    assert (share.measured, share.target, share.passed) == (0.0625, 0.1, True)
    assert (spz.measured, spz.target) == (0.5, None)
    assert (rows["pictures-bytes"].measured, rows["pictures-bytes"].rival_measured) == (50_000, 800_000)
    assert "still scene 2 of PocketWorld's split test, 12 pictures of 16x16 pixels to learn from and 4" in psnr.claim


def test_ablation_rows_are_differences_seed_by_seed(tmp_path, monkeypatch):
    made = {FULL: fits(FULL, (24.0, 26.0))}
    made |= {part: fits(part, (23.0 - number, 25.5 - number)) for number, part in enumerate(WITHOUT)}
    rows = measure("ablation", tmp_path, monkeypatch, made)
    assert "pictures of 24x24 pixels" in rows["ablation-full"].claim
    assert list(rows) == ["ablation-full", *(f"ablation-without-{part}" for part in WITHOUT)]
    assert rows["ablation-full"].measured == 25
    for number, part in enumerate(WITHOUT):
        row = rows[f"ablation-without-{part}"]
        assert row.measured == -0.75 - number and row.better == "lower"
        assert row.interval[0] < row.measured < row.interval[1]
    published = {id: row.published for id, row in rows.items() if row.published is not None}
    assert published == {"ablation-without-contraction": -0.8, "ablation-without-tree-manipulation": -0.5}


def test_a_single_seed_has_no_interval(tmp_path, monkeypatch):
    made = {FULL: fits(FULL, (24.0,))} | {part: fits(part, (23.0,)) for part in WITHOUT}
    rows = measure("ablation", tmp_path, monkeypatch, made, replace(SETTINGS, seeds=1))
    assert all(row.interval is None and row.n == 1 and "1 seed." in row.claim for row in rows.values())
