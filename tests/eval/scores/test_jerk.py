import pytest
import torch

from pocket_diffusers.eval.scores.jerk import jerk


def curve(coefficient, power, frames=12):
    """All joints at x = coefficient * t^power, t in seconds."""
    joints = torch.zeros(1, frames, 22, 3, dtype=torch.float64)
    joints[..., 0] = (coefficient * (torch.arange(frames).double() / 20) ** power)[:, None]
    return joints


def test_a_cubic_has_six_times_its_coefficient():
    found = jerk(curve(2.5, 3), [12])
    assert found.peak.item() == pytest.approx(15.0) and found.mean.item() == pytest.approx(15.0)


def test_even_acceleration_has_none():
    found = jerk(curve(9.81, 2), [12])
    assert found.peak.item() == pytest.approx(0, abs=1e-8) and found.mean.item() == pytest.approx(0, abs=1e-8)


def test_one_joint_that_jumps_by_a_centimetre_for_a_frame():
    """Differences 1, -3, 3, -1 of 0.01 m, times 20^3."""
    joints = torch.zeros(1, 10, 22, 3)
    joints[0, 5, 21, 2] = 0.01
    found = jerk(joints, [10])
    assert found.peak.item() == pytest.approx(0.03 * 8000)
    assert found.mean.item() == pytest.approx(0.08 * 8000 / (22 * 7))


def test_only_frames_inside_a_clip_count():
    generator = torch.Generator().manual_seed(0)
    joints = torch.randn(3, 20, 22, 3, generator=generator)
    found = jerk(joints, [20, 9, 4])
    assert found.peak.shape == found.mean.shape == (3,)
    for i, length in enumerate((20, 9, 4)):
        alone = jerk(joints[i : i + 1, :length], [length])
        assert found.peak[i] == alone.peak[0] and found.mean[i] == pytest.approx(alone.mean[0].item())
        sizes = []
        for t in range(length - 3):
            for joint in range(22):
                a, b, c, d = joints[i, t : t + 4, joint].double()
                sizes.append(8000 * float((d - 3 * c + 3 * b - a).norm()))
        assert found.peak[i].item() == pytest.approx(max(sizes))
        assert found.mean[i].item() == pytest.approx(sum(sizes) / len(sizes))
    joints[1, 9:] = torch.nan
    assert jerk(joints, [20, 9, 4]).peak[1] == found.peak[1]


def test_too_short_a_clip():
    with pytest.raises(ValueError, match="a length must be from 4 to 12 frames, not 3"):
        jerk(curve(1.0, 1), [3])
