"""Few values that stand for many: k-means of numbers, and of vectors by two levels of it, which stays quick.

What already has no more values than wanted is kept as it is, so that a scene read from a file is written with the same.
"""

from heapq import heappop, heappush
from math import isqrt

import numpy as np
import torch

ASSIGNED = 1 << 22  # distances at a time
SAMPLE = 1 << 16  # vectors from which the first level is learned


def of_numbers(values: np.ndarray, size: int, iterations: int) -> np.ndarray:
    """At most `size` numbers, ascending, near which all values lie, each of them nearest to some value.

    Args:
        values: of any shape, finite.
        size: of the codebook.
        iterations: of Lloyd's algorithm.

    Returns:
        float32 [at most size].
    """
    ascending = np.sort(values, axis=None)
    first = np.concatenate([[True], ascending[1:] != ascending[:-1]])
    if first.sum() <= size:
        return ascending[first].astype(np.float32)
    ascending = ascending - np.mean(ascending, dtype=np.float64)  # so that sums of squares keep their digits
    sums, squares = (np.concatenate([[0], np.cumsum(power)]) for power in (ascending, np.square(ascending)))
    ends = _split(ascending, sums, squares, size)
    for _ in range(iterations):
        centres = np.diff(sums[ends]) / np.diff(ends)
        ends = np.concatenate([[0], np.searchsorted(ascending, (centres[1:] + centres[:-1]) / 2), [len(ascending)]])
        ends = np.unique(ends)  # a centre that lost all values is left out
    centres = np.diff(sums[ends]) / np.diff(ends) + np.mean(values, dtype=np.float64)
    centres = np.unique(centres.astype(np.float32))
    return centres[np.unique(nearest(values, centres))]


def _split(ascending: np.ndarray, sums: np.ndarray, squares: np.ndarray, size: int) -> np.ndarray:
    """Ends of `size` runs of values: again and again the run of the largest squared error is split at its mean."""

    def run(start: int, end: int) -> tuple[float, int, int]:
        if ascending[start] == ascending[end - 1]:
            return 0.0, start, end
        error = squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start)
        return -max(error, 1e-300), start, end  # rounding may leave none, but a run of one value comes last

    runs = [run(0, len(ascending))]
    while len(runs) < size:
        _, start, end = heappop(runs)
        mean = (sums[end] - sums[start]) / (end - start)
        middle = start + int(np.searchsorted(ascending[start:end], mean))
        middle = min(max(middle, start + 1), end - 1)  # where rounding puts the mean at an end
        heappush(runs, run(start, middle))
        heappush(runs, run(middle, end))
    return np.array(sorted([0, *(end for _, _, end in runs)]))


def nearest(values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Index of the nearest number of an ascending codebook of at most 256 for each value, uint8."""
    middles = (codebook[1:].astype(np.float64) + codebook[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def of_vectors(
    vectors: np.ndarray, size: int, iterations: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """At most `size` vectors that stand for all.

    The first level splits all vectors in about sqrt(size) groups, the second each group in its share of centres: work
    grows with sqrt(size), not with size.

    Args:
        vectors: float32 [vectors, dimensions].
        size: of the palette.
        iterations: of Lloyd's algorithm on each level.
        generator: draws the first centres.

    Returns:
        Palette [at most size, dimensions], and the index of each vector's centre, int64 [vectors].
    """
    if _count_distinct(vectors) <= size:
        palette, labels = np.unique(vectors, axis=0, return_inverse=True)
        return palette, labels
    points = torch.from_numpy(vectors)
    chosen = torch.randperm(len(points), generator=generator)[:SAMPLE]
    coarse = _lloyd(points[chosen], isqrt(size), iterations, generator)
    groups = _assign(points, coarse)
    shares = _shares(torch.bincount(groups, minlength=len(coarse)), size)
    labels, centres, base = torch.empty(len(points), dtype=torch.int64), [], 0
    for group, share in enumerate(shares.tolist()):
        if share:
            members = torch.nonzero(groups == group)[:, 0]
            fine = _lloyd(points[members], share, iterations, generator)
            labels[members] = base + _assign(points[members], fine)
            centres.append(fine)
            base += len(fine)
    return torch.cat(centres).numpy(), labels.numpy()


def _count_distinct(vectors: np.ndarray) -> int:
    """How many rows differ, by a hash of each: far quicker than to sort the rows."""
    factors = np.random.default_rng(0).integers(1 << 63, size=vectors.shape[1], dtype=np.uint64) * 2 + 1
    bits = (vectors + np.float32(0)).view(np.uint32)  # adding 0 makes both zeros one
    hashes = np.zeros(len(vectors), np.uint64)
    for column, factor in zip(bits.T, factors, strict=True):
        hashes += column * factor
        hashes ^= hashes >> np.uint64(29)
    return len(np.unique(hashes))


def _shares(counts: torch.Tensor, size: int) -> torch.Tensor:
    """How many centres each group gets: in proportion to its vectors, at least one if it has any, `size` at most."""
    shares = ((counts.double() / counts.sum()) * (size - (counts > 0).sum())).long()
    return torch.minimum(shares + 1, counts)


def _lloyd(points: torch.Tensor, size: int, iterations: int, generator: torch.Generator) -> torch.Tensor:
    """Centres of k-means; those that lose all points are left out."""
    centres = points[torch.randperm(len(points), generator=generator)[:size]]
    if len(points) <= size:
        return centres
    for _ in range(iterations):
        labels = _assign(points, centres)
        counts = torch.bincount(labels, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, labels, points)
        centres = (sums / counts[:, None])[counts > 0]
    return centres


def _assign(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Index of the nearest centre of each point."""
    half = centres.square().sum(1) / 2
    rows = max(1, ASSIGNED // len(centres))
    return torch.cat([(half - part @ centres.T).argmin(1) for part in points.split(rows)])
