"""Foot skating by hand, against a twin that is written step by step, and against scipy's filter."""

import pytest
import torch
from scipy.ndimage import uniform_filter1d

from pocket_diffusers.eval.scores.foot_skating import foot_skating


def clip(steps, foot=10, frames=None, height=0.0):
    """A person who stands still but for one foot's toes, which move by so many metres along x in each step."""
    frames = frames or len(steps) + 1
    joints = torch.zeros(1, frames, 22, 3)
    joints[0, :, 15, 0] = torch.arange(frames)  # the head may fly
    joints[0, 1 : len(steps) + 1, foot, 0] = torch.tensor(steps).cumsum(0)
    joints[0, len(steps) + 1 :, foot, 0] = sum(steps)
    joints[0, :, foot, 1] = height
    return joints


def twin(joints, length, padded):
    """OmniControl's rule as it is described, with plain numbers."""
    points = joints.tolist()
    steps = (len(points) if padded else length) - 1
    count = 0
    for step in range(steps):
        skates = False
        for foot in (10, 11):

            def speed(t, foot=foot):
                (x, _, z), (u, _, w) = points[t][foot], points[t + 1][foot]
                return 20 * ((u - x) ** 2 + (w - z) ** 2) ** 0.5

            around = [speed(t) for t in range(step - 2, step + 3) if 0 <= t < steps]
            mean = sum(around) / (5 if padded else len(around))
            low = points[step][foot][1] < 0.05 and points[step + 1][foot][1] < 0.05
            skates |= low and speed(step) > 0.5 and mean > 0.5
        count += skates
    return count / steps


def test_a_foot_that_slides_all_the_time():
    assert foot_skating(clip([0.03] * 10), [11]).tolist() == [1.0]  # 0.6 m/s
    assert foot_skating(clip([0.02] * 10), [11]).tolist() == [0.0]  # 0.4 m/s
    assert foot_skating(clip([0.03] * 10, height=0.06), [11]).tolist() == [0.0]
    assert foot_skating(clip([0.03] * 10, foot=11), [11]).tolist() == [1.0]
    assert foot_skating(clip([0.03] * 10, foot=7), [11]).tolist() == [0.0], "ankles do not count"


def test_a_single_quick_step_is_no_skating_unless_the_mean_is_quick_too():
    assert foot_skating(clip([0.0] * 4 + [0.12] + [0.0] * 4), [10]).tolist() == [0.0]  # mean of five: 0.48 m/s
    assert foot_skating(clip([0.0] * 4 + [0.13] + [0.0] * 4), [10]).tolist() == [pytest.approx(1 / 9)]  # 0.52


def test_a_foot_that_lifts_skates_only_in_steps_that_begin_and_end_on_the_ground():
    joints = clip([0.03] * 10)
    joints[0, 4, 10, 1] = 0.2
    assert foot_skating(joints, [11]).tolist() == [pytest.approx(8 / 10)]


def test_padding_counts_in_the_official_form_only():
    joints = clip([0.03] * 10, frames=21)
    assert foot_skating(joints, [11]).tolist() == [1.0]
    # In the first two steps, and in the last two of those that move, the means are 3/5 and 4/5 of 0.6, below 0.5.
    assert foot_skating(joints, [11], "official").tolist() == [pytest.approx(6 / 20)]
    joints[0, 11:] = torch.nan
    assert foot_skating(joints, [11]).tolist() == [1.0]


def random_clips():
    generator = torch.Generator().manual_seed(0)
    joints = 0.03 * torch.randn(6, 40, 22, 3, generator=generator)
    joints[..., 1] = 0.08 * torch.rand(6, 40, 22, generator=generator)
    return joints, [40, 33, 12, 5, 2, 27]


@pytest.mark.parametrize("compat", ["fixed", "official"])
def test_agrees_with_its_twin_clip_by_clip(compat):
    joints, lengths = random_clips()
    found = foot_skating(joints, lengths, compat)
    expected = [twin(each, length, compat == "official") for each, length in zip(joints, lengths, strict=True)]
    assert found.tolist() == pytest.approx(expected)
    assert 0.05 < found.mean() < 0.95
    alone = [foot_skating(joints[i : i + 1], lengths[i : i + 1], compat).item() for i in range(6)]
    assert found.tolist() == alone, "the same whatever the batch"


def test_official_window_is_scipys():
    joints, lengths = random_clips()
    toes = joints[:, :, [10, 11]].numpy()
    speed = 20 * ((toes[:, 1:, :, ::2] - toes[:, :-1, :, ::2]) ** 2).sum(-1) ** 0.5
    mean = uniform_filter1d(speed, 5, axis=1, mode="constant")
    low = (toes[:, 1:, :, 1] < 0.05) & (toes[:, :-1, :, 1] < 0.05)
    expected = (low & (speed > 0.5) & (mean > 0.5)).any(-1).mean(1)
    assert foot_skating(joints, lengths, "official").tolist() == pytest.approx(expected.tolist())


def test_bad_input():
    with pytest.raises(ValueError, match="compat must be one of fixed, official, not 'padded'"):
        foot_skating(clip([0.0]), [2], "padded")
    with pytest.raises(ValueError, match="a length must be from 2 to 2 frames, not 1"):
        foot_skating(clip([0.0]), [1])
