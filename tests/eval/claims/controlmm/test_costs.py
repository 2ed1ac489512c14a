"""Rows of costs by contests that take no time."""

import pytest
from PIL import Image

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.controlmm import costs
from pocket_diffusers.eval.claims.controlmm.settings import Settings

SETTINGS = Settings(model="nano", repeats=2, threads=1, timed_steps=10, batches=(1, 4), lengths=(40,))
SECONDS = {
    "fast": (3.0, 4.0),
    "balanced": (20.0, 20.0),
    "accurate": (90.0, 90.0),
    "text alone": (1.0, 1.0),
    "mdm, 0 gradients a step": (1.0, 1.2),
    "omnicontrol, 10 gradients a step": (1.5, 1.5),
    "omnicontrol, 500 gradients a step": (2.0, 3.0),
}


def measured(measure, output):
    return {row.id: row for row in Benchmark("controlmm", SETTINGS, {"it": measure}).measure("it", output)}


def test_whole_diffusions_are_reckoned_from_some_steps(contest, tmp_path):
    asked = contest(lambda one: SECONDS[one.name])
    rows = measured(costs.measure_speed, tmp_path)
    # 100 times ten steps; 99 times ten and 10 times one
    assert rows["seconds-mdm-1000-steps"].measured == pytest.approx((100 + 120) / 2)
    assert rows["seconds-mdm-50-steps"].measured == pytest.approx((5 + 6) / 2)
    omnicontrol = [99 * 1.5 + 10 * 2, 99 * 1.5 + 10 * 3]
    assert rows["seconds-omnicontrol-1000-steps"].measured == pytest.approx(sum(omnicontrol) / 2)
    fast = rows["speedup-fast-omnicontrol-1000-steps"]
    assert fast.measured == pytest.approx((omnicontrol[0] / 3 + omnicontrol[1] / 4) / 2, rel=1e-5)
    assert (fast.target, fast.published) == (20, pytest.approx(17.68, abs=0.01)) and fast.passed
    assert rows["speedup-accurate-mdm-1000-steps"].target == 1 and rows["speedup-fast-mdm-1000-steps"].target == 20
    few = rows["speedup-fast-mdm-50-steps"]
    assert few.target is None and few.measured == pytest.approx((5 / 3 + 6 / 4) / 2, rel=1e-5)
    assert "reckoned from 10 of its steps" in few.claim
    assert rows["seconds-text-alone"].measured == 1 and rows["memory-accurate"].unit == "MB"
    ((contenders, repeats, threads, path),) = asked
    assert (repeats, threads, path.name) == (2, 1, "it.json") and [one.name for one in contenders] == list(SECONDS)
    steps = {one.name: one.arguments.get("steps") for one in contenders}
    assert [steps[name] for name in list(SECONDS)[4:]] == [10, 10, 1]
    with Image.open(tmp_path / "controlmm.png") as picture:
        assert picture.width > 500


def test_a_diffusion_that_failed_says_so(contest, tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "draw_costs", lambda path, title, panels: None)
    contest(lambda one: SECONDS[one.name], errors=["omnicontrol, 500 gradients a step"])
    rows = measured(costs.measure_speed, tmp_path)
    row = rows["speedup-fast-omnicontrol-1000-steps"]
    assert row.measured is None and not row.passed and "OmniControl, 1,000 steps failed: it broke" in row.claim
    assert rows["speedup-fast-mdm-1000-steps"].measured is not None


def test_scaling_is_in_seconds_a_clip(contest, tmp_path):
    asked = contest(lambda one: (one.arguments["batch"] * 2.0, one.arguments["batch"] * 2.0))
    rows = measured(costs.measure_scaling, tmp_path)
    assert list(rows) == ["scaling-batch-1", "scaling-batch-4", "scaling-length-40"]
    assert all(row.measured == 2 and row.rival_measured == 200 and row.ratio == 100 for row in rows.values())
    assert [call[3].name for call in asked] == ["it-batch-1.json", "it-batch-4.json", "it-length-40.json"]
    shapes = [(one.arguments["batch"], one.arguments["length"]) for one, *_ in (call[0] for call in asked)]
    assert shapes == [(1, 196), (4, 196), (1, 40)]
    assert (tmp_path / "controlmm-scaling.png").is_file()
