"""Where clips are controlled, counted."""

import pytest
import torch

from pocket_diffusers.eval.claims.controlmm.conditions import (
    DENSITIES,
    POSES,
    across_joints,
    at_density,
    controls_of,
    errors_of,
)
from pocket_diffusers.eval.claims.controlmm.motions import Motions
from pocket_diffusers.pipelines.motion.skeleton import CONTROL_JOINTS


def drawn(condition, frames, seed=0):
    return condition(frames, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("frames", "counts"), [(196, [1, 2, 5, 49, 196]), (100, [1, 2, 5, 25, 100]), (36, [1, 2, 5, 9, 36])]
)
def test_densities_are_of_196_frames_and_fewer_in_shorter_clips(frames, counts):
    masks = [drawn(at_density(count, [20]), frames) for count in DENSITIES.values()]
    assert [int(mask.sum()) for mask in masks] == counts
    assert all(mask.shape == (frames, 22) and not mask[:, :20].any() and not mask[:, 21].any() for mask in masks)


def test_frames_are_drawn_anew_for_each_clip():
    masks = [drawn(at_density(1, [0]), 196, seed).int().argmax().item() for seed in range(50)]
    assert len(set(masks)) > 30 and max(masks) // 22 > 150 and min(masks) // 22 < 40


def test_every_set_of_joints_comes():
    seen = set()
    for seed in range(1000):
        mask = drawn(across_joints(49), 40, seed)
        frames = mask.any(1)
        assert frames.sum() == 10 and (mask[frames] == mask[frames][0]).all(), "the same joints in each frame"
        seen.add(tuple(mask.any(0).nonzero()[:, 0].tolist()))
    assert len(seen) == 63 and set().union(*seen) == set(CONTROL_JOINTS)


def test_whole_poses_and_limbs():
    cells = {name: drawn(condition, 50) for name, (_, condition) in POSES.items()}
    assert {name: int(mask.sum()) for name, mask in cells.items()} == {
        "first-frame": 22, "first-fifth": 220, "first-and-last": 44, "key-frames": 66, "wrists-sparse": 10,
        "wrists-dense": 100, "feet-sparse": 10, "feet-dense": 100,
    }  # fmt: skip
    assert cells["key-frames"].any(1).nonzero()[:, 0].tolist() == [0, 20, 40]
    assert cells["first-and-last"].any(1).nonzero()[:, 0].tolist() == [0, 49]
    assert cells["feet-dense"].any(0).nonzero()[:, 0].tolist() == [10, 11]


def test_targets_are_the_true_joints_and_errors_are_of_them_alone():
    joints = [torch.randn(40, 22, 3), torch.randn(36, 22, 3)]
    truth = Motions([torch.zeros(40, 263), torch.zeros(36, 263)], joints)
    controls = controls_of(truth, [at_density(1, [0]), at_density(196, [15])])
    assert [one.frames for one in controls] == [40, 36] and [int(one.mask.sum()) for one in controls] == [1, 36]
    assert torch.equal(controls[1].targets[:, 15], joints[1][:, 15])
    assert errors_of(truth, controls).average == 0
    off = Motions(truth.features, [joints[0] + torch.tensor([0.0, 0.3, 0.4]), joints[1]])
    error = errors_of(off, controls)
    assert (error.average, error.trajectory_20, error.n) == (pytest.approx(0.25, abs=1e-6), 0.5, 2)
