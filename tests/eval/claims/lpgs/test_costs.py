"""Rows of what LPGS costs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from pocket_diffusers.eval.claims.lpgs import costs
from pocket_diffusers.eval.claims.lpgs.benchmark import BENCHMARK


def measure(name, output):
    settings = replace(BENCHMARK.settings, counts=(1000, 3000), sides=(32, 64, 128), repeats=3, threads=1)
    return {row.id: row for row in BENCHMARK.measure(name, output, settings)}


@pytest.fixture
def biker(monkeypatch):
    scene = SimpleNamespace(words="a scanned biker", read=lambda: range(152_746))
    monkeypatch.setattr(costs, "BIKER", scene)


def test_rasterizer_rows_are_seconds_and_memory_of_each_form(biker, contest, tmp_path):
    seconds = {"compiled forward": 0.05, "compiled backward": 0.3, "torch forward": 0.5, "torch backward": 3.0}
    asked = contest(lambda one: [seconds[one.name]] * 3)
    rows = measure("rasterizer", tmp_path)
    forms, passes = ("compiled", "torch"), ("forward", "backward")
    assert set(rows) == {f"rasterizer-{memory}{a}-{b}" for memory in ("", "memory-") for a in forms for b in passes}
    ours, rival = rows["rasterizer-compiled-backward"], rows["rasterizer-torch-backward"]
    assert (ours.measured, ours.target, ours.passed, ours.rival_measured) == (0.3, 0.25, False, 3.0)
    assert ours.ratio == pytest.approx(10) and rival.rival is None and rival.target == 4 and rival.passed
    assert "draws and differentiates a scanned biker (152,746 Gaussians) at 512x512 on the CPU" in ours.claim
    assert rows["rasterizer-compiled-forward"].target == 0.06 and rows["rasterizer-torch-forward"].target == 1
    memory = rows["rasterizer-memory-torch-backward"]
    assert (memory.measured, memory.unit, memory.target) == (1400, "MB", 1000) and not memory.passed
    ((contenders, repeats, threads, path),) = asked
    assert (repeats, threads, path.name) == (3, 1, "rasterizer.json")
    assert contenders[1].arguments == {"form": "compiled", "backward": True, "side": 512}


def test_scaling_rows_and_their_picture(contest, tmp_path):
    slower = {"compiled": 1e-6, "torch": 1e-5}
    asked = contest(lambda one: [slower[one.arguments["form"]] * one.arguments["count"] * one.arguments["side"]] * 3)
    rows = measure("scaling", tmp_path)
    assert set(rows) == {
        *(f"scaling-gaussians-{n}" for n in (1000, 3000)),
        *(f"scaling-side-{n}" for n in (32, 64, 128)),
    }
    row = rows["scaling-gaussians-3000"]
    assert row.measured == pytest.approx(1e-6 * 3000 * 512) and row.ratio == pytest.approx(10)
    assert "3,000 Gaussians at 512x512" in row.claim and row.rival == "torch 3000"
    assert "100,000 Gaussians at 64x64" in rows["scaling-side-64"].claim
    assert rows["scaling-side-64"].measured == pytest.approx(1e-6 * 100_000 * 64)
    assert [path.name for *_, path in asked] == ["scaling-gaussians.json", "scaling-side.json"]
    with Image.open(tmp_path / "lpgs-scaling.png") as picture:
        assert picture.width > 2 * 600, "two charts"


def test_contenders_that_fail_are_left_out_of_the_picture(contest, tmp_path):
    contest(lambda one: (1.0,) * 3, errors=[f"torch {n}" for n in (1000, 3000, 32, 64, 128)])
    rows = measure("scaling", tmp_path / "torch")
    assert (tmp_path / "torch" / "lpgs-scaling.png").is_file()
    assert rows["scaling-side-64"].measured == 1 and "torch 64 failed: it broke." in rows["scaling-side-64"].claim
    everything = [f"{form} {n}" for form in ("torch", "compiled") for n in (1000, 3000, 32, 64, 128)]
    contest(lambda one: (1.0,) * 3, errors=everything)
    assert all(row.measured is None for row in measure("scaling", tmp_path / "all").values())
    assert not (tmp_path / "all" / "lpgs-scaling.png").exists()


def linear(inputs, outputs):
    return inputs * outputs + outputs


def networks(dim, width=64, children=2, harmonics=16):
    """Numbers of the networks by hand: two projections, attention with its gate, and four heads of one hidden layer."""
    told = dim + 3 + 1  # and the position, and the distance to the parent
    heads = [(dim, 3 * children), (told, 3 + 4), (told, 1), (told, 3 * harmonics)]
    return (
        2 * linear(dim, dim)
        + 3 * linear(dim, dim)
        + 1
        + sum(linear(inputs, width) + linear(width, outputs) for inputs, outputs in heads)
    )


def grid_rows(levels=16, log2_size=18, coarsest=16, finest=2048):
    growth = (finest / coarsest) ** (1 / (levels - 1))
    return [min((int(coarsest * growth**level + 1e-6) + 1) ** 3, 2**log2_size) for level in range(levels)]


def test_parameters_are_those_counted_by_hand():
    rows = measure("parameters", None)
    for preset, dim in (("c1", 32), ("c2", 48), ("c3", 64)):
        assert rows[f"parameters-{preset}"].measured == networks(dim)
    assert rows["parameters-c3"].measured == 42_239 and rows["parameters-c3"].passed
    assert rows["parameters-c3"].target == pytest.approx((41_580, 42_420))


def test_garden_takes_the_bytes_of_its_parts():
    row = measure("parameters", None)["parameters-garden"]
    by_hand = 1_205_064 * 24 + 4 * sum(grid_rows()) + 2 * 42_239
    assert row.measured == pytest.approx(by_hand / 1e6, rel=2e-3), "levels may round their resolution another way"
    assert row.measured == pytest.approx(41.8, abs=0.15) and row.published == 39.4 and row.hardware is None
