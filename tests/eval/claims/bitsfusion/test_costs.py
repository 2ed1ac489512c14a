from pathlib import Path

import pytest
from PIL import Image

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.bitsfusion import contenders, costs
from pocket_diffusers.eval.claims.bitsfusion.settings import Settings
from pocket_diffusers.eval.timing.cost_rows import IMPORTS

SETTINGS = Settings(shape="nano", latent_size=8, repeats=3, threads=1)


def measured(measure, output):
    return {row.id: row for row in Benchmark("bitsfusion", SETTINGS, {"it": measure}).measure("it", output)}


def test_packed_and_float32_are_compared_by_their_rounds(contest, tmp_path):
    seconds = {"packed": (1.1, 2.2, 1.2), "float32": (1.0, 2.0, 1.0)}
    asked = contest(lambda one: seconds[one.name])
    rows = measured(costs.measure_unet_costs, tmp_path)
    assert (rows["step-seconds"].measured, rows["step-seconds"].rival_measured) == (1.2, 1.0)
    assert rows["step-slowdown"].measured == pytest.approx(1.1) and rows["step-slowdown"].passed
    assert rows["loading-slowdown"].target == 1 and not rows["loading-slowdown"].passed
    share = rows["step-memory-share"]
    assert share.measured == pytest.approx((600 - 50) / (700 - 50), rel=1e-5) and share.target == 0.3
    assert [(call[1], call[2], call[3].name) for call in asked] == [(3, 1, "it-step.json"), (3, 1, "it-loading.json")]
    for part, _, _, _ in asked:
        assert [one.arguments["folder"] for one in part] == ["packed/unet", "full/unet"]
        assert not any(str(value)[0] == "/" for one in part for value in one.arguments.values()), "paths of a machine"
    with Image.open(tmp_path / "bitsfusion-costs.png") as picture:
        assert picture.width > 500


def test_rates_are_bytes_of_float32_weights_a_second(contest, tmp_path):
    contest(lambda one: {"initialise": (2.0,), "pack": (1.0,), "decode": (0.5,)}[one.name])
    rows = measured(costs.measure_rates, tmp_path)
    gigabytes = 4 * sum(shape.numel() for shape, _ in contenders.packed_layers("nano")) / 1e9
    for name, seconds, target in (("initialisation", 2, 0.55), ("packing", 1, 1.0), ("decoding", 0.5, 4.0)):
        row = rows[f"rate-{name}"]
        assert row.measured == pytest.approx(gigabytes / seconds, rel=1e-5)
        assert (row.unit, row.target, row.better) == ("GB/s", target, "higher")


def test_what_is_timed_is_done(tmp_path, monkeypatch):
    from pocket_diffusers.eval.claims.bitsfusion.shape import FULL, write_shape

    write_shape(tmp_path / FULL, "nano")
    monkeypatch.chdir(tmp_path)
    making = contenders.build_quantization("nano")
    assert making.facts[IMPORTS] > 10
    assert making.call().cached_timesteps == 50 and making.call().average_bits < 3
    for folder in ("packed/unet", "full/unet"):
        assert Path(folder).is_dir()
        assert contenders.build_step(folder, 8).call().sample.shape == (2, 16, 8, 8)
        assert contenders.build_loading(folder).call().dtype.is_floating_point
    for task in costs.RATES:
        contenders.build_layers("nano", task).call()
