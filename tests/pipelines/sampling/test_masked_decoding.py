"""Parallel decoding: the published schedule, noise of the right distribution, and choices against naive twins."""

import math

import pytest
import torch
from scipy import stats

from pocket_diffusers.pipelines.sampling.masked_decoding import (
    CERTAIN,
    draw_gumbel,
    keep_likeliest,
    least_certain,
    masked_counts,
)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_schedule_is_the_published_one():
    tokens = torch.tensor([49, 8])
    counts = torch.stack([masked_counts(step, 10, tokens) for step in range(10)])
    assert counts[:, 0].tolist() == [49, 48, 46, 42, 38, 31, 25, 17, 9, 1]
    assert counts[:, 1].tolist() == [8, 8, 8, 7, 6, 5, 4, 3, 1, 1]
    assert masked_counts(0, 1, tokens).tolist() == [49, 8], "a single step finds all"


def test_least_certain_equals_its_naive_twin():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(40, 12, generator=generator)
    scores[torch.rand(scores.shape, generator=generator) < 0.3] = CERTAIN
    padding = torch.arange(12) >= torch.randint(1, 13, (40, 1), generator=generator)
    counts = torch.randint(1, 13, (40,), generator=generator)
    for row, hidden in enumerate(least_certain(scores, counts, padding)):
        real = [i for i in range(12) if not padding[row, i]]
        lowest = sorted(real, key=lambda i: (float(scores[row, i]), i))[: int(counts[row])]
        assert hidden.nonzero()[:, 0].tolist() == sorted(lowest)


def test_noise_is_gumbel_s():
    noise = draw_gumbel([30, 20], 400, seeded(0, 1))
    assert noise.shape == (2, 30, 400) and noise.dtype == torch.float32
    for values in (noise[0].flatten(), noise[1, :20].flatten()):
        assert stats.kstest(values.double().numpy(), stats.gumbel_r.cdf).pvalue > 0.01
    assert noise[1, 20:].eq(0).all()


def test_adding_noise_and_taking_the_highest_draws_from_the_softmax():
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0])
    drawn = (logits + draw_gumbel([40_000], 4, seeded(0))).argmax(-1)
    found = torch.bincount(drawn[0], minlength=4).numpy()
    wanted = 40_000 * torch.softmax(logits.double(), 0).numpy()
    assert stats.chisquare(found, wanted).pvalue > 0.01


def test_a_sample_has_its_noise_whatever_the_batch():
    alone = draw_gumbel([7], 5, seeded(3))
    assert torch.equal(draw_gumbel([9, 7], 5, seeded(1, 3))[1, :7], alone[0])
    with pytest.raises(ValueError):
        draw_gumbel([9, 7], 5, seeded(1))


def test_only_the_likeliest_stay():
    logits = torch.randn(3, 4, 25, generator=torch.Generator().manual_seed(0))
    kept = keep_likeliest(logits, 0.1)
    for row, values in zip(logits.reshape(-1, 25), kept.reshape(-1, 25), strict=True):
        best = row.argsort(descending=True)[: math.ceil(2.5)]
        assert set(values.isfinite().nonzero()[:, 0].tolist()) == set(best.tolist())
        assert torch.equal(values[best], row[best])
    assert keep_likeliest(torch.randn(512), 0.1).isfinite().sum() == 52
