"""Clips: each its own, made again from its number, true to its caption, and without skating feet."""

import hashlib
import json

import numpy as np
import pytest
import torch

from pocket_diffusers.training.datasets.motionworld import SPLITS, Action, clips
from pocket_diffusers.training.datasets.motionworld.captions import all_captions


@pytest.fixture(scope="module")
def world():
    """The first clips of each split."""
    return {split: list(clips(split, range(60))) for split in SPLITS}


def test_a_clip_depends_on_its_number_alone(world):
    for split in SPLITS:
        for index in (17, 3):
            (again,) = clips(split, [index])
            same = world[split][index]
            assert (again.index, again.caption, again.plan, again.ends) == (index, same.caption, same.plan, same.ends)
            assert torch.equal(again.joints, same.joints) and torch.equal(again.contacts, same.contacts)
    (other,) = clips("test", [3], seed=1)
    assert other.joints.shape != world["test"][3].joints.shape or not torch.equal(other.joints, world["test"][3].joints)


def test_all_clips_differ_and_no_split_holds_one_of_another(world):
    made = [clip for split in SPLITS for clip in world[split]]
    assert len({hashlib.sha256(clip.joints.numpy().tobytes()).digest() for clip in made}) == len(made)
    starts = {tuple(clip.joints[0].flatten().tolist()) for clip in made}  # the person alone tells them apart
    assert len(starts) == len(made)
    assert len({clip.caption for clip in made}) > 0.95 * len(made)


def test_captions_are_proved_by_the_joints_alone(world, prove):
    for clip in world["test"]:
        if len(clip.plan) == 1:
            assert clip.caption in set(all_captions(clip.plan))
        start = 0
        for action, end in zip(clip.plan, clip.ends, strict=True):
            prove(action, clip.joints[start : end + 1])
            start = end


def test_clips_stand_where_a_clip_begins(world):
    lengths = []
    for split in SPLITS:
        for clip in world[split]:
            joints = clip.joints
            lengths.append(len(joints))
            assert joints.dtype == torch.float32 and joints.shape == (lengths[-1], 22, 3) and joints.isfinite().all()
            assert joints[0, 0, [0, 2]].abs().max() == 0 and joints[..., 1].min() == 0
            across = joints[0, 1] - joints[0, 2] + joints[0, 16] - joints[0, 17]
            assert across[0] > 0.5 and across[2].abs() < 0.02  # facing +Z
            assert clip.contacts.shape == (lengths[-1], 2)
    assert 40 <= min(lengths) < 60 and 180 < max(lengths) <= 196 and 90 < np.mean(lengths) < 140


def test_feet_do_not_skate(world):
    """OmniControl's ratio (arXiv 2310.08580): frames in which the toes of a foot are near the floor and yet move."""
    ratios = []
    for clip in world["train"]:
        toes = clip.joints[:, [10, 11]].double().numpy()
        speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * 20  # [frames - 1, 2] m / s
        around = np.stack([np.convolve(foot, np.full(5, 0.2), mode="same") for foot in speed.T], axis=-1)
        down = (toes[:-1, :, 1] < 0.05) & (toes[1:, :, 1] < 0.05)
        ratios.append((down & (speed > 0.5) & (around > 0.5)).any(axis=1).mean())
    assert np.mean(ratios) < 0.02


def test_motion_is_smooth(world):
    """No joint is thrown about: no faster than a foot in a sprint, and still at both ends."""
    for clip in world["validation"]:
        speed = clip.joints.diff(dim=0).norm(dim=-1) * 20
        assert speed.max() < 14 and speed[[0, -1]].max() < 0.6


def test_the_plan_is_told(world):
    for clip in world["validation"][:20]:
        told = json.loads(clip.plan_json())
        ends = tuple(action.pop("end") for action in told)
        assert tuple(Action(**action) for action in told) == clip.plan and ends == clip.ends
        assert all(0 < end < len(clip.joints) for end in ends)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"split": "dev"}, "split must be .* 'dev'"),
        ({"split": "test", "seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"split": "test", "seed": True}, "seed must be a whole number of at least 0, not True"),
        ({"split": "test", "indices": [-2]}, "index must be at least 0, not -2"),
    ],
)
def test_bad_requests_are_refused(request_, message):
    with pytest.raises(ValueError, match=message):
        list(clips(**{"indices": [0], **request_}))
