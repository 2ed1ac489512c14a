from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.controlmm.parameters import measure_parameters
from pocket_diffusers.eval.claims.controlmm.settings import Settings


def test_networks_are_of_the_published_sizes(tmp_path):
    rows = Benchmark("controlmm", Settings(), {"it": measure_parameters}).measure("it", tmp_path)
    counts = {row.id.removeprefix("parameters-"): row for row in rows}
    assert {name: row.measured for name, row in counts.items() if name not in ("residual", "length")} == {
        "autoencoder": 1.94368e7, "transformer": 1.20488e7, "branch-pelvis": 2.13722e7, "branch": 2.14182e7,
    }  # fmt: skip
    layers = (512, 512, 256, 128)  # each with a bias and two numbers of its norm a channel, and 50 classes
    sizes = [a * b + 3 * b for a, b in zip(layers, layers[1:], strict=False)]
    assert counts["length"].measured == sum(sizes) + 128 * 50 + 50
    assert all(row.passed for name, row in counts.items() if name != "length")
    assert counts["length"].passed is None and {row.size for row in rows} == {"paper"}
    assert all(row.hardware is None for row in rows)
