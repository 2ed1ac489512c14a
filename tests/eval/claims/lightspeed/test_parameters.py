"""Numbers that are exact on every machine."""

import pytest

from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK


def test_networks_are_of_the_known_sizes(tmp_path):
    rows = {row.id: row for row in BENCHMARK.measure("parameters", tmp_path)}
    assert all(row.passed is not False and row.hardware is None for row in rows.values())
    counts = {id.removeprefix("parameters-"): row for id, row in rows.items() if id.startswith("parameters")}
    assert {name: row.measured for name, row in counts.items()} == {
        "mobiler2l-8x": 4_305_540, "mobiler2l-12x": 4_298_370, "paper": 53_084_800, "paper-frontal": 10_609_800,
        "nano": 711_123,
    }  # fmt: skip
    assert "41,779,200 of them in its grids" in counts["paper"].claim and counts["nano"].size == "nano"
    assert counts["mobiler2l-8x"].passed is True and counts["paper-frontal"].rival == "MobileR2L at 12x"
    one_slab = (4 * 6 * (64**2 + 128**2 + 256**2 + 512**2) + 2 * 2_261_123) / 1e6
    assert rows["bytes-paper"].measured == pytest.approx(one_slab, rel=1e-5) and rows["bytes-paper"].target == 17.5
    assert rows["bytes-paper"].rival_measured == pytest.approx(2 * 4.305539, rel=1e-5)
    assert "bytes-paper-frontal" not in rows, "it is measured"
    assert rows["bytes-nano"].target is None
