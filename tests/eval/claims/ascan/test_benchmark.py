import pytest

from pocket_diffusers.eval.results import RESULTS, read_rows
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS

RIVALS = ("convnext", "swin", "vit", "pvt")
DESIGNS = ("asymmetric", "symmetric", "inverted", "coatnet")

# Every id with its target and whether more is better.
PROMISED = {
    **{f"parameters-{name}": (pytest.approx((0.97 * number, 1.03 * number)), "within") for name, number in
       (("tiny", 55), ("base", 98), ("large", 173), ("coatnet-1", 42), ("coatnet-2", 75))},
    **{f"operations-{name}": (pytest.approx((0.95 * number, 1.05 * number)), "within") for name, number in
       (("tiny", 7.7), ("base", 16.7), ("large", 30.7))},
    "operations-imagenet256": (pytest.approx(118.6 * 0.55), "lower"),
    **{f"resolution-{what}-{side}": (None, "lower")
       for what in ("operations", "seconds") for side in (128, 192, 256, 384, 512)},
    **{f"{what}-{rival}-{mode}-{batch}": (None, better)
       for what, better in (("throughput", "higher"), ("memory", "lower")) for rival in RIVALS
       for mode in ("eager", "compiled", "onnx") for batch in (1, 16, 64)},
    "digits-accuracy": (0.985, "higher"),
    "judge-clean-f1": (0.99, "higher"),
    "judge-clean-color": (0.995, "higher"),
    "judge-degraded-f1": (0.95, "higher"),
    "judge-degraded-color": (0.97, "higher"),
    "geneval-truth": (0.97, "higher"),
    **{f"geneval-truth-{tag.replace('_', '-')}": (None, "higher") for tag in TAGS},
    "geneval-shuffled": (None, "lower"),
    "geneval-shuffled-distance": (0.03, "lower"),
    "generation-named": (0.95, "higher"),
    "generation-alone": (None, "higher"),
    "generation-fid": (None, "lower"),
    "generation-kid": (None, "lower"),
    **{f"exported-{runtime}-{what}": (None, "higher") for runtime in ("onnx", "executorch")
       for what in ("fp32-digits", "int8-digits", "fp32-judge-f1", "int8-judge-f1", "fp32-named", "int8-named")},
    "exported-onnx-int8-bytes": (None, "lower"),
    "exported-executorch-int8-bytes": (None, "lower"),
    **{f"ablation-{design}": (None, "higher") for design in DESIGNS},
    **{f"ablation-over-{design}": (None, "higher") for design in DESIGNS[1:]},
}  # fmt: skip


def test_every_promised_number_is_committed():
    rows = {row.id: row for row in read_rows(RESULTS / "ascan.json")}
    assert set(rows) == set(PROMISED)
    assert all((row.target, row.better) == PROMISED[name] for name, row in rows.items())
    assert rows["judge-clean-f1"].n >= 1000 and rows["geneval-truth"].n >= 1000 and rows["generation-named"].n >= 500
