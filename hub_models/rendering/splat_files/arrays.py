"""Gaussians as numpy arrays, which files are packed from and unpacked to, and the checks on both sides."""

from collections.abc import Iterator

import numpy as np
import torch

from ..gaussians import Gaussians

ROWS = 16_384  # of a block: temporaries stay small, and a block of a PLY stays in the processor's cache


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most ROWS that cover `count` rows in order."""
    return (slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS))


def from_arrays(
    name: str, means: np.ndarray, log_scales: np.ndarray, quaternions: np.ndarray, logits: np.ndarray, sh: np.ndarray
) -> Gaussians:
    """Gaussians on the memory of the float32 arrays, in the order and shapes of `Gaussians`.

    Raises:
        ValueError: a value is not finite, or a quaternion is 0; the sentence begins with `name`.
    """
    read = Gaussians(*(torch.from_numpy(array) for array in (means, log_scales, quaternions, logits, sh)))
    return _checked(read, f"{name}: ")


def to_arrays(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Attribute -> float32 array [gaussians, ...] on the CPU.

    Raises:
        ValueError: there is no Gaussian, a value is not finite, or a quaternion is 0.
    """
    if not len(gaussians):
        raise ValueError("gaussians must hold at least one, not 0: no file of splats is empty.")
    gaussians = _checked(gaussians.detach())
    return {name: value.cpu().float().contiguous().numpy() for name, value in gaussians.tensors().items()}


def _checked(gaussians: Gaussians, prefix: str = "") -> Gaussians:
    try:
        gaussians.check_finite()
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None
    empty = ~gaussians.quaternions.any(1)
    if empty.any():
        index = int(empty.nonzero()[0])
        raise ValueError(f"{prefix}quaternions must not be 0, but that of Gaussian {index} is 0 0 0 0.")
    return gaussians
