"""How far an exported component is from the network that it was made from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

TOLERANCE = 1e-4
"""Largest difference of a float32 export, where outputs are about 1; it grows with the largest output beyond that."""


@dataclass(frozen=True)
class Parity:
    """Differences over all outputs that were compared.

    Attributes:
        max_abs: largest absolute difference.
        relative: Euclidean norm of the differences over that of the reference.
        largest: largest absolute value of the reference.
        samples: samples that were compared.
    """

    max_abs: float
    relative: float
    largest: float
    samples: int

    @property
    def within_tolerance(self) -> bool:
        """Whether a float32 export may be shipped."""
        return bool(self.max_abs <= TOLERANCE * max(1.0, self.largest))

    def to_record(self) -> dict[str, float | int]:
        """As it stands in a component's JSON."""
        return asdict(self)


def compare(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> Parity:
    """Compares outputs pairwise, `found[i]` with `reference[i]`, batch first.

    Raises:
        ValueError: for outputs of different shapes, or numbers that are not finite.
    """
    if not found or len(found) != len(reference):
        raise ValueError(f"there are {len(found)} outputs, but {len(reference)} references to compare with.")
    for ours, theirs in zip(found, reference, strict=True):
        if ours.shape != theirs.shape:
            raise ValueError(f"an output is {list(ours.shape)}, but its reference {list(theirs.shape)}.")
        if not np.isfinite(ours).all():
            raise ValueError("an output holds numbers that are not finite.")
    differences = [ours.astype(np.float64) - theirs for ours, theirs in zip(found, reference, strict=True)]
    norm = np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in reference))
    return Parity(
        max_abs=float(max(np.abs(array).max() for array in differences)),
        relative=float(np.sqrt(sum((array**2).sum() for array in differences)) / max(norm, 1e-30)),
        largest=float(max(np.abs(array).max() for array in reference)),
        samples=sum(len(array) for array in reference),
    )
