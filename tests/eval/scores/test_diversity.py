import math

import numpy as np
import pytest

from pocket_diffusers.eval.scores import diversity as module
from pocket_diffusers.eval.scores.diversity import diversity


def test_two_places():
    """Half of the rows at 0 and half at (3, 4): a pair is 5 apart, or not at all, with equal chances."""
    rows = np.zeros((1000, 2))
    rows[500:] = (3.0, 4.0)
    found = [diversity(rows, seed) for seed in range(40)]
    assert np.mean(found) == pytest.approx(2.5, abs=0.1)
    assert found[0] == diversity(rows, 0) != found[1]
    assert {round(value * 300 / 5, 6) % 1 for value in found} == {0.0}, "300 pairs"


@pytest.mark.parametrize(("rows", "pairs"), [(301, 300), (300, 100), (101, 100)])
def test_fewer_rows_make_fewer_pairs(rows, pairs):
    """A single row away from the others, by 1: how often it is drawn says how many pairs there are."""
    data = np.zeros((rows, 1))
    data[0] = 1.0
    drawn = [diversity(data, seed) * pairs for seed in range(200)]
    assert all(value == pytest.approx(round(value)) and value < 2.5 for value in drawn)
    share = pairs / rows  # the chance that a draw holds it
    assert np.mean(drawn) == pytest.approx(2 * share, abs=0.25)


def test_normal_draws_by_their_expectation():
    """The difference of two standard normal rows of two dimensions has a mean length of sqrt(pi)."""
    rows = np.random.default_rng(0).normal(size=(5000, 2))
    found = np.mean([diversity(rows, seed) for seed in range(30)])
    assert found == pytest.approx(math.sqrt(math.pi), rel=0.03)


def test_members_are_two_draws_without_replacement(monkeypatch):
    draws = []

    class Drawing:
        def choice(self, count, size, replace):
            draws.append((count, size, replace))
            return np.arange(size) + 10 * (len(draws) - 1)

    monkeypatch.setattr(module.np.random, "default_rng", lambda seed: Drawing())
    assert diversity(np.arange(400.0)[:, None]) == 10.0
    assert draws == [(400, 300, False)] * 2


def test_too_few_rows():
    with pytest.raises(ValueError, match="motions must have more than 100 rows, not 100"):
        diversity(np.zeros((100, 2)))
    with pytest.raises(ValueError, match="motions holds numbers that are not finite"):
        diversity(np.full((200, 2), np.inf))
