"""k-means of numbers and of vectors."""

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from pocket_diffusers.hub_models.rendering.splat_files import codebook


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform"])
def test_numbers_lie_nearer_than_to_an_even_grid(draw):
    values = getattr(np.random.default_rng(0), draw)(size=30_000).astype(np.float32)
    book = codebook.of_numbers(values, 256, 10)
    assert len(book) <= 256 and (np.diff(book) > 0).all() and book.dtype == np.float32
    index = codebook.nearest(values, book)
    brute = np.abs(values[:, None] - book).argmin(1)
    assert np.abs(values - book[index]).max() == np.abs(values - book[brute]).max()
    assert len(np.unique(index)) == len(book), "each number stands for some value"
    grid = np.linspace(values.min(), values.max(), 256)
    error, even = (np.square(values - b[codebook.nearest(values, b)]).mean() for b in (book, grid))
    assert error < even * (1.01 if draw == "uniform" else 0.7)
    reference, _ = kmeans2(values[:, None].astype(float), book[:, None].astype(float), iter=20)
    best = np.square(values - np.sort(reference[:, 0])[codebook.nearest(values, np.sort(reference[:, 0]))]).mean()
    assert error < best * 1.05, "20 further steps of another k-means gain little"


def test_few_numbers_are_kept_to_the_bit():
    values = np.random.default_rng(0).choice(np.random.default_rng(1).normal(size=256).astype(np.float32), (99, 40))
    book = codebook.of_numbers(values, 256, 10)
    assert np.array_equal(book, np.unique(values)) and np.array_equal(book[codebook.nearest(values, book)], values)
    assert codebook.of_numbers(np.full(1000, 0.3, np.float32), 256, 10).tolist() == [np.float32(0.3)]


def test_two_far_values_do_not_waste_the_codebook():
    values = np.concatenate([np.random.default_rng(0).normal(size=50_000), [1e6, -1e6]]).astype(np.float32)
    book = codebook.of_numbers(values, 256, 30)
    error = np.abs(values[:-2] - book[codebook.nearest(values[:-2], book)])
    assert book[0] == -1e6 and book[-1] == 1e6 and error.mean() < 1


def test_values_that_rounding_makes_alike_are_told_apart():
    values = np.tile(np.float32(1e8) + 8 * np.arange(300, dtype=np.float32), 5)
    values[0] = 0
    book = codebook.of_numbers(values, 256, 10)
    assert 200 < len(book) <= 256 and abs(book[0]) < 1
    assert np.abs(values - book[codebook.nearest(values, book)]).max() <= 16


def test_vectors_find_their_clusters():
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(64, 9)).astype(np.float32) * 10
    labels = draw.integers(64, size=8000)
    vectors = (centres[labels] + draw.normal(size=(8000, 9)) * 0.01).astype(np.float32)
    palette, found = codebook.of_vectors(vectors, 256, 10, generator())
    assert len(palette) <= 256 and np.abs(vectors - palette[found]).max() < 0.1


def test_vectors_are_nearly_as_well_served_as_by_one_level():
    vectors = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)
    palette, labels = codebook.of_vectors(vectors, 256, 10, generator())
    error = np.square(vectors - palette[labels]).sum(1).mean()
    centres, nearest = kmeans2(vectors.astype(float), 256, iter=10, minit="points", seed=0)
    assert error < 1.15 * np.square(vectors - centres[nearest]).sum(1).mean()


def test_few_vectors_are_kept_to_the_bit():
    rows = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    vectors = rows[np.random.default_rng(1).integers(50, size=3000)]
    palette, labels = codebook.of_vectors(vectors, 64, 10, generator())
    assert len(palette) == 50 and np.array_equal(palette[labels], vectors)


def test_one_seed_gives_one_palette():
    vectors = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
    first, again, other = (codebook.of_vectors(vectors, 64, 5, generator(seed))[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
