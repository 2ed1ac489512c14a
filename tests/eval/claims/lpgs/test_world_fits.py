"""Fits to a few small pictures: that each part is really removed, and that interrupted runs go on."""

import math
from dataclasses import replace

import pytest
import torch

from pocket_diffusers.eval.claims.lpgs import world_fits as module
from pocket_diffusers.eval.claims.lpgs.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lpgs.world_fits import FULL, PLAIN, WITHOUT, WorldScene, fit_world, world_fits
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.splat_files import read_splats, write_splats
from pocket_diffusers.pipelines.fitting import scene_lpgs
from pocket_diffusers.training.recipe_lpgs import SCENE

PRESET = replace(SCENE["nano"], steps=6, image_size=16, max_bytes=30_000)
SETTINGS = replace(BENCHMARK.settings, world=PRESET, seeds=2)


@pytest.fixture(scope="module")
def scene():
    return WorldScene(PRESET)


def psnr_by_hand(gaussians, posed):
    drawn = rasterize_gaussians(gaussians, posed.viewmats, posed.Ks, 16, 16, form="torch").rgb.clamp(0, 1)
    return -10 * math.log10(float((drawn - posed.images).square().mean()))


@pytest.mark.parametrize("name", [FULL, *WITHOUT])
def test_a_part_is_removed_and_nothing_else(scene, tmp_path, monkeypatch, name):
    made = []

    def encode(forest, steps, max_bytes):
        made.append((forest, scene_lpgs.encode_within(forest, steps, max_bytes)))
        return made[0][1]

    rules = []
    fit = module.ForestFit

    def objective(forest, views, rule, radius, rate):
        rules.append((rule, rate))
        return fit(forest, views, rule, radius, rate)

    monkeypatch.setattr(module, "encode_within", encode)
    monkeypatch.setattr(module, "ForestFit", objective)
    found = fit_world(scene, name, 0, tmp_path / "fit")
    ((forest, file),), ((rule, rate),) = made, rules
    config, seen = forest.config, scene.captures[0]
    kept = {key: config[key] for key in ("attention", "contraction", "encoding")}
    assert kept == {"attention": True, "contraction": "mipnerf360", "encoding": "hash"} | {
        "attention": {"attention": False}, "contraction": {"contraction": "box"},
        "hash-grid": {"encoding": "frequency"},
    }.get(name, {})  # fmt: skip
    assert (rule.trees is None) == (name == "tree-manipulation") and rate == PRESET.learning_rate
    inside = ((seen.positions - seen.positions.median(0).values).abs().amax(1) <= config["radius"]).float().mean()
    assert float(inside) == pytest.approx(0.99 if name == "contraction" else 0.5, abs=0.01)
    assert found.bytes == {"lpgs": len(file.data)} and len(file.data) <= 30_000
    with torch.no_grad():
        unpacked = module.decode_scene(file.data).expand()
    assert found.gaussians == len(unpacked)
    assert found.psnr == pytest.approx(psnr_by_hand(unpacked, scene.captures[1].posed), abs=0.01)


def test_plain_splats_begin_at_the_same_points_and_are_kept_whole(scene, tmp_path, monkeypatch):
    asked = {}

    def fit(views, start, settings, densification, radius, output, **running):
        made = fit_gaussians(views, start, settings, densification, radius, output, **running)
        asked.update(views=views, start=start, settings=settings, densification=densification, made=made)
        return made

    fit_gaussians = module.fit_gaussians
    monkeypatch.setattr(module, "fit_gaussians", fit)
    found = fit_world(scene, PLAIN, 1, tmp_path / "fit")
    seen, held_out = scene.captures
    assert torch.equal(asked["start"].means, seen.positions) and torch.equal(asked["views"].rgb, seen.posed.images)
    assert (asked["settings"].steps, asked["settings"].seed) == (6, 1)
    assert asked["densification"].max_splats == 3 * PRESET.fit().parents, "as many as trees may unpack to"
    write_splats(asked["made"], tmp_path / "a.ply")
    assert found.bytes["ply"] == (tmp_path / "a.ply").stat().st_size > found.bytes["spz"]
    assert found.psnr == pytest.approx(psnr_by_hand(read_splats(tmp_path / "a.ply"), held_out.posed), abs=0.01)


def test_fits_are_kept_seed_by_seed_and_none_is_made_again(tmp_path, monkeypatch):
    calls = []

    def fit(scene, name, seed, folder):
        calls.append((name, seed))
        if (name, seed) == (PLAIN, 1) and calls.count((PLAIN, 1)) == 1:
            raise KeyboardInterrupt
        folder.mkdir()
        return module.WorldFit(name, seed, 20.0 + seed, 0.5, {"lpgs": 10}, 3)

    monkeypatch.setattr(module, "fit_world", fit)
    (tmp_path / "drafts").mkdir()
    path = tmp_path / "drafts" / "pictures.json"
    with pytest.raises(KeyboardInterrupt):
        world_fits((FULL, PLAIN), SETTINGS, path)
    assert calls == [(FULL, 0), (PLAIN, 0), (FULL, 1), (PLAIN, 1)]
    found = world_fits((FULL, PLAIN), SETTINGS, path)
    assert calls[4:] == [(PLAIN, 1)] and [one.psnr for one in found[PLAIN]] == [20, 21]
    assert [entry.name for entry in path.parent.iterdir()] == ["pictures.json"]
    world_fits((FULL,), replace(SETTINGS, world=replace(PRESET, steps=7)), path)
    assert calls[5:] == [(FULL, 0), (FULL, 1)], "other settings, other fits"
