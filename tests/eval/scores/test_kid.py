"""The kernel distance against sums by hand, and its freedom from bias."""

import json

import numpy as np
import pytest
from PIL import Image

from pocket_diffusers.eval.instruments.features import FeatureExtractor
from pocket_diffusers.eval.scores.feature_distance import distance_of_pictures
from pocket_diffusers.eval.scores.kid import kid, polynomial_kernel, unbiased_mmd2


def twin(x, y):
    """Pair by pair, as the sums are written."""

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return sum(kernel(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    between = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * between


def test_estimate_equals_the_sums():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(1, 2, size=(7, 3))
    assert unbiased_mmd2(x, y) == pytest.approx(twin(x.tolist(), y.tolist()))
    assert unbiased_mmd2(y, x) == pytest.approx(unbiased_mmd2(x, y))


def test_two_rows_by_hand():
    """One feature: k(1, 3) = 64 and k(0, 0) = 1; between them k(1, 0) = k(3, 0) = 1."""
    assert unbiased_mmd2(np.array([[1.0], [3.0]]), np.zeros((2, 1))) == 64 + 1 - 2
    assert polynomial_kernel(np.array([[2.0, 2.0]]), np.array([[1.0, 3.0]])).item() == (8 / 2 + 1) ** 3


def test_no_bias_for_equal_distributions_whatever_the_number():
    rng = np.random.default_rng(1)
    for count in (4, 20):
        draws = [unbiased_mmd2(rng.normal(size=(count, 4)), rng.normal(size=(count, 4))) for _ in range(4000)]
        error = np.std(draws) / np.sqrt(len(draws))
        assert abs(np.mean(draws)) < 3.5 * error and min(draws) < 0


def test_expectation_of_a_shifted_distribution():
    """One feature, a of variance 1 about 0 and b about m: E k(b, b') - E k(a, a') is m^6 + 6 m^4 + 9 m^2 more, ..."""
    m, rng = 1.0, np.random.default_rng(2)
    # E (ab + 1)^3 = E a^3 E b^3 + 3 E a^2 E b^2 + 3 E a E b + 1, with moments of a normal distribution about mean u
    moments = {u: (u, u**2 + 1, u**3 + 3 * u) for u in (0.0, m)}

    def expected(u, v):
        (a1, a2, a3), (b1, b2, b3) = moments[u], moments[v]
        return a3 * b3 + 3 * a2 * b2 + 3 * a1 * b1 + 1

    truth = expected(m, m) + expected(0.0, 0.0) - 2 * expected(0.0, m)
    draws = [unbiased_mmd2(rng.normal(size=(60, 1)), rng.normal(m, 1, size=(60, 1))) for _ in range(500)]
    assert np.mean(draws) == pytest.approx(truth, abs=4 * np.std(draws) / np.sqrt(500))


def test_subsets_are_seeded_and_named():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(400, 5)), rng.normal(1, 1, size=(90, 5))
    found = kid(x, y, "clip-nano-judge", subsets=7)
    assert found.metric == "kid_clip-nano-judge_400"
    assert (found.subsets, found.subset_size, found.n, found.n_reference) == (7, 45, 400, 90)
    assert found.std > 0 and found == kid(x, y, "clip-nano-judge", subsets=7)
    assert found.value != kid(x, y, "clip-nano-judge", subsets=7, seed=1).value
    assert found.value == pytest.approx(unbiased_mmd2(x, y), rel=0.3)
    whole = kid(x[:90], y, "x", subsets=3, subset_size=90)
    assert whole.value == pytest.approx(unbiased_mmd2(x[:90], y)) and whole.std == pytest.approx(0, abs=1e-12)
    record = found.to_record()
    assert json.loads(json.dumps(record)) == record and record["protocol"]["degree"] == 3


def test_usual_subset_size_is_1000():
    rows = np.random.default_rng(4).normal(size=(2500, 2))
    assert kid(rows, rows, "x", subsets=1).subset_size == 1000


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"subsets": 0}, "subsets must be at least 1.*not 0"),
        ({"subset_size": 1}, "subset_size must be 2 to 6.*not 1"),
        ({"subset_size": 7}, "subset_size must be 2 to 6.*not 7"),
    ],
)
def test_bad_numbers(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        kid(np.zeros((6, 2)), np.zeros((9, 2)), "x", **options)


def test_pictures_through_an_extractor():
    tone = FeatureExtractor("tone", lambda pictures: [[np.asarray(each).mean() / 255] for each in pictures])
    dark = [Image.new("RGB", (4, 4), (value,) * 3) for value in (0, 1, 2, 3)]
    bright = [Image.new("RGB", (4, 4), (value,) * 3) for value in (200, 201, 202, 203)]
    assert distance_of_pictures(kid, dark, bright, tone).metric == "kid_tone_4"
    assert distance_of_pictures(kid, dark, bright, tone).value > 100 * abs(
        distance_of_pictures(kid, dark, dark, tone).value
    )
    with pytest.raises(ValueError, match="pictures is empty"):
        distance_of_pictures(kid, [], bright, tone)
    short = FeatureExtractor("short", lambda pictures: np.zeros((2, 3)))
    with pytest.raises(ValueError, match="short made 2 rows of features of 4 pictures"):
        distance_of_pictures(kid, dark, bright, short)
