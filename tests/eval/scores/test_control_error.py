"""Control errors by hand and against a twin that goes place by place."""

import json

import pytest
import torch

from pocket_diffusers.eval.scores.control_error import control_error


def case(errors, frames=4):
    """Clips of which the targets are the origin, and joints are so many metres away: {(clip, frame, joint): metres}."""
    clips = 1 + max(clip for clip, _, _ in errors)
    joints, mask = torch.full((clips, frames, 22, 3), 9.0), torch.zeros(clips, frames, 22, dtype=torch.bool)
    for (clip, frame, joint), metres in errors.items():
        joints[clip, frame, joint] = torch.tensor([0.6 * metres, 0.0, 0.8 * metres])
        mask[clip, frame, joint] = True
    return joints, torch.zeros_like(joints), mask


BY_HAND = {(0, 0, 0): 0.1, (0, 1, 0): 0.3, (0, 3, 0): 0.6, (0, 3, 21): 0.0, (1, 2, 15): 0.25}


def test_each_joint_for_itself():
    found = control_error(*case(BY_HAND))
    assert (found.trajectory_20, found.trajectory_50) == (1.0, 0.5)
    assert found.location_20 == pytest.approx((2 / 4 + 1) / 2)
    assert found.location_50 == pytest.approx((1 / 4 + 0) / 2)
    assert found.average == pytest.approx((1.0 / 4 + 0.25) / 2)
    assert (found.n, found.controlled, found.joint_reduce) == (2, 5, "none")


def test_joints_of_a_frame_together():
    """Frame 3 has the mean of 0.6 and 0: no longer a failure at 50 cm."""
    found = control_error(*case(BY_HAND), "mean")
    assert (found.trajectory_20, found.trajectory_50) == (1.0, 0.0)
    assert found.location_20 == pytest.approx((2 / 3 + 1) / 2) and found.location_50 == 0.0
    assert found.average == pytest.approx(((0.1 + 0.3 + 0.3) / 3 + 0.25) / 2)
    assert (found.n, found.controlled, found.joint_reduce) == (2, 5, "mean")


def test_the_limit_itself_is_no_failure():
    joints, targets, mask = case({(0, 0, 0): 1.0})
    joints[0, 0, 0] = torch.tensor([0.0, 0.5, 0.0])
    found = control_error(joints, targets, mask)
    assert (found.trajectory_20, found.trajectory_50, found.location_50) == (1.0, 0.0, 0.0)


def test_the_origin_is_a_target_like_any_other():
    """Published code reads the mask off the targets, and so loses it."""
    joints, targets, mask = case({(0, 0, 0): 2.0})
    assert not targets.any()
    assert control_error(joints, targets, mask).average == pytest.approx(2.0)


def test_what_is_not_controlled_may_be_anything():
    joints, targets, mask = case(BY_HAND)
    expected = control_error(joints, targets, mask)
    joints[~mask], targets[~mask] = torch.nan, torch.inf
    assert control_error(joints, targets, mask) == expected


def twin(joints, targets, mask, mean):
    rows = []
    for clip in range(len(joints)):
        errors = []
        for frame in range(joints.shape[1]):
            here = [
                float((joints[clip, frame, j].double() - targets[clip, frame, j].double()).square().sum()) ** 0.5
                for j in range(22)
                if mask[clip, frame, j]
            ]
            errors += [sum(here) / len(here)] if mean and here else here
        shares = [sum(error > limit for error in errors) / len(errors) for limit in (0.2, 0.5)]
        rows.append([*(float(share > 0) for share in shares), *shares, sum(errors) / len(errors)])
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("joint_reduce", ["none", "mean"])
def test_agrees_with_its_twin(joint_reduce):
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(7, 9, 22, 3, generator=generator)
    spread = torch.tensor([0.02, 0.05, 0.08, 0.11, 0.2, 0.3, 0.4]).view(7, 1, 1, 1)
    joints = targets + spread * torch.randn(7, 9, 22, 3, generator=generator)
    mask = torch.rand(7, 9, 22, generator=generator) < 0.2
    found = control_error(joints, targets, mask, joint_reduce)
    shares = (found.trajectory_20, found.trajectory_50, found.location_20, found.location_50, found.average)
    assert shares == pytest.approx(twin(joints, targets, mask, joint_reduce == "mean"))
    low, high = found.interval
    assert 0 < found.location_50 < 1 and low < found.average < high
    record = found.to_record()
    assert json.loads(json.dumps(record)) == record


def test_a_single_clip_has_no_interval():
    assert control_error(*case({(0, 0, 0): 1.0})).to_record()["interval"] is None


def test_bad_input():
    joints, targets, mask = case(BY_HAND)
    for given, complaint in (
        ((joints[:, :3], targets, mask), r"joints is \[2, 3, 22, 3\], targets \[2, 4, 22, 3\] and mask"),
        ((joints, targets, mask[..., :21]), r"mask \[2, 4, 21\]; they must be \[batch, frames, joints, 3\]"),
        ((joints[:0], targets[:0], mask[:0]), r"joints is \[0, 4, 22, 3\]"),
        ((joints, targets, mask.float()), "mask must be boolean, not torch.float32"),
        ((joints, targets, torch.zeros_like(mask)), "mask must be True somewhere in every clip, but in clip 0 is not"),
        ((joints, targets, mask, "max"), "joint_reduce must be one of none, mean, not 'max'"),
    ):
        with pytest.raises(ValueError, match=complaint):
            control_error(*given)
    mask[1] = False
    with pytest.raises(ValueError, match="but in clip 1 is not"):
        control_error(joints, targets, mask)
    joints[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="must be finite where mask is True"):
        control_error(joints[:1], targets[:1], mask[:1])
