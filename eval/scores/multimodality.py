"""Multimodality: how far apart motions of one text are (Guo et al., CVPR 2022)."""

import numpy as np
from numpy.typing import ArrayLike

PAIRS = 10


def multimodality(motions: ArrayLike, seed: int = 0) -> float:
    """Mean Euclidean distance of 10 random pairs of embeddings of each text's motions.

    The pairs are places among the motions of a text, the same for all texts; their first and second members are two
    draws without replacement, independent of each other, as in the published code. Usual are 30 motions of each of 100
    texts (MDM), or of the first 96 (MoMask).

    Args:
        motions: embeddings [texts, motions, dim], more than 10 motions a text.
        seed: of the draws.

    Raises:
        ValueError: embeddings of another shape, not finite, or too few.
    """
    array = np.asarray(motions, np.float64)
    if array.ndim != 3 or 0 in array.shape or array.shape[1] <= PAIRS:
        raise ValueError(
            f"motions must be [texts, motions, dim] with more than {PAIRS} motions, not {list(array.shape)}."
        )
    if not np.isfinite(array).all():
        raise ValueError("motions must be finite, but hold NaN or infinity.")
    rng = np.random.default_rng(seed)
    one, other = (array[:, rng.choice(array.shape[1], PAIRS, replace=False)] for _ in range(2))
    return float(np.linalg.norm(one - other, axis=-1).mean())
