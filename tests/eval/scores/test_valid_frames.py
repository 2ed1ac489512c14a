import pytest
import torch

from pocket_diffusers.eval.scores.valid_frames import valid_frames


def test_frames_of_each_clip_and_not_its_padding():
    joints = torch.zeros(3, 5, 22, 3)
    joints[0, 3:] = torch.nan
    found = valid_frames(joints, torch.tensor([3, 5, 1]))
    assert found.tolist() == [[True] * 3 + [False] * 2, [True] * 5, [True] + [False] * 4]


@pytest.mark.parametrize(
    ("shape", "lengths", "complaint"),
    [
        ((1, 5, 21, 3), [5], r"joints must be \[batch, frames, 22, 3\], not \[1, 5, 21, 3\]"),
        ((5, 22, 3), [5], r"joints must be \[batch, frames, 22, 3\], not \[5, 22, 3\]"),
        ((0, 5, 22, 3), [], r"joints must be .*, not \[0, 5, 22, 3\]"),
        ((2, 5, 22, 3), [5], r"lengths must be 2 numbers, one for each clip, not \[5\]"),
        ((2, 5, 22, 3), [5, 6], "a length must be from 2 to 5 frames, not 6"),
        ((2, 5, 22, 3), [1, 5], "a length must be from 2 to 5 frames, not 1"),
    ],
)
def test_bad_clips(shape, lengths, complaint):
    with pytest.raises(ValueError, match=complaint):
        valid_frames(torch.zeros(shape), lengths, shortest=2)


def test_a_coordinate_that_is_not_finite():
    joints = torch.zeros(1, 5, 22, 3)
    joints[0, 2, 7, 1] = torch.inf
    with pytest.raises(ValueError, match="joints must be finite, but hold NaN or infinity inside a clip"):
        valid_frames(joints, [3])
