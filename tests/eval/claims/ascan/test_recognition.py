from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
import torch

from pocket_diffusers.eval.claims.ascan import recognition
from pocket_diffusers.eval.claims.ascan.recognition import counts_interval, measure_judge
from pocket_diffusers.eval.scores.instance_f1 import InstanceCounts, ground_truth
from pocket_diffusers.eval.scores.retrieval import to_pictures, world_records
from pocket_diffusers.pipelines.outputs import Detections


@dataclass
class Settings:
    checkpoints: Path = Path("nowhere")
    judged_pictures: int = 8
    world_size: int = 32


class Eye:
    """Sees everything in clean pictures; in others nothing at all in every second one."""

    def __init__(self):
        records = list(islice(world_records("test", 32), 8))
        self.clean, self.truth = to_pictures(records), list(map(ground_truth, records))
        self.degraded = None

    def from_pretrained(self, folder):
        assert folder == Path("nowhere/ascan-nano-judge")
        return self

    def set_progress_bar_config(self, **options):
        pass

    def detect(self, pictures):
        if torch.equal(pictures, self.clean):
            return self.truth
        self.degraded, nothing = pictures, Detections((), (), (), (), ())
        return [nothing if index % 2 else found for index, found in enumerate(self.truth)]


def test_the_judge_is_measured_on_clean_and_on_degraded_pictures(monkeypatch):
    eye = Eye()
    monkeypatch.setattr(recognition, "AsCANDetectionPipeline", eye)
    rows = {row.id: row for row in measure_judge(Settings(), None)}
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
