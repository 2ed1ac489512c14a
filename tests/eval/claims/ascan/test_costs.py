from dataclasses import replace

import pytest
from PIL import Image

from pocket_diffusers.eval.claims.ascan import costs
from pocket_diffusers.eval.claims.ascan.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.ascan.contenders import CLASSIFIERS, OURS
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel


def measure(name, output):
    settings = replace(
        BENCHMARK.settings, modes=("eager",), batches=(1, 4), pixels=64, resolutions=(128, 256), repeats=3, threads=1
    )
    return {row.id: row for row in BENCHMARK.measure(name, output, settings)}


def by_hand(stages, widths, stem, pixels=224, expansion=4, ffn=4, se=0.25, classes=1000):
    """Parameters and multiplications of weights alone: no norms, biases, position tables."""
    side, before = pixels // 2, stem
    parameters = 9 * 3 * stem + 9 * stem * stem
    multiplications = parameters * side**2
    for letters, width in zip(stages, widths, strict=True):
        for number, letter in enumerate(letters):
            larger, side = side, side // 2 if number == 0 else side
            pixels_out = side**2
            shortcut = before * width if before != width else 0
            if letter == "C":
                hidden = expansion * width
                expand, depthwise, project = before * hidden, 9 * hidden, hidden * width
                squeeze = 2 * hidden * int(se * width)
                parameters += expand + depthwise + project + squeeze + shortcut
                multiplications += expand * larger**2 + (depthwise + project + shortcut) * pixels_out + squeeze
            else:
                project_in = before * width if before != width else 0
                weights = (4 + 2 * ffn) * width * width + project_in + shortcut
                parameters += weights
                multiplications += weights * pixels_out + 2 * pixels_out**2 * width
            before = width
    return (parameters + widths[-1] * classes) / 1e6, (multiplications + widths[-1] * classes) / 1e9


def preset(name):
    config = {"stages": ("CC", "CCCCC", "CCCTTTTTTT", "TTTTT"), "widths": (96, 192, 384, 768), "stem_width": 64}
    config |= AsCANModel.presets[name]
    return config["stages"], config["widths"], config["stem_width"]


def test_parameters_are_those_counted_by_hand_and_meet_the_remembered_budgets():
    rows = measure("parameters", None)
    assert list(rows) == [f"parameters-{name}" for name in ("tiny", "base", "large", "coatnet-1", "coatnet-2")]
    for name, budget in (("tiny", 55), ("base", 98), ("large", 173)):
        row = rows[f"parameters-{name}"]
        assert row.measured == pytest.approx(by_hand(*preset(name))[0], rel=0.012), "norms and tables come on top"
        assert row.measured == pytest.approx(budget, rel=0.03) and row.passed
        assert "remembered, not published" in row.claim and row.published is None and row.hardware is None
    coatnet = ("C" * 2, "C" * 6, "T" * 14, "T" * 2)
    for name, widths, stem, budget in (
        ("coatnet-1", (96, 192, 384, 768), 64, 42),
        ("coatnet-2", (128, 256, 512, 1024), 128, 75),
    ):
        row = rows[f"parameters-{name}"]
        assert row.measured == pytest.approx(by_hand(coatnet, widths, stem)[0], rel=0.015)
        assert row.measured == pytest.approx(budget, rel=0.03) and row.passed


def test_operations_are_those_counted_by_hand_and_meet_the_remembered_budgets():
    rows = measure("operations", None)
    assert list(rows) == [f"operations-{name}" for name in ("tiny", "base", "large", "imagenet256")]
    for name, budget in (("tiny", 7.7), ("base", 16.7), ("large", 30.7)):
        row = rows[f"operations-{name}"]
        assert row.measured == pytest.approx(by_hand(*preset(name))[1], rel=1e-5)
        assert row.measured == pytest.approx(budget, rel=0.05) and row.passed and "remembered" in row.claim
    row = rows["operations-imagenet256"]
    assert row.rival_measured == pytest.approx(118.6, rel=0.01), "DiT-XL/2 as its authors count"
    assert row.passed and row.target == pytest.approx(65.23, abs=0.01)
    assert row.measured == pytest.approx(53, rel=0.02)


def test_throughput_rows_are_pictures_a_second(contest, tmp_path):
    names = (OURS, *CLASSIFIERS)
    asked = contest(lambda one: tuple((1 + names.index(one.name)) * s for s in (0.1, 0.2, 0.4)))
    rows = measure("throughput", tmp_path)
    assert set(rows) == {
        f"{what}-{name}-eager-{batch}"
        for what in ("throughput", "memory")
        for name in ("convnext", "swin", "vit", "pvt")
        for batch in (1, 4)
    }
    memory = rows["memory-swin-eager-4"]
    assert (memory.measured, memory.rival_measured, memory.ratio) == (1000, 400, 0.4), "a lost comparison is a row"
    assert memory.unit == "MB" and memory.better == "lower" and "Swin" in memory.claim
    row = rows["throughput-swin-eager-4"]
    assert (row.measured, row.rival_measured, row.ratio) == (
        4 / 0.2,
        pytest.approx(4 / 0.6, rel=1e-5),
        pytest.approx(3, rel=1e-3),
    )
    assert row.interval == (4 / 0.4, 4 / 0.1) and row.unit == "pictures/s" and row.n == 3
    assert "1 picture at once" in rows["throughput-vit-eager-1"].claim and "1 threads" in row.hardware
    assert row.command == "pocket eval ascan --only throughput"
    contenders, repeats, threads, output = asked[1]
    assert [one.name for one in contenders] == list(names)
    assert contenders[0].arguments == {"name": OURS, "mode": "eager", "batch": 4, "pixels": 64}
    assert (repeats, threads, output.name) == (3, 1, "throughput-eager-4.json")
    with Image.open(tmp_path / "ascan-eager.png") as picture:
        assert picture.width > 500


def test_resolution_rows_and_their_picture(contest, tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "CLASSIFIERS", {"ViT": CLASSIFIERS["ViT"]})
    contest(lambda one: (one.arguments["pixels"] / 100,) * 3)
    rows = measure("resolution", tmp_path)
    assert set(rows) == {f"resolution-{what}-{side}" for what in ("operations", "seconds") for side in (128, 256)}
    for side in (128, 256):
        row = rows[f"resolution-operations-{side}"]
        assert row.measured == pytest.approx(by_hand(*preset("tiny"), pixels=side)[1], rel=1e-5)
        assert row.rival_measured > row.measured * 0.9 and row.hardware is None
        assert rows[f"resolution-seconds-{side}"].measured == side / 100
    assert rows["resolution-operations-256"].measured > 4 * rows["resolution-operations-128"].measured * 0.99
    assert (tmp_path / "ascan-resolution.png").is_file()
    contest(lambda one: (1.0,) * 3, errors=["128 pixels"])
    failed = measure("resolution", tmp_path)["resolution-seconds-128"]
    assert failed.measured is None and failed.claim.endswith("128 pixels failed: it broke.")
