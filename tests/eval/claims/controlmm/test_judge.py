"""Scores of an untrained evaluator, each beside its own definition."""

import math

import numpy as np
import pytest
import torch

from pocket_diffusers.eval.claims.controlmm.judge import JUDGE, Judge, mean_peak_jerk, mean_skating
from pocket_diffusers.eval.claims.controlmm.motions import CaptionedClips, Motions
from pocket_diffusers.hub_models.evaluator_controlmm import MotionTextEvaluator
from pocket_diffusers.pipelines.motion.motion_features import MotionStatistics
from pocket_diffusers.training.word_tokenizer import train_word_tokenizer

WORDS = [f"a person does {one} with the {two}" for one in "abcdefghij" for two in "klmnopqrst"]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / JUDGE
    torch.manual_seed(0)
    evaluator = MotionTextEvaluator.from_preset("nano", movement_dim=8, motion_hidden_dim=8, embedding_dim=6)
    evaluator.save_pretrained(folder)
    train_word_tokenizer(WORDS, 48, 512).save_pretrained(folder)
    MotionStatistics(torch.full((263,), 0.5), torch.full((263,), 2.0)).save(folder)
    return Judge(folder)


def random_clips(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lengths = [40 + 4 * (row % 5) for row in range(count)]
    features = [torch.randn(length, 263, generator=draw) for length in lengths]
    joints = [torch.randn(length, 22, 3, generator=draw) for length in lengths]
    return CaptionedClips(Motions(features, joints), [WORDS[row % 100] for row in range(count)])


def test_motions_and_texts_lie_where_the_evaluator_says(judge):
    clips = random_clips(130)
    motions, texts = judge.embed_motions(clips.motions), judge.embed_texts(clips.captions)
    assert motions.shape == texts.shape == (130, 6) and motions.dtype == np.float64
    for row in (0, 3, 129):
        own = (clips.motions.features[row][None] - 0.5) / 2
        alone = judge.evaluator.embed_motion(own, torch.tensor([len(own[0])]))
        np.testing.assert_allclose(motions[row], alone[0].detach().numpy(), atol=1e-5)
        ids = torch.tensor([judge.tokenizer(clips.captions[row]).input_ids])
        assert ids.shape[1] == 9, "seven words, start and end"
        alone = judge.evaluator.embed_text(ids, torch.tensor([9]))
        np.testing.assert_allclose(texts[row], alone[0].detach().numpy(), atol=1e-5)


def test_scores_are_of_the_motions_and_of_their_captions(judge):
    clips, others = random_clips(160), random_clips(160, 1)
    true = judge.scores(clips.motions, clips)
    assert true.fid.value == pytest.approx(0, abs=1e-5) and true.fid.metric == "fid_controlmm-nano-judge_160"
    apart = judge.scores(others.motions, clips)
    one, other = (judge.embed_motions(each.motions) for each in (others, clips))
    means = ((one.mean(0) - other.mean(0)) ** 2).sum()
    assert apart.fid.value > means > 0
    assert judge.scores(clips.motions, clips, others.motions).fid.value == pytest.approx(apart.fid.value, rel=1e-6)
    texts = judge.embed_texts(clips.captions)
    assert apart.precision.matching_score == pytest.approx(np.linalg.norm(texts - one, axis=1).mean())
    assert (apart.n, apart.precision.n, apart.fid.n) == (160, 160, 160)
    assert true.diversity > 0 and apart.skating == mean_skating(others.motions)
    assert judge.fid(others.motions, clips.motions) == apart.fid


def test_jerk_and_skating_are_means_over_clips():
    time = torch.arange(40) / 20
    slides = torch.zeros(40, 22, 3)
    slides[:, :, 1] = 1.0
    slides[:, 10, 1], slides[:, 10, 0] = 0.0, time  # 1 m/s along the floor
    turns = torch.zeros(60, 22, 3)
    turns[:, :, 1] = 1.0
    turns[30, 5, 2] = 0.001
    motions = Motions([], [slides, turns])
    assert mean_skating(motions) == pytest.approx(0.5)
    assert mean_peak_jerk(motions) == pytest.approx((0 + 3 * 0.001 * 20**3) / 2, rel=1e-3)
    assert not math.isnan(mean_peak_jerk(motions))
