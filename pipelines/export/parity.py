"""How far an exported component is from the network that it was made from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

TOLERANCE = 1e-4
"""Largest difference of a float32 export, where outputs are about 1; it grows with the largest output beyond that."""
RELATIVE_TOLERANCE = {"fp32": 1e-3, "fp16": 0.01, "int8": 0.25}
"""Largest relative difference of each precision: far above what rounding alone does, far below that of a wrong output.

A blank output has 1. The package's own weights, exported to ONNX, have up to 0.001 in fp16 and 0.18 in int8.
"""


@dataclass(frozen=True)
class Parity:
    """Differences over all outputs that were compared.

    Attributes:
        max_abs: largest absolute difference.
        relative: Euclidean norm of the differences over that of the reference, for the output where it is largest.
        largest: largest absolute value of the reference.
        samples: samples that were compared.
    """

    max_abs: float
    relative: float
    largest: float
    samples: int

    def within_tolerance(self, precision: str) -> bool:
        """Whether an export of that precision may be shipped."""
        exact = precision != "fp32" or self.max_abs <= TOLERANCE * max(1.0, self.largest)
        return bool(exact and self.relative <= RELATIVE_TOLERANCE[precision])

    def to_record(self) -> dict[str, float | int]:
        """As it stands in a component's JSON."""
        return asdict(self)


def compare(found: Sequence[np.ndarray], reference: Sequence[np.ndarray], outputs: int = 1) -> Parity:
    """Compares outputs pairwise, `found[i]` with `reference[i]`, batch first.

    Args:
        found: outputs of one run after the other.
        reference: likewise.
        outputs: how many each run has.

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
    runs = [slice(output, None, outputs) for output in range(outputs)]
    shares = [_norm(differences[run]) / max(_norm(reference[run]), 1e-30) for run in runs]
    return Parity(
        max_abs=float(max(np.abs(array).max() for array in differences)),
        relative=float(np.max(shares)),
        largest=float(max(np.abs(array).max() for array in reference)),
        samples=sum(len(array) for array in reference),
    )


def _norm(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in arrays)))
