"""Rows of costs by contests that take no time."""

from dataclasses import replace

import pytest
from PIL import Image

from pocket_diffusers.eval.claims.lightspeed import costs
from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK

SETTINGS = replace(BENCHMARK.settings, repeats=2, threads=1, sides=(16, 32))


@pytest.fixture
def graphs(monkeypatch):
    """No graphs: files that say which they would be."""
    monkeypatch.setattr(costs, "VIEWS", {name: lambda frame, name=name: (name, frame) for name in costs.VIEWS})
    monkeypatch.setattr(costs, "write_graph", lambda view, path: path.write_text(view[0]))


def measure(name, output):
    return {row.id: row for row in BENCHMARK.measure(name, output, SETTINGS)}


def test_each_size_stands_beside_mobile_r2l(graphs, contest, tmp_path):
    seconds = {"LightSpeed": (0.2, 0.4), "MobileR2L": (0.6, 0.6)}
    asked = contest(lambda one: seconds[one.name], facts=lambda one: {"graph_bytes": 1_000_000 * len(one.name)})
    rows = measure("latency", tmp_path)
    whole = [f"latency-{size}{what}" for size in ("frontal", "object") for what in
             ("", "-speedup", "-mobiler2l", "-memory", "-bytes")]  # fmt: skip
    assert list(rows) == whole
    frontal = rows["latency-frontal"]
    assert (frontal.measured, frontal.rival_measured) == (pytest.approx(0.3), 0.6) and frontal.size == "paper"
    assert "1008x756 pixels by LightSpeed at the size of the preset paper-frontal" in frontal.claim
    assert rows["latency-object-speedup"].measured == pytest.approx((3 + 1.5) / 2)
    size = rows["latency-object-bytes"]
    assert (size.measured, size.rival_measured, size.unit) == (10, 9, "MB") and size.date == "2025-01-31"
    assert [path.name for *_, path in asked] == ["latency-frontal.json", "latency-object.json"]
    assert [one.arguments for one in asked[0][0]] == [
        {"graph": "lightspeed.onnx", "threads": 1}, {"graph": "mobiler2l.onnx", "threads": 1},
    ]  # fmt: skip
    assert not asked[0][0][0].folder.exists(), "graphs are gone"
    with Image.open(tmp_path / "lightspeed.png") as picture:
        assert picture.width > 800


def test_what_failed_says_so(graphs, contest, tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "draw_costs", lambda path, title, panels: None)
    contest(lambda one: (0.2, 0.2), errors=["MobileR2L"], facts=lambda one: {"graph_bytes": 5})
    rows = measure("latency", tmp_path)
    assert rows["latency-frontal"].measured == 0.2 and rows["latency-frontal-speedup"].measured is None
    size = rows["latency-frontal-bytes"]
    assert size.measured == 5e-6 and size.rival_measured is None and "MobileR2L failed: it broke." in size.claim


def test_cost_grows_with_the_side(graphs, contest, tmp_path):
    asked = contest(lambda one: (0.1, 0.1) if one.name == "LightSpeed" else (0.3, 0.3))
    rows = measure("scaling", tmp_path)
    assert {id: (row.measured, row.ratio) for id, row in rows.items()} == {
        "scaling-16": (0.1, pytest.approx(3)), "scaling-32": (0.1, pytest.approx(3)),
    }  # fmt: skip
    assert "32x32 pixels" in rows["scaling-32"].claim and len(asked) == 2
    assert (tmp_path / "lightspeed-scaling.png").is_file()
