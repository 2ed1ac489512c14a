"""Kernel distance between the features of two sets of pictures (Binkowski et al. 2018), in float64.

Unlike FID it is unbiased, so it suits small sets; like FID it is named after its feature extractor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from .feature_distance import FeatureDistance, checked_pair, distance_name

SUBSETS, MAX_SUBSET = 100, 1000
DEGREE, COEF = 3, 1.0


@dataclass(frozen=True, kw_only=True)
class KidScore(FeatureDistance):
    """A kernel distance with what it means.

    `value` is the mean of the squared maximum mean discrepancy over subsets: about 0, also below, for equal
    distributions.

    Attributes:
        std: standard deviation over the subsets; they share pictures, so it is no error of `value`.
        subsets, subset_size: how many were drawn, and pictures of either set in each.
        seed: of the subsets.
    """

    std: float
    subsets: int
    subset_size: int
    seed: int

    def settings(self) -> dict[str, Any]:
        kernel = {"degree": DEGREE, "gamma": "1/dim", "coef": COEF}
        return {**super().settings(), "subsets": self.subsets, "subset_size": self.subset_size, **kernel}


def kid(
    generated: ArrayLike,
    reference: ArrayLike,
    extractor: str,
    subsets: int = SUBSETS,
    subset_size: int | None = None,
    seed: int = 0,
) -> KidScore:
    """The distance between two sets of features.

    Args:
        generated, reference: [count, dim], at least two rows each.
        extractor: the name of what made the features.
        subsets: at least 1.
        subset_size: rows of either set in a subset, drawn without repetition, from 2 to the smaller set; by default
            half of the smaller set, 2 at least and 1000, the usual size, at most.
        seed: of the draws.

    Raises:
        ValueError: features of another shape, or a number out of its range.
    """
    first, second = checked_pair(generated, reference)
    smaller = min(len(first), len(second))
    size = min(MAX_SUBSET, max(2, smaller // 2)) if subset_size is None else subset_size
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, not {subsets}.")
    if not 2 <= size <= smaller:
        raise ValueError(f"subset_size must be 2 to {smaller}, the rows of the smaller set, not {size}.")
    rng = np.random.default_rng(seed)
    values = [unbiased_mmd2(_draw(rng, first, size), _draw(rng, second, size)) for _ in range(subsets)]
    return KidScore(
        metric=distance_name("kid", extractor, len(first)),
        value=float(np.mean(values)),
        std=float(np.std(values)),
        subsets=subsets,
        subset_size=size,
        n=len(first),
        n_reference=len(second),
        extractor=extractor,
        seed=seed,
    )


def unbiased_mmd2(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy: no row is compared with itself.

    With k(a, b) = (a.b / dim + 1)^3: mean of k over pairs of different rows of x, the same of y, less twice the mean
    of k between them (Gretton et al. 2012, Eq. 3).
    """
    between = polynomial_kernel(x, y).mean()
    return float(
        _mean_off_diagonal(polynomial_kernel(x, x)) + _mean_off_diagonal(polynomial_kernel(y, y)) - 2 * between
    )


def polynomial_kernel(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> Float[np.ndarray, "n m"]:
    """(x.y / dim + 1)^3."""
    return (x @ y.T / x.shape[1] + COEF) ** DEGREE


def _mean_off_diagonal(kernel: Float[np.ndarray, "n n"]) -> float:
    n = len(kernel)
    return (kernel.sum() - np.trace(kernel)) / (n * (n - 1))


def _draw(rng: np.random.Generator, rows: np.ndarray, size: int) -> np.ndarray:
    return rows[rng.choice(len(rows), size, replace=False)]
