"""Which part each form of the method lacks, and the rows of a pipeline that misses by what is known."""

import pytest
import torch

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.controlmm import ablation
from pocket_diffusers.eval.claims.controlmm.ablation import FORMS, without_branch
from pocket_diffusers.eval.claims.controlmm.contenders import random_pipeline
from pocket_diffusers.eval.claims.controlmm.motions import CaptionedClips, Motions
from pocket_diffusers.eval.claims.controlmm.settings import Settings
from pocket_diffusers.eval.scores.fid import fid
from pocket_diffusers.pipelines.motion.motion_optimization import OptimizationSteps


def test_forms_optimise_logits_embeddings_as_long_or_nothing():
    whole = OptimizationSteps(20, 200)
    assert {name: form.steps(whole, 10) for name, form in FORMS.items()} == {
        "no-control": OptimizationSteps(0, 0),
        "no-regulariser": whole,
        "no-optimisation": OptimizationSteps(0, 0),
        "embeddings": OptimizationSteps(0, 400),
        "full": whole,
    }
    assert [name for name, form in FORMS.items() if not form.branch] == ["no-control", "no-regulariser"]


def test_a_pipeline_without_its_branch_has_the_same_networks():
    pipeline = random_pipeline("nano")
    alone = without_branch(pipeline)
    assert alone.control_branch is None and pipeline.control_branch is not None
    assert alone.transformer is pipeline.transformer and alone.autoencoder is pipeline.autoencoder


def test_rows_of_every_form(monkeypatch, tmp_path):
    """A motion is off by 10 cm, by 4 more without the branch, and by 2 more without optimisation of logits."""
    asked = []
    draw = torch.Generator().manual_seed(0)
    joints = [torch.randn(40, 22, 3, generator=draw) for _ in range(5)]
    clips = CaptionedClips(Motions([torch.zeros(40, 263)] * 5, joints), ["walks"] * 5)

    class Judge:
        def __init__(self, folder):
            pass

        def fid(self, motions, reference):
            rows = [torch.stack([own[0, 0] for own in some.joints]).numpy() for some in (motions, reference)]
            return fid(*rows, "controlmm-nano-judge")

    def make_motions(pipeline, clips, batch, controls=None, optimization=None):
        asked.append((pipeline.control_branch is not None, controls is not None, optimization))
        off = 0.10 + 0.04 * (pipeline.control_branch is None)
        off += 0.02 * (optimization is None or optimization.each == 0)
        return Motions(clips.motions.features, [own + torch.tensor([0.0, 0.0, off]) for own in clips.motions.joints])

    monkeypatch.setattr(ablation, "Judge", Judge)
    monkeypatch.setattr(ablation, "world_clips", lambda count: clips[:count])
    monkeypatch.setattr(ablation, "make_motions", make_motions)
    monkeypatch.setattr(ablation, "load_committed", lambda slug, folder: random_pipeline("nano"))
    settings = Settings(checkpoints=tmp_path, ablated_clips=5)
    benchmark = Benchmark("controlmm", settings, {"it": ablation.measure_ablation})
    rows = {row.id: row for row in benchmark.measure("it", tmp_path)}
    assert [rows[f"ablation-{name}-error"].measured for name in FORMS] == pytest.approx([16, 14, 12, 12, 10], rel=1e-4)
    assert [rows[f"ablation-{name}-error"].published for name in FORMS] == [63.18, 2.18, 40.41, 1.12, 0.98]
    assert [rows[f"ablation-{name}-fid"].measured for name in FORMS] == pytest.approx(
        [0.16**2, 0.14**2, 0.12**2, 0.12**2, 0.1**2], rel=1e-3
    )
    assert asked == [
        (False, False, None),
        (False, True, OptimizationSteps(20, 200)),
        (True, True, OptimizationSteps(0, 0)),
        (True, True, OptimizationSteps(0, 400)),
        (True, True, OptimizationSteps(20, 200)),
    ]
