import math

import numpy as np
import pytest

from pocket_diffusers.eval.scores import multimodality as module
from pocket_diffusers.eval.scores.multimodality import multimodality


def test_motions_of_one_text_that_are_alike():
    """However far texts are apart."""
    assert multimodality(np.arange(5.0)[:, None, None] * np.ones((5, 30, 4))) == 0.0


def test_normal_draws_by_their_expectation():
    """Of distances of two standard normal rows of two dimensions: sqrt(pi); a place meets itself once in thirty."""
    motions = np.random.default_rng(0).normal(size=(400, 30, 2))
    found = np.mean([multimodality(motions, seed) for seed in range(40)])
    assert found == pytest.approx(math.sqrt(math.pi) * 29 / 30, rel=0.02)
    assert multimodality(motions, 1) == multimodality(motions, 1) != multimodality(motions, 2)


def test_pairs_are_the_same_places_of_every_text(monkeypatch):
    draws = []

    class Drawing:
        def choice(self, count, size, replace):
            draws.append((count, size, replace))
            return np.arange(size) + 3 * (len(draws) - 1)

    monkeypatch.setattr(module.np.random, "default_rng", lambda seed: Drawing())
    line = np.arange(20.0)[None, :, None]
    motions = np.concatenate([line, 2 * line])  # 3 places apart: 3 of the first text, 6 of the second
    assert multimodality(motions) == pytest.approx(4.5)
    assert draws == [(20, 10, False)] * 2


@pytest.mark.parametrize("shape", [(5, 10, 4), (30, 4), (0, 30, 4)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match=r"motions must be \[texts, motions, dim\] with more than 10 motions"):
        multimodality(np.zeros(shape))


def test_numbers_that_are_not_finite():
    with pytest.raises(ValueError, match="motions must be finite"):
        multimodality(np.full((2, 30, 4), np.nan))
