import numpy as np
import pytest
from scipy import stats

from pocket_diffusers.eval.intervals import bootstrap_interval, student_interval, wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 1), (9, 10), (361, 400), (450, 500)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_is_scipy_s(successes, trials, confidence):
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_values_of_the_textbook():
    """No success in ten: the upper bound is z^2 / (n + z^2)."""
    assert wilson_interval(0, 10) == pytest.approx((0.0, 1.959964**2 / (10 + 1.959964**2)), abs=1e-6)


def test_wilson_holds_the_share_and_ends_exactly_at_none_and_all():
    for trials in range(1, 60):
        bounds = [wilson_interval(successes, trials) for successes in range(trials + 1)]
        assert all(low <= k / trials <= high for k, (low, high) in enumerate(bounds))
        assert bounds[0][0] == 0 and bounds[-1][1] == 1


def test_bootstrap_is_scipy_s_and_near_the_normal_one():
    values = np.random.default_rng(3).gamma(2.0, 3.0, 200)
    low, high = bootstrap_interval(values.tolist())
    scipy_s = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert (low, high) == pytest.approx(tuple(scipy_s), abs=0.1 * error)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)
    assert bootstrap_interval(values.tolist()) == (low, high)
    assert bootstrap_interval(values.tolist(), seed=1) != (low, high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(3, 2), "successes is 3 of trials 2"),
        (lambda: wilson_interval(0, 0), "trials 0"),
        (lambda: wilson_interval(1, 2, 1.0), "confidence is 1.0"),
        (lambda: bootstrap_interval([1.0]), r"values has shape \[1\]"),
        (lambda: bootstrap_interval([1.0, float("nan")]), "finite"),
        (lambda: bootstrap_interval([1.0, 2.0], resamples=0), "resamples must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_few_seeds_are_student_s():
    values = [27.1, 27.5, 26.9]
    expected = stats.t.interval(0.9, 2, loc=np.mean(values), scale=stats.sem(values))
    assert student_interval(values, 0.9) == pytest.approx(expected)
    assert student_interval([1.0, 3.0]) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4), "two seeds say little"
    with pytest.raises(ValueError, match="needed are at least 2"):
        student_interval([1.0])
    with pytest.raises(ValueError, match="confidence is 1"):
        student_interval([1.0, 2.0], 1)
