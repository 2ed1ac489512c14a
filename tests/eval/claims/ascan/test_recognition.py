from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from pocket_diffusers.eval.claims.ascan import recognition
from pocket_diffusers.eval.claims.ascan.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.ascan.recognition import counts_interval, neighbours_accuracy
from pocket_diffusers.eval.scores.instance_f1 import InstanceCounts, ground_truth
from pocket_diffusers.eval.scores.retrieval import to_pictures, world_records
from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.training.datasets.digits import load_digits
from pocket_diffusers.training.objectives.classification import accuracy


class Eye:
    """Sees everything in clean pictures; in others nothing at all in every second one."""

    def __init__(self):
        records = list(islice(world_records("test", 32), 8))
        self.clean, self.truth = to_pictures(records), list(map(ground_truth, records))
        self.degraded = None

    def detect(self, pictures):
        if torch.equal(pictures, self.clean):
            return self.truth
        self.degraded, nothing = pictures, Detections((), (), (), (), ())
        return [nothing if index % 2 else found for index, found in enumerate(self.truth)]


def test_the_judge_is_measured_on_clean_and_on_degraded_pictures(monkeypatch, tmp_path):
    eyes = {("ascan", Path("nowhere/ascan-nano-judge")): (eye := Eye())}
    monkeypatch.setattr(recognition, "load_committed", lambda slug, folder: eyes[slug, folder])
    settings = replace(BENCHMARK.settings, checkpoints=Path("nowhere"), judged_pictures=8, picture_size=32)
    rows = {row.id: row for row in BENCHMARK.measure("judge", tmp_path, settings)}
    assert [row.measured for row in rows.values()][:2] == [1, 1] and rows["judge-clean-f1"].interval == (1, 1)
    seen, all_of = (sum(map(len, some)) for some in (eye.truth[::2], eye.truth))
    f1 = rows["judge-degraded-f1"]
    assert f1.measured == pytest.approx(2 * seen / (seen + all_of), rel=1e-5) and f1.passed is False
    assert f1.interval[0] < f1.measured < f1.interval[1]
    assert rows["judge-degraded-color"].measured == 1 and rows["judge-degraded-color"].passed
    assert (f1.n, rows["judge-degraded-color"].target) == (8, 0.97)
    assert eye.degraded.min() >= 0 and eye.degraded.max() <= 1
    changed = (eye.degraded - eye.clean).abs().amax((1, 2, 3))
    assert (changed > 0.01).sum() >= 6, "five degradations, each with a chance of one half"


def test_the_interval_of_counts_is_a_bootstrap_over_pictures():
    counts = [InstanceCounts(1, 0, 0, 1)] * 90 + [InstanceCounts(0, 1, 1, 0)] * 10
    low, high = counts_interval(counts, "f1")
    assert low == pytest.approx(0.84, abs=0.02) and high == pytest.approx(0.95, abs=0.02)  # 0.9 +- 1.96 * 0.03
    assert counts_interval(counts, "color_accuracy") == (1, 1)
    assert counts_interval(counts[:1], "f1") is None


def test_digits_are_named_as_the_model_names_them(tmp_path):
    torch.manual_seed(0)
    model = AsCANModel(
        stages=("C", "T"), widths=(8, 16), strides=(2, 1, 2), stem_width=8, head_dim=8, image_size=32, num_classes=10,
        in_channels=1,
    ).eval()  # fmt: skip
    pipeline = AsCANImageClassificationPipeline(model, dict(enumerate("0123456789")))
    save_repository(pipeline, tmp_path / "ascan-nano-digits", dtype=torch.float32)
    (row,) = BENCHMARK.measure("digits", tmp_path, replace(BENCHMARK.settings, checkpoints=tmp_path))
    assert row.n == 360 and row.measured == pytest.approx(accuracy(model, load_digits("test")), abs=1e-6)
    assert row.rival_measured == pytest.approx(neighbours_accuracy(), abs=1e-6) and row.rival_measured > 0.95
