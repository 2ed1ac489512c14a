"""Rows of control by a pipeline that misses by a distance that is known."""

import pytest
import torch

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.controlmm import control
from pocket_diffusers.eval.claims.controlmm.motions import CaptionedClips, Motions
from pocket_diffusers.eval.claims.controlmm.settings import Settings
from pocket_diffusers.eval.scores.fid import fid

MISSES = {"fast": 0.06, "accurate": 0.01}


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """True motions, moved sideways by what a preset is said to miss, and the left wrist far more where it is dense."""
    asked = []

    def world_clips(count):
        draw = torch.Generator().manual_seed(0)
        joints = [torch.randn(40, 22, 3, generator=draw).cumsum(0) / 100 for _ in range(count)]
        return CaptionedClips(Motions([torch.zeros(40, 263)] * count, joints), ["walks"] * count)

    def make_motions(pipeline, clips, batch, controls=None, optimization=None):
        asked.append((controls, optimization))
        miss = torch.zeros(22, 3)
        miss[:, 0] = MISSES.get(optimization, 0.0)
        if controls is not None and controls[0].mask[:, 20].sum() == 40:
            miss[20, 0] = 0.7
        return Motions(clips.motions.features, [own + miss for own in clips.motions.joints])

    monkeypatch.setattr(control, "world_clips", world_clips)
    monkeypatch.setattr(control, "make_motions", make_motions)
    monkeypatch.setattr(control, "load_committed", lambda slug, folder: None)
    return asked


def measured(measure, tmp_path):
    settings = Settings(checkpoints=tmp_path, controlled_clips=10, condition_clips=4)
    return {row.id: row for row in Benchmark("controlmm", settings, {"it": measure}).measure("it", tmp_path)}


def accurate_alone(settings, run):
    return control.accurate_rows(run, control.Cells(settings, settings.controlled_clips))


def test_cells_of_every_density_and_joint(faked, tmp_path):
    rows = measured(control.measure_control, tmp_path)
    joints = ("pelvis", "left-foot", "right-foot", "head", "left-wrist", "right-wrist")
    densities = ("1", "2", "5", "25-percent", "100-percent")
    cells = [f"control-{density}-{joint}" for density in densities for joint in joints]
    assert set(cells) <= rows.keys()
    far = "control-100-percent-left-wrist"
    assert all(rows[cell].measured == pytest.approx(0.06, rel=1e-4) for cell in cells if cell != far)
    assert rows[far].measured == pytest.approx(0.7, rel=1e-4) and "25 % of the frames" not in rows[far].claim
    assert rows["control-100-percent-trajectory"].measured == pytest.approx(1 / 6, abs=1e-4), "one joint of six"
    assert rows["control-100-percent-trajectory"].n == 60 and rows["control-1-trajectory"].measured == 0
    assert rows["control-1-pelvis"].claim.startswith("The pelvis at 1 frame by the preset fast")
    assert rows["control-5-head"].claim.startswith("The head at 5 frames by")
    assert rows["control-cross"].measured == pytest.approx(0.06, rel=1e-4) and "63 sets" in rows["control-cross"].claim
    assert rows["control-cross-location"].measured == 0


def test_the_accurate_preset_has_targets(faked, tmp_path):
    rows = measured(accurate_alone, tmp_path)
    pelvis, six = rows["accurate-pelvis"], rows["accurate-six-joints"]
    assert pelvis.measured == pytest.approx(0.01, rel=1e-4) and pelvis.target == six.target == 0.011
    assert pelvis.passed and (pelvis.published, six.published) == (0.0098, 0.0072)
    assert rows["accurate-head"].target is None
    assert six.measured == pytest.approx(0.01, rel=1e-4), "no clip in turn is the first at every frame"
    for kind in ("trajectory", "location"):
        assert rows[f"accurate-{kind}"].passed and rows[f"accurate-{kind}"].target == 0
    jerk = rows["accurate-jerk"]
    assert jerk.measured == pytest.approx(jerk.rival_measured, rel=1e-4) and jerk.passed
    assert jerk.target == pytest.approx(1.5 * jerk.rival_measured, rel=1e-5)
    accurate = [controls for controls, optimization in faked if optimization == "accurate"]
    assert len(accurate) == 6 and [int(one.mask.sum()) for one in accurate[0]] == [1, 2, 5, 10, 40] * 2
    assert faked[-1] == (None, None), "without control"


def test_conditions_of_whole_poses_and_limbs(faked, tmp_path, monkeypatch):
    class Judge:
        def __init__(self, folder):
            assert folder.name == "controlmm-nano-judge"

        def fid(self, motions, reference):
            def rows(some):
                return torch.stack([own[:3, 0].flatten() for own in some.joints]).numpy()

            return fid(rows(motions)[:, :2], rows(reference)[:, :2], "judge")

    monkeypatch.setattr(control, "Judge", Judge)
    rows = measured(control.measure_conditions, tmp_path)
    names = list(control.MOTIUS)
    assert list(rows) == [f"condition-{name}{what}" for name in names for what in ("", "-fid")]
    first = rows["condition-first-frame"]
    assert (first.measured, first.unit, first.published) == (pytest.approx(6.0, rel=1e-3), "cm", 3.56)
    assert rows["condition-wrists-dense"].measured == pytest.approx((70 + 6) / 2, rel=1e-3)
    fid_row = rows["condition-first-frame-fid"]
    assert fid_row.measured == pytest.approx(0.06**2, rel=1e-2) and fid_row.rival_measured == pytest.approx(0, abs=1e-6)
