"""Diversity: how far apart motions of different texts are (Guo et al., CVPR 2022)."""

import numpy as np
from numpy.typing import ArrayLike

from ..instruments.features import checked_features

PAIRS, FEW_PAIRS = 300, 100


def diversity(motions: ArrayLike, seed: int = 0) -> float:
    """Mean Euclidean distance of 300 random pairs of embeddings, or of 100 where there are no more than 300 rows.

    The first and the second members of the pairs are two draws without replacement, independent of each other, as in
    the published code; so a pair may be a motion and itself. It is neither better high nor low: it should be that of
    true motions.

    Args:
        motions: embeddings [count, dim], more than 100.
        seed: of the draws.

    Raises:
        ValueError: embeddings of another shape, not finite, or too few.
    """
    motions = checked_features(motions, "motions")
    pairs = PAIRS if len(motions) > PAIRS else FEW_PAIRS
    if len(motions) <= pairs:
        raise ValueError(f"motions must have more than {pairs} rows, not {len(motions)}.")
    rng = np.random.default_rng(seed)
    one, other = (motions[rng.choice(len(motions), pairs, replace=False)] for _ in range(2))
    return float(np.linalg.norm(one - other, axis=1).mean())
