"""Clips in memory: what is kept of records, and pieces of them against naive slices."""

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.motion_features import features_of
from pocket_diffusers.training.datasets.motion_clips import MotionClips

LENGTHS = (40, 53, 199, 6)


def counted(length, clip):
    """Features whose value says clip and frame."""
    return np.full((length, 263), 1000.0 * (clip + 1), np.float32) + np.arange(length, dtype=np.float32)[:, None]


@pytest.fixture(scope="module")
def clips():
    records = [{"features": counted(length, i), "captions": [f"{i} a", f"{i} b"]} for i, length in enumerate(LENGTHS)]
    return MotionClips.of(records)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_frames_and_captions_are_kept_up_to_the_longest_clip(clips):
    assert clips.lengths.tolist() == [40, 53, 196, 6] and len(clips) == 4 and len(clips.frames) == 295
    pieces = clips.frames.split(clips.lengths.tolist())
    assert all(np.array_equal(own, counted(200, i)[: len(own)]) for i, own in enumerate(pieces))
    assert list(clips.every_caption()) == [f"{i} {letter}" for i in range(4) for letter in "ab"]
    with pytest.raises(ValueError, match=r"^clips must be at least one, not 0\.$"):
        MotionClips.of([])


def test_joints_become_features_and_one_caption_is_enough():
    torch.manual_seed(0)
    joints = torch.cumsum(0.01 * torch.randn(9, 22, 3), 0) + torch.randn(22, 3)
    clips = MotionClips.of([{"joints": joints.numpy(), "caption": "a person walks"}])
    torch.testing.assert_close(clips.frames, features_of(joints))
    assert clips.captions == [("a person walks",)]


def test_windows_lie_inside_their_clips_and_anywhere(clips):
    assert clips.at_least(41).tolist() == [1, 2] and clips.at_least(53).tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"^frames must be at most 196, those of the longest clip, not 200\.$"):
        clips.at_least(200)
    batch = torch.tensor([1, 0] * 200)
    pieces = clips.windows(batch, 40, generator())
    assert pieces.shape == (400, 40, 263) and pieces[..., 0].diff(dim=1).eq(1).all()
    starts = pieces[:, 0, 0] - 1000 * (batch + 1)
    assert set(starts[batch == 1].tolist()) == set(range(14)) and set(starts[batch == 0].tolist()) == {0}


def test_crops_are_whole_tokens_padded_with_zeros(clips):
    batch = torch.arange(4).repeat(300)
    crops = clips.crops(batch, generator())
    assert crops.features.shape[1] == 4 * crops.padding.shape[1] == 4 * int(crops.tokens.max()) == 196
    shorter = 0
    for clip, features, padding, tokens in zip(batch.tolist(), *crops, strict=True):
        length, tokens = clips.lengths[clip].item(), int(tokens)
        assert padding.tolist() == [i >= tokens for i in range(49)]
        own = features[: 4 * tokens, 0]
        first = own[0].item() - 1000 * (clip + 1)
        assert 0 <= first <= length - 4 * tokens and own.diff().eq(1).all() and features[4 * tokens :].eq(0).all()
        assert tokens in ({1} if clip == 3 else {length // 4, length // 4 - 1})
        shorter += clip != 3 and tokens < length // 4
    assert shorter / 900 == pytest.approx(1 / 3, abs=0.05)


def test_texts_are_one_of_each_clip_s(clips):
    texts = clips.texts(torch.tensor([2, 0] * 100), generator())
    assert set(texts[::2]) == {"2 a", "2 b"} and set(texts[1::2]) == {"0 a", "0 b"}


def test_a_seed_says_which_pieces(clips):
    batch = torch.arange(4)
    first, again, other = (clips.crops(batch, generator(seed)).features for seed in (0, 0, 1))
    assert torch.equal(first, again) and (first.shape != other.shape or not torch.equal(first, other))
