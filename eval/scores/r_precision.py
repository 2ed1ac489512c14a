"""R-precision and matching score: whether motions fit their texts, by an evaluator that embeds both.

Guo et al., "Generating Diverse and Natural 3D Human Motions from Text" (CVPR 2022).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..instruments.features import checked_features

POOL = 32


@dataclass(frozen=True)
class RPrecision:
    """How often a text finds its own motion in a pool, and how near it is.

    Attributes:
        top_1, top_2, top_3: share of texts whose motion is among so many nearest ones, in [0, 1].
        matching_score: mean distance of a text from its own motion; papers call it MM-dist too.
        n: pairs that were scored.
        left_out: pairs at the end that fill no pool.
        pool: pairs in a pool.
    """

    top_1: float
    top_2: float
    top_3: float
    matching_score: float
    n: int
    left_out: int
    pool: int = POOL

    def to_record(self) -> dict[str, Any]:
        """The score as a JSON object."""
        return asdict(self)


def r_precision(texts: ArrayLike, motions: ArrayLike) -> RPrecision:
    """R-precision by Euclidean distance in pools of 32 pairs.

    Pools are consecutive pairs, so shuffle the pairs first: neighbours in a data set are often alike. The pairs after
    the last full pool are left out, of the matching score too, as in the published code, which drops its last batch; a
    smaller pool would be easier. A motion as near as the own one counts as nearer.

    Args:
        texts: embeddings [pairs, dim], at least 32.
        motions: embeddings [pairs, dim]; row i belongs to row i of `texts`.

    Raises:
        ValueError: embeddings of another shape, not finite, or too few.
    """
    texts, motions = checked_features(texts, "texts"), checked_features(motions, "motions")
    if texts.shape != motions.shape or len(texts) < POOL:
        raise ValueError(
            f"texts is {list(texts.shape)} and motions {list(motions.shape)}; they must be alike, with {POOL} rows "
            "or more."
        )
    pools = len(texts) // POOL
    scored = [part[: pools * POOL].reshape(pools, POOL, -1) for part in (texts, motions)]
    ranks, own = zip(*(_ranks(*pool) for pool in zip(*scored, strict=True)), strict=True)
    top = [float(np.mean(np.concatenate(ranks) < k)) for k in (1, 2, 3)]
    return RPrecision(*top, float(np.mean(own)), pools * POOL, len(texts) - pools * POOL)


def _ranks(
    texts: Float[np.ndarray, "pool dim"], motions: Float[np.ndarray, "pool dim"]
) -> tuple[np.ndarray, np.ndarray]:
    """How many other motions are as near to each text as its own, and how far that is."""
    distances = np.linalg.norm(texts[:, None] - motions[None], axis=-1)  # [texts, motions]
    own = distances.diagonal()
    return (distances <= own[:, None]).sum(axis=1) - 1, own
