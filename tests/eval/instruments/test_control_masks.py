from collections import Counter

import pytest
import torch

from pocket_diffusers.eval.instruments.control_masks import (
    ALL_JOINTS,
    COMBINATIONS,
    DENSITIES,
    MOTIUS_CONDITIONS,
    ControlCondition,
    cross_condition,
    joint_condition,
)
from pocket_diffusers.pipelines.motion.skeleton import CONTROL_JOINTS

LENGTHS = [20, 43, 100, 196]
CLIPS = [7, 0, 3, 250]
MOTIUS = {condition.name: condition for condition in MOTIUS_CONDITIONS}
EVERY = [
    *(joint_condition(joint, density) for joint in (0, 21) for density in DENSITIES),
    *(cross_condition(density) for density in DENSITIES),
    *MOTIUS_CONDITIONS,
]


def frames_of(mask):
    return mask.any(-1).nonzero().flatten().tolist()


def joints_of(mask):
    return tuple(mask.any(0).nonzero().flatten().tolist())


@pytest.mark.parametrize("joint", CONTROL_JOINTS)
@pytest.mark.parametrize(
    ("density", "counts"),
    [("1", [1] * 4), ("2", [2] * 4), ("5", [5] * 4), ("25%", [5, 10, 25, 49]), ("100%", LENGTHS)],
)
def test_density_counts_the_frames_of_each_clip(joint, density, counts):
    masks = joint_condition(joint, density).masks(LENGTHS, CLIPS)
    assert masks.shape == (4, 196, 22) and masks.dtype == torch.bool
    assert masks.sum((1, 2)).tolist() == counts
    for mask, length in zip(masks, LENGTHS, strict=True):
        assert joints_of(mask) == (joint,) and max(frames_of(mask)) < length


def test_frames_are_drawn_evenly():
    masks = joint_condition(0, "5").masks([40] * 2000, range(2000), frames=40)
    share = masks[..., 0].double().mean(0)
    assert share.min() > 0.09 and share.max() < 0.16  # 5 of 40, with a deviation of 0.0074


@pytest.mark.parametrize("condition", EVERY, ids=lambda condition: condition.name)
def test_a_clip_is_controlled_the_same_whatever_the_batch(condition: ControlCondition):
    together = condition.masks(LENGTHS, CLIPS, seed=5)
    for i in range(4):
        alone = condition.masks(LENGTHS[i : i + 1], CLIPS[i : i + 1], frames=LENGTHS[i], seed=5)
        assert torch.equal(together[i, : LENGTHS[i]], alone[0]) and not together[i, LENGTHS[i] :].any()
        assert alone.any()


def test_seeds_and_clips_differ():
    condition = joint_condition(0, "5")
    one, other = condition.masks([196], [0]), condition.masks([196], [1])
    assert not torch.equal(one, other) and not torch.equal(one, condition.masks([196], [0], seed=1))


def test_joints_are_compared_at_the_same_frames():
    for density in DENSITIES:
        pelvis, wrist = (joint_condition(joint, density).masks(LENGTHS, CLIPS) for joint in (0, 21))
        assert torch.equal(pelvis[..., 0], wrist[..., 21])
        assert torch.equal(pelvis[..., 0], cross_condition(density).masks(LENGTHS, CLIPS).any(-1))


def test_all_63_sets_of_control_joints():
    assert len(COMBINATIONS) == len(set(COMBINATIONS)) == 63
    assert Counter(map(len, COMBINATIONS)) == {1: 6, 2: 15, 3: 20, 4: 15, 5: 6, 6: 1}
    assert all(set(joints) <= set(CONTROL_JOINTS) for joints in COMBINATIONS)
    masks = cross_condition("2").masks([60] * 1000, range(1000), frames=60)
    drawn = Counter(joints_of(mask) for mask in masks)
    assert drawn.keys() == set(COMBINATIONS) and max(drawn.values()) < 40
    assert all(mask.sum() == 2 * len(joints_of(mask)) for mask in masks), "all joints of a set at the same frames"


@pytest.mark.parametrize(
    ("name", "frames", "joints"),
    [
        ("first frame", [0], ALL_JOINTS),
        ("first 20%", list(range(20)), ALL_JOINTS),
        ("first and last frame", [0, 99], ALL_JOINTS),
        ("wrists sparse", [0, 20, 40, 60, 80], (20, 21)),
        ("wrists dense", list(range(100)), (20, 21)),
        ("feet sparse", [0, 20, 40, 60, 80], (10, 11)),
        ("feet dense", list(range(100)), (10, 11)),
    ],
)
def test_conditions_of_motius(name, frames, joints):
    (mask,) = MOTIUS[name].masks([100], [0])
    assert frames_of(mask) == frames and joints_of(mask) == joints
    assert mask.sum() == len(frames) * len(joints)


@pytest.mark.parametrize(("length", "count"), [(20, 3), (40, 4), (100, 7), (146, 10), (180, 11), (196, 12)])
def test_key_frames_hold_the_ends_and_their_distance(length, count):
    """Of 30 frames a second Motius takes 4 of 60, 7 to 8 of 150, 10 of 225 and 12 of 300."""
    masks = MOTIUS["key frames"].masks([length] * 300, range(300), frames=length)
    for mask in masks:
        frames = frames_of(mask)
        assert len(frames) == count and (frames[0], frames[-1]) == (0, length - 1)
        assert min(later - frame for frame, later in zip(frames, frames[1:], strict=False)) >= 8
    between = masks[:, 8 : length - 8].any(-1)
    assert between.any(0).all(), "each frame that may be one is one of some clip"


def test_bad_input():
    condition = joint_condition(0, "1")
    for given, complaint in (
        (([40], [0, 1]), r"clips must be as many as the 1 lengths, not \[0, 1\]"),
        (([], []), r"clips must be as many as the 0 lengths, not \[\]"),
        (([19], [0]), "a length must be from 20 to 196 frames, not 19"),
        (([197], [0]), "a length must be from 20 to 196 frames, not 197"),
        (([40], [-1]), "the number of a clip must be at least 0, not -1"),
    ):
        with pytest.raises(ValueError, match=complaint):
            condition.masks(*given)
    with pytest.raises(ValueError, match="density '50%' is unknown: use one of 1, 2, 5, 25%, 100%"):
        joint_condition(0, "50%")
    with pytest.raises(ValueError, match="density '50%' is unknown"):
        cross_condition("50%")
    with pytest.raises(ValueError, match="joint must be from 0 to 21, not 22"):
        joint_condition(22, "1")
