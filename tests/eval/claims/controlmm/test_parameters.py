import pytest

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.controlmm.parameters import measure_parameters
from pocket_diffusers.eval.claims.controlmm.settings import Settings


def test_networks_are_of_the_published_sizes(tmp_path):
    rows = Benchmark("controlmm", Settings(), {"it": measure_parameters}).measure("it", tmp_path)
    counts = {row.id.removeprefix("parameters-"): row for row in rows}
    assert {name: row.measured for name, row in counts.items() if name not in ("residual", "length")} == {
        "autoencoder": 19.4368, "transformer": 12.0488, "branch-pelvis": 21.3722, "branch": 21.4182,
    }  # fmt: skip
    layers = (512, 512, 256, 128)  # each with a bias and two numbers of its norm a channel, and 50 classes
    sizes = [a * b + 3 * b for a, b in zip(layers, layers[1:], strict=False)]
    assert counts["length"].measured == pytest.approx((sum(sizes) + 128 * 50 + 50) / 1e6, rel=1e-5)
    assert all(row.passed for name, row in counts.items() if name != "length")
    assert counts["length"].passed is None and {row.size for row in rows} == {"paper"}
    assert all(row.hardware is None for row in rows)
