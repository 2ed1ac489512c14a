"""Texts find their motions: the loss by hand, and that a small evaluator learns it."""

import math

import pytest
import torch
from torch import nn

from pocket_diffusers.eval.scores.r_precision import r_precision
from pocket_diffusers.hub_models.evaluator_controlmm import MotionTextEvaluator, MotionTextOutput
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.training.datasets.streams import shuffled_batches
from pocket_diffusers.training.objectives.matching import CaptionedMotions, Matching, matching_loss


def naive_loss(logits, groups):
    """Mean over right answers of -log softmax, item by item, in both directions."""
    total, count = 0.0, len(groups)
    for rows in (logits, [list(column) for column in zip(*logits, strict=True)]):
        for i in range(count):
            log_sum = math.log(sum(math.exp(logit) for logit in rows[i]))
            right = [rows[i][j] - log_sum for j in range(count) if groups[j] == groups[i]]
            total -= sum(right) / len(right) / count / 2
    return total


def test_loss_equals_its_naive_twin():
    logits = 3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    for groups in ([0, 1, 2, 3, 4, 5], [0, 1, 0, 2, 1, 0]):
        loss = matching_loss(logits, torch.tensor(groups))
        assert loss.item() == pytest.approx(naive_loss(logits.tolist(), groups), abs=1e-5)


def test_two_pairs_by_hand():
    """Pairs at no distance, the others 2 apart: log(1 + e^-2) in each direction; in one group, where both are right, 1
    more."""
    logits = torch.tensor([[0.0, -2.0], [-2.0, 0.0]])
    assert matching_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert matching_loss(logits, torch.tensor([4, 4])).item() == pytest.approx(math.log(1 + math.exp(-2)) + 1)


class Places(nn.Module):
    """Embeds a text at its first word's number along x, and a motion at its first feature."""

    def forward(self, features, lengths, words, word_counts):
        return MotionTextOutput(motion=features[:, 0], text=nn.functional.pad(words[:, :1].float(), (0, 1)))


def test_logits_are_negative_distances():
    motions = torch.tensor([[0.0, 3.0], [5.0, 4.0], [9.0, 1.0]])
    data = CaptionedMotions(
        motions[:, None], torch.ones(3), torch.tensor([[0], [2], [9]]), torch.ones(3), torch.tensor([0, 1, 2])
    )
    loss, metrics = Matching(Places(), data, 1e-3).loss("evaluator", torch.arange(3), torch.Generator())
    distances = [[math.dist((text, 0), motion) for motion in motions.tolist()] for text in (0, 2, 9)]
    assert distances[1][1] == 5.0
    assert loss.item() == pytest.approx(naive_loss([[-d for d in row] for row in distances], [0, 1, 2]), abs=1e-5)
    assert metrics["distance"] == pytest.approx((3 + 5 + 1) / 3)
    assert metrics["found"] == pytest.approx(2 / 3), "motion 0 is nearer to text 2 than its own"
    grouped = CaptionedMotions(data.features, data.lengths, data.words, data.word_counts, torch.tensor([7, 7, 2]))
    _, metrics = Matching(Places(), grouped, 1e-3).loss("evaluator", torch.arange(3), torch.Generator())
    assert metrics["found"] == 1.0


def test_a_pair_at_one_place_has_a_gradient():
    """The root of a distance has none at 0."""
    place = torch.zeros(2, 3, requires_grad=True)
    matching_loss(-torch.cdist(place, place.detach()), torch.arange(2)).backward()
    assert place.grad.isfinite().all()


def pairs(count=64):
    """Motions that move one of eight features at one of eight speeds, each told by two words."""
    generator = torch.Generator().manual_seed(0)
    which, speed = torch.arange(count) % 8, torch.arange(count) // 8
    lengths = torch.randint(8, 17, (count,), generator=generator)
    features = 0.1 * torch.randn(count, 16, 12, generator=generator)
    features[torch.arange(count), :, which] += 0.5 * (1 + speed)[:, None]
    words = torch.stack([which, 8 + speed], 1)
    return CaptionedMotions(features, lengths, words, torch.full((count,), 2), torch.arange(count))


def small_evaluator():
    torch.manual_seed(0)
    return MotionTextEvaluator(
        num_features=12, max_frames=16, vocabulary_size=16, word_dim=16, pos_dim=0, movement_dim=32,
        motion_hidden_dim=32, text_hidden_dim=32, embedding_dim=16,
    )  # fmt: skip


def test_every_weight_learns():
    objective = Matching(small_evaluator(), pairs(), 1e-3)
    loss, metrics = objective.loss("evaluator", torch.arange(64), torch.Generator())
    loss.backward()
    idle = [n for n, p in objective.parts["evaluator"].named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle and metrics.keys() == {"found", "distance"}
    decayed, others = objective.optimizer("evaluator").param_groups
    assert (decayed["weight_decay"], others["weight_decay"], decayed["lr"]) == (0.01, 0.0, 1e-3)


@pytest.mark.slow
def test_texts_find_their_motions():
    data = pairs()
    objective = Matching(small_evaluator(), data, 5e-3)
    fit(objective, shuffled_batches(64, 64, 0), FitSettings(steps=150, warmup_steps=10), progress=False)
    evaluator = objective.parts["evaluator"].eval()
    with torch.no_grad():
        said = evaluator(data.features, data.lengths, data.words, data.word_counts)
    found = r_precision(said.text, said.motion)
    assert found.top_1 > 0.9 and found.top_3 > 0.98
