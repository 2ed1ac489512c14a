import numpy as np
import pytest
import torch

from pocket_diffusers.training.datasets.digits import load_digits

sklearn = pytest.importorskip("sklearn.datasets", reason="the extra eval is not installed")


def test_splits_are_all_digits_and_share_none():
    train, test = load_digits("train"), load_digits("test")
    assert (len(train), len(test)) == (1437, 360)
    together = torch.cat([train.pictures, test.pictures]).flatten(1)
    stored = sklearn.load_digits()
    assert sorted(torch.cat([train.labels, test.labels]).tolist()) == sorted(stored.target.tolist())
    means = sorted(together.mean(1).tolist())
    assert np.allclose(means, sorted((stored.images / 8 - 1).mean((1, 2))), atol=0.02)
    assert together.min() >= -1 and together.max() <= 1
    overlap = torch.cdist(train.pictures.flatten(1), test.pictures.flatten(1)).min()
    assert overlap > 0  # no digit is in both
    assert min(np.bincount(test.labels)) >= 20


def test_a_split_is_the_same_every_time_and_another_is_refused():
    assert torch.equal(load_digits("test").pictures, load_digits("test").pictures)
    with pytest.raises(ValueError, match="split must be 'train' or 'test'.*not 'validation'"):
        load_digits("validation")
