from dataclasses import replace

import pytest

from pocket_diffusers.eval.claims.world.benchmark import BENCHMARK


@pytest.mark.parametrize(("name", "unit"), [("rendering", "pictures/s"), ("loading", "records/s")])
def test_speeds_are_measured_without_touching_the_cache(tmp_path, name, unit):
    datasets = pytest.importorskip("datasets", reason="the extra train is not installed")
    cache = datasets.config.HF_DATASETS_CACHE
    (row,) = BENCHMARK.measure(name, tmp_path, replace(BENCHMARK.settings, pictures=24, repeats=2, picture_size=16))
    assert cache == datasets.config.HF_DATASETS_CACHE
    assert row.n == 48 and row.measured > 0 and row.unit == unit and "threads" in row.hardware
    assert row.interval[0] <= row.measured <= row.interval[1]
