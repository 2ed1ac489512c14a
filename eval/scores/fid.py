"""Frechet distance between the features of two sets of pictures (Heusel et al. 2017), in float64.

The result is named after its feature extractor and its number of pictures: it has a positive bias of about 1/N, so
values of different N are not comparable, and only the published Inception features make it plain FID.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ... import missing_package
from .feature_distance import FeatureDistance, checked_pair, distance_name

Compat = Literal["fixed", "official"]
EPS = 1e-6
MAX_IMAGINARY = 1e-3
MAX_DISAGREEMENT = 1e-3  # of the two forms, as a share of the summed variances


@dataclass(frozen=True, kw_only=True)
class FidScore(FeatureDistance):
    """A Frechet distance with what it means; `value` is 0 for equal sets up to rounding, in squared units of features.

    Attributes:
        eigenvalue_form: the same distance by eigenvalues, which needs no matrix square root of a product.
        dim: features a picture.
        singular: whether a set has too few pictures for a covariance of full rank.
        compat: "fixed" or "official".
    """

    eigenvalue_form: float
    dim: int
    singular: bool
    compat: Compat

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "compat": self.compat, "eps": EPS}

    def to_record(self) -> dict[str, Any]:
        """The score as a JSON object. It has no interval: resampled sets repeat pictures, which moves the bias."""
        return {**super().to_record(), "interval": None}


def fid(generated: ArrayLike, reference: ArrayLike, extractor: str, compat: Compat = "fixed") -> FidScore:
    """The distance between two sets of features.

    Args:
        generated, reference: [count, dim], at least two rows each; covariances divide by count - 1.
        extractor: the name of what made the features.
        compat: "official" is text2image-benchmark at 532229f; "fixed" gives the same number, but raises where the
            eigenvalue form disagrees with it.

    Raises:
        ValueError: features of another shape, an unknown `compat`, or a square root that cannot be trusted.
    """
    if compat not in get_args(Compat):
        raise ValueError(f"compat must be one of {', '.join(get_args(Compat))}, not {compat!r}.")
    first, second = checked_pair(generated, reference)
    moments = (*_moments(first), *_moments(second))
    value, check = frechet_distance(*moments), frechet_distance_by_eigenvalues(*moments)
    scale = np.trace(moments[1]) + np.trace(moments[3])
    if compat == "fixed" and abs(value - check) > MAX_DISAGREEMENT * max(scale, EPS):
        raise ValueError(f"the matrix square root gives {value:.6g} and the eigenvalues {check:.6g}; trust neither.")
    dim = first.shape[1]
    return FidScore(
        metric=distance_name("fid", extractor, len(first)),
        value=value,
        eigenvalue_form=check,
        n=len(first),
        n_reference=len(second),
        dim=dim,
        singular=min(len(first), len(second)) <= dim,
        extractor=extractor,
        compat=compat,
    )


def frechet_distance(
    mean_1: Float[np.ndarray, " dim"],
    cov_1: Float[np.ndarray, "dim dim"],
    mean_2: Float[np.ndarray, " dim"],
    cov_2: Float[np.ndarray, "dim dim"],
) -> float:
    """norm(mean_1 - mean_2)^2 + Tr(cov_1 + cov_2 - 2 (cov_1 cov_2)^(1/2)) with the usual numerical rule.

    A square root that is not finite is taken again with `EPS` added to both diagonals; an imaginary part is dropped.

    Raises:
        ValueError: the imaginary part of the root's diagonal exceeds `MAX_IMAGINARY`.
        ImportError: scipy is missing (extra eval).
    """
    try:
        from scipy.linalg import sqrtm
    except ImportError:
        raise missing_package("FID", "scipy", "eval") from None
    root = sqrtm(cov_1 @ cov_2)
    if not np.isfinite(root).all():
        offset = EPS * np.eye(len(mean_1))
        root = sqrtm((cov_1 + offset) @ (cov_2 + offset))
    if np.iscomplexobj(root):
        imaginary = np.abs(np.diagonal(root).imag).max()
        if imaginary > MAX_IMAGINARY:
            raise ValueError(f"the matrix square root has an imaginary part of {imaginary:.3g} on its diagonal.")
        root = root.real
    return float(_mean_part(mean_1, mean_2) + np.trace(cov_1) + np.trace(cov_2) - 2 * np.trace(root))


def frechet_distance_by_eigenvalues(
    mean_1: Float[np.ndarray, " dim"],
    cov_1: Float[np.ndarray, "dim dim"],
    mean_2: Float[np.ndarray, " dim"],
    cov_2: Float[np.ndarray, "dim dim"],
) -> float:
    """The same by Tr (cov_1 cov_2)^(1/2) = sum of the square roots of the eigenvalues of r cov_2 r, r^2 = cov_1."""
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ cov_2 @ root).clip(0)
    return float(_mean_part(mean_1, mean_2) + np.trace(cov_1) + np.trace(cov_2) - 2 * np.sqrt(eigenvalues).sum())


def _mean_part(mean_1: np.ndarray, mean_2: np.ndarray) -> float:
    return float(((mean_1 - mean_2) ** 2).sum())


def _moments(features: Float[np.ndarray, "count dim"]) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))
