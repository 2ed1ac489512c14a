"""The Frechet distance against closed forms."""

import json

import numpy as np
import pytest
from PIL import Image

from pocket_diffusers.eval.instruments.features import INCEPTION, FeatureExtractor
from pocket_diffusers.eval.scores.feature_distance import distance_of_pictures
from pocket_diffusers.eval.scores.fid import fid, frechet_distance, frechet_distance_by_eigenvalues

scipy = pytest.importorskip("scipy", reason="the extra eval is not installed")
FORMS = (frechet_distance, frechet_distance_by_eigenvalues)


def covariance(rng, dim):
    root = rng.normal(size=(dim, dim))
    return root @ root.T / dim


@pytest.mark.parametrize("distance", FORMS)
def test_two_gaussians_on_a_line(distance):
    """(m1 - m2)^2 + (s1 - s2)^2."""
    one, other = np.array([1.0]), np.array([4.0])
    assert distance(one, np.array([[4.0]]), other, np.array([[25.0]])) == pytest.approx(3**2 + (2 - 5) ** 2)


@pytest.mark.parametrize("distance", FORMS)
def test_gaussians_with_commuting_covariances(distance):
    """With one eigenbasis: the distance of the means and of the axes' deviations."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    axes = rng.uniform(0.5, 3, size=(2, 5))
    covs = [(basis * axis**2) @ basis.T for axis in axes]
    means = rng.normal(size=(2, 5))
    expected = ((means[0] - means[1]) ** 2).sum() + ((axes[0] - axes[1]) ** 2).sum()
    assert distance(means[0], covs[0], means[1], covs[1]) == pytest.approx(expected)


def test_both_forms_agree_where_covariances_do_not_commute():
    rng = np.random.default_rng(1)
    moments = (rng.normal(size=6), covariance(rng, 6), rng.normal(size=6), covariance(rng, 6))
    assert frechet_distance(*moments) == pytest.approx(frechet_distance_by_eigenvalues(*moments))
    turned = (moments[2], moments[3], moments[0], moments[1])
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(*moments))


def test_singular_covariances_that_never_meet():
    """One varies along x only, the other along y only: the product is zero, and the distance the summed variances."""
    zero = np.zeros(2)
    for distance in FORMS:
        found = distance(zero, np.diag([4.0, 0]), zero, np.diag([0, 9.0]))
        assert found == pytest.approx(13, abs=1e-2)


def test_a_root_with_a_large_imaginary_part_is_an_error():
    with pytest.raises(ValueError, match="imaginary part of 2 on its diagonal"):
        frechet_distance(np.zeros(1), np.array([[-4.0]]), np.zeros(1), np.array([[1.0]]))


def test_a_root_that_is_not_finite_is_taken_again_with_eps(monkeypatch):
    """Whatever scipy makes of a singular product, the second root is of matrices with 1e-6 more on the diagonal."""
    seen, root = [], scipy.linalg.sqrtm

    def once_broken(matrix):
        seen.append(matrix)
        return np.full_like(matrix, np.nan) if len(seen) == 1 else root(matrix)

    monkeypatch.setattr(scipy.linalg, "sqrtm", once_broken)
    found = frechet_distance(np.zeros(2), np.diag([4.0, 1.0]), np.zeros(2), np.diag([1.0, 1.0]))
    assert np.allclose(seen[1], np.diag([4.000001 * 1.000001, 1.000001**2]), rtol=0, atol=1e-12)
    assert found == pytest.approx(7 - 2 * 3, abs=1e-5)


def test_features_of_normal_draws_come_near_the_closed_form():
    rng = np.random.default_rng(2)
    one, other = rng.normal(0, 1, (20000, 3)), rng.normal(1, 2, (20000, 3))
    found = fid(one, other, "draws")
    assert found.value == pytest.approx(3 * (1 + 1), rel=0.03)
    assert found.metric == "fid_draws_20k" and not found.singular
    assert found.value == pytest.approx(found.eigenvalue_form)


def test_covariances_divide_by_n_minus_one():
    one, other = np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])  # variances 2 and 8, means 1 and 2
    assert fid(one, other, "rows").value == pytest.approx(1 + (8**0.5 - 2**0.5) ** 2)


def test_equal_sets_have_no_distance_and_small_ones_a_bias():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(400, 8))
    assert fid(rows, rows, "x").value == pytest.approx(0, abs=1e-6)
    small, large = (fid(rng.normal(size=(n, 8)), rng.normal(size=(n, 8)), "x").value for n in (50, 2000))
    assert small > 5 * large > 0


def test_few_pictures_of_many_features_are_called_singular():
    rng = np.random.default_rng(4)
    found = fid(rng.normal(size=(20, 64)), rng.normal(size=(30, 64)), "x", "official")
    assert found.singular and found.value == pytest.approx(found.eigenvalue_form, rel=1e-2)


@pytest.mark.parametrize(
    ("extractor", "count", "name"),
    [("clip-nano-judge", 400, "fid_clip-nano-judge_400"), ("x", 30000, "fid_x_30k"), (INCEPTION, 2000, "fid_2k")],
)
def test_only_the_published_features_are_plain_fid(extractor, count, name):
    rows = np.random.default_rng(5).normal(size=(count, 2))
    found = fid(rows, rows[:10], extractor)
    assert found.metric == name and (found.n, found.n_reference) == (count, 10)


@pytest.mark.parametrize(
    ("generated", "complaint"),
    [
        (np.zeros((5, 2)), "generated has 2 features a picture, but reference 3"),
        (np.zeros((1, 3)), r"generated must be \[count, dim\] with at least 2 rows.*not \[1, 3\]"),
        (np.zeros(3), r"generated must be \[count, dim\] with at least 2 rows, not \[3\]"),
        (np.full((5, 3), np.nan), "generated holds numbers that are not finite"),
    ],
)
def test_bad_features(generated, complaint):
    with pytest.raises(ValueError, match=complaint):
        fid(generated, np.zeros((5, 3)), "x")
    with pytest.raises(ValueError, match="compat must be one of fixed, official, not 'best'"):
        fid(np.zeros((5, 3)), np.zeros((5, 3)), "x", "best")


def test_pictures_through_an_extractor_of_one_s_own():
    """The mean colour: one set black or dark, the other 100 brighter."""
    tone = FeatureExtractor("tone", lambda pictures: [np.asarray(each).mean(axis=(0, 1)) for each in pictures])
    dark = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (0, 10, 20)]
    bright = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (100, 110, 120)]
    found = distance_of_pictures(fid, dark, bright, tone)
    assert found.metric == "fid_tone_3" and found.value == pytest.approx(100**2)
    record = found.to_record()
    assert json.loads(json.dumps(record)) == record and record["interval"] is None
    assert record["protocol"] == {"extractor": "tone", "n": 3, "n_reference": 3, "compat": "fixed", "eps": 1e-6}
