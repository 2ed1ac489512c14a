"""What is timed, at nano size."""

import pytest
import torch

from pocket_diffusers.eval.claims.controlmm import contenders
from pocket_diffusers.eval.timing.cost_rows import IMPORTS


def test_a_clip_is_made_under_control_or_free(monkeypatch):
    seen = []
    monkeypatch.setattr(
        contenders.ControlMMPipeline, "__call__", lambda self, **asked: seen.append(asked), raising=True
    )
    for optimization in ("accurate", None):
        work = contenders.build_controlmm("nano", optimization, 3, 40)
        assert work.facts[IMPORTS] > 10
        work.call()
    controlled, free = seen
    assert (controlled["optimization"], controlled["length"]) == ("accurate", 40)
    assert controlled["controls"].mask.sum() == 40 and "controls" not in free
    assert controlled["prompt_embeds"].shape == (3, 128)


def test_random_weights_make_motions_at_their_targets_or_not():
    joints = contenders.build_controlmm("nano", "fast", 1, 20).call().joints
    assert [one.shape for one in joints] == [(20, 22, 3)] and joints[0].isfinite().all()


def test_diffusion_takes_as_many_steps_as_are_timed():
    made = contenders.build_diffusion("mdm", 1, 0, 2, 20).call()
    assert made.shape == (2, 20, 263)


def test_the_pelvis_walks_a_metre_a_second():
    way = contenders.pelvis_way(41)
    assert way.targets[40, 0].tolist() == pytest.approx([0, 0.92, 2.0])
    assert torch.equal(way.mask.sum(1), torch.ones(41, dtype=torch.long))
