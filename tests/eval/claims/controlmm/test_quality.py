"""Rows of quality by scores that are made up."""

from types import SimpleNamespace

import pytest
import torch

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.controlmm import quality
from pocket_diffusers.eval.claims.controlmm.judge import Scores
from pocket_diffusers.eval.claims.controlmm.motions import CaptionedClips, Motions
from pocket_diffusers.eval.claims.controlmm.settings import Settings
from pocket_diffusers.eval.scores.fid import fid
from pocket_diffusers.eval.scores.r_precision import RPrecision

FID = fid([[0.0, 1], [1, 0], [0, 0]], [[0.0, 1], [1, 0], [0, 0]], "controlmm-nano-judge")


def scores(value, top_3, diversity=5.0, skating=0.1, peak_jerk=100.0):
    precision = RPrecision(top_3 - 0.2, top_3 - 0.1, top_3, 2.0, 128, 2)
    distance = SimpleNamespace(metric=FID.metric, value=value)
    return Scores(distance, precision, diversity, skating, peak_jerk, 130)


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """A world of two kinds of clips, a pipeline that is not asked, and a judge who says numbers in turn."""
    seen = SimpleNamespace(judged=[], made=[])
    verdicts = [scores(0.05, 0.9), scores(0.4, 0.88), scores(0.5, 0.8, skating=0.2, peak_jerk=140.0),
                scores(0.9, 0.7, skating=0.3, peak_jerk=50.0)]  # fmt: skip

    class Judge:
        def __init__(self, folder):
            assert folder == tmp_path / "controlmm-nano-judge"

        def scores(self, motions, clips, reference=None):
            seen.judged.append((motions, clips, reference))
            return verdicts[len(seen.judged) - 1]

        def embed_motions(self, motions):
            return torch.full((len(motions), 3), float(len(seen.made))).numpy()

    def world_clips(count):
        draw = torch.Generator().manual_seed(0)
        joints = [torch.randn(40, 22, 3, generator=draw) for _ in range(count)]
        return CaptionedClips(Motions([torch.zeros(40, 263)] * count, joints), [f"clip {i}" for i in range(count)])

    def make_motions(pipeline, clips, batch, controls=None, seed=0, **options):
        assert pipeline == "a pipeline" and batch == Settings().batch and not options
        seen.made.append((clips, controls, seed))
        return clips.motions

    monkeypatch.setattr(quality, "Judge", Judge)
    monkeypatch.setattr(quality, "world_clips", world_clips)
    monkeypatch.setattr(quality, "make_motions", make_motions)
    monkeypatch.setattr(quality, "load_committed", lambda slug, folder: "a pipeline")
    return seen


def measured(tmp_path):
    settings = Settings(checkpoints=tmp_path, clips=6, texts=2, motions=12)
    benchmark = Benchmark("controlmm", settings, {"it": quality.measure_quality})
    return {row.id: row for row in benchmark.measure("it", tmp_path)}


def test_rows_hold_motions_to_ground_truth_and_control_to_none(faked, tmp_path):
    rows = measured(tmp_path)
    assert (rows["fid"].measured, rows["fid"].rival_measured) == (0.4, 0.05)
    assert rows["r-precision-top-3"].target == pytest.approx(0.95 * 0.9) and rows["r-precision-top-3"].passed
    assert [rows[f"r-precision-top-{top}"].measured for top in (1, 2, 3)] == pytest.approx([0.68, 0.78, 0.88])
    assert rows["r-precision-top-1"].target is None and rows["r-precision-top-1"].n == 128
    assert rows["diversity"].target == pytest.approx((4.5, 5.5)) and rows["diversity"].passed
    controlled = rows["controlled-fid"]
    assert (controlled.measured, controlled.rival_measured, controlled.target) == (0.5, 0.4, pytest.approx(0.52))
    assert controlled.passed and not rows["controlled-r-precision-top-3"].passed
    jerk = rows["controlled-jerk"]
    assert (jerk.measured, jerk.target, jerk.passed) == (140, 150, True)
    moved = rows["projection-fid"]
    assert (moved.measured, moved.rival_measured) == (0.9, 0.5) and "without any control it is 0.4" in moved.claim
    assert rows["projection-error"].measured < 1e-6
    assert rows["projection-jerk"].ratio == pytest.approx(2.8)
    assert {row.size for row in rows.values()} == {"nano"} and {row.seed for row in rows.values()} == {0}


def test_what_is_made_and_judged(faked, tmp_path):
    measured(tmp_path)
    (truth, clips, others), (_, _, none), *_ = faked.judged
    assert truth is clips.motions and clips.captions == [f"clip {i}" for i in range(6)] and none is None
    assert torch.equal(others.joints[0], quality.world_clips(12).motions.joints[6]), "true motions that are others"
    free, *rounds, controlled = faked.made
    assert free[1] is None and len(rounds) == 12
    assert [seed for _, _, seed in rounds] == [2 * number for number in range(12)], "no seed twice for one caption"
    counts = [int(one.mask.sum()) for one in controlled[1]]
    assert counts == [1, 2, 5, 10, 40, 1] and all(one.mask[:, 0].sum() == one.mask.sum() for one in controlled[1])


def test_multimodality_is_between_motions_of_one_caption(faked, tmp_path):
    row = measured(tmp_path)["multimodality"]
    assert row.n == 2 and row.measured > 0 and "12 of each of 2" in row.claim
