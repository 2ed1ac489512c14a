"""Confidence intervals of shares and means."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, stdev

import numpy as np

from .. import missing_package


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927): honest near 0 and 1, where the normal one is not.

    Args:
        successes: from 0 to `trials`.
        trials: at least 1.
        confidence: within (0, 1).

    Raises:
        ValueError: counts or a confidence out of range.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes is {successes} of trials {trials}; it must be 0 to trials, and trials at least 1.")
    z = NormalDist().inv_cdf((1 + _checked(confidence)) / 2)
    share, shrink = successes / trials, 1 + z**2 / trials
    center = (share + z**2 / (2 * trials)) / shrink
    reach = z / shrink * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low = 0.0 if successes == 0 else center - reach  # exact where rounding would miss it
    high = 1.0 if successes == trials else center + reach
    return low, high


def bootstrap_interval(
    values: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
    statistic: Callable[[np.ndarray], float] = np.mean,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean or another statistic (Efron 1979), the same for the same seed.

    Args:
        values: independent measurements, at least 2, all finite.
        confidence: within (0, 1).
        resamples: samples that are drawn, at least 1.
        statistic: of a sample, such as `np.median`.

    Raises:
        ValueError: too few values, one that is not finite, or a number out of range.
    """
    sample = np.asarray(values, float)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise ValueError(f"values has shape {list(sample.shape)}; needed are at least 2 finite numbers in one row.")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}.")
    tail = (1 - _checked(confidence)) / 2
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.choice(sample, len(sample))) for _ in range(resamples)]
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def student_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean of few values that are about normal, such as one of each seed.

    Args:
        values: at least 2.
        confidence: within (0, 1).

    Raises:
        ValueError: too few values, or a confidence out of range.
        ImportError: scipy is missing (extra eval).
    """
    if len(values) < 2:
        raise ValueError(f"values has {len(values)} numbers; needed are at least 2.")
    try:
        from scipy.stats import t
    except ImportError:
        raise missing_package("an interval over seeds", "scipy", "eval") from None
    reach = float(t.ppf((1 + _checked(confidence)) / 2, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return fmean(values) - reach, fmean(values) + reach


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie within (0, 1).")
    return confidence
