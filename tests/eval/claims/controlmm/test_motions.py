"""Which clips are measured, and what a pipeline is asked for."""

from types import SimpleNamespace

import pytest
import torch

from pocket_diffusers.eval.claims.controlmm import motions
from pocket_diffusers.eval.claims.controlmm.motions import CaptionedClips, Motions, make_motions, world_clips
from pocket_diffusers.pipelines.motion.motion_features import features_of, joints_of_features
from pocket_diffusers.training.datasets.motionworld.records import clips


def test_clips_of_the_test_split_in_whole_tokens(monkeypatch):
    asked = []

    def load(split, count, seed):
        asked.append((split, count, seed))
        return [{"joints": one.joints.numpy(), "caption": one.caption} for one in clips(split, range(count), seed)]

    monkeypatch.setattr(motions, "load_motionworld", load)
    found = world_clips(3)
    assert asked == [("test", 3, 0)] and len(found) == 3
    for clip, own, joints, caption in zip(
        clips("test", range(3)), found.motions.features, found.motions.joints, found.captions, strict=True
    ):
        frames = (len(clip.joints) - 1) // 4 * 4
        assert own.shape == (frames, 263) and caption == clip.caption
        assert torch.equal(own, features_of(clip.joints)[:frames])
        assert torch.equal(joints, joints_of_features(own))


def some_clips(lengths):
    features = [torch.full((length, 263), float(length)) for length in lengths]
    joints = [torch.full((length, 22, 3), float(length)) for length in lengths]
    return CaptionedClips(Motions(features, joints), [f"walks {length}" for length in lengths])


def test_parts_and_padding():
    part = some_clips([40, 60, 44])[1:]
    assert part.captions == ["walks 60", "walks 44"] and part.motions.lengths == [60, 44]
    assert part.motions.padded_joints.shape == (2, 60, 22, 3) and part.motions.padded_features.shape == (2, 60, 263)
    assert part.motions.padded_joints[1, 44:].abs().sum() == 0 and part.motions.padded_joints[1, 43, 0, 0] == 44


def test_clips_of_like_length_are_made_together_each_with_its_own_seed_whatever_the_batch():
    def pipeline(prompts, length, controls, generator, output_type, **options):
        asked.append((prompts, length, controls, [one.initial_seed() for one in generator], options))
        assert output_type == "pt"
        return SimpleNamespace(
            features=[torch.randn(n, 263, generator=own) for n, own in zip(length, generator, strict=True)],
            joints=[torch.zeros(n, 22, 3) for n in length],
        )

    clips, made = some_clips([40, 60, 44]), []
    for batch in (2, 3):
        asked = []
        made.append(make_motions(pipeline, clips, batch, ["a", "b", "c"], seed=7, optimization="fast"))
        assert asked[0][0] == ["walks 40", "walks 44", "walks 60"][:batch] and asked[0][2] == ["a", "c", "b"][:batch]
        assert [seed for one in asked for seed in one[3]] == [7, 9, 8]
        assert all(one[4] == {"optimization": "fast"} for one in asked)
    assert made[0].lengths == [40, 60, 44]
    assert all(torch.equal(*pair) for pair in zip(made[0].features, made[1].features, strict=True))
    asked = []
    make_motions(pipeline, clips, 3)
    assert asked[0][2] is None and asked[0][3] == [0, 2, 1]


@pytest.mark.parametrize("some", [slice(0, 1), slice(1, None)])
def test_a_part_of_motions_is_motions(some):
    assert isinstance(some_clips([40, 60])[some].motions, Motions)
