import numpy as np
import pytest
import torch

from pocket_diffusers.training.objectives.mixing import _beta, mix


@pytest.fixture
def batch():
    """Pictures that are constant, each its number."""
    pictures = torch.arange(6.0)[:, None, None, None].expand(6, 3, 16, 16).clone()
    return pictures, torch.tensor([0, 1, 2, 3, 4, 5])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_without_either_nothing_is_mixed(batch):
    pictures, shares = mix(*batch, 6, generator(0), mixup=0.0, cutmix=0.0)
    assert torch.equal(pictures, batch[0]) and torch.equal(shares, torch.eye(6))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_shares_are_what_a_picture_shows(batch, kind, seed):
    alphas = {"mixup": 0.0, "cutmix": 0.0, kind: 1.0}
    pictures, shares = mix(*batch, 6, generator(seed), **alphas)
    assert torch.allclose(shares.sum(1), torch.ones(6))
    shown = pictures.mean((1, 2, 3))  # pictures are their class: the mean is the mixture
    assert torch.allclose(shown, shares @ torch.arange(6.0), atol=1e-4)
    if kind == "cutmix":
        assert all(len(picture.unique()) <= 2 for picture in pictures)


def test_it_is_reproducible_and_leaves_the_global_generator(batch):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b = (mix(*batch, 6, generator(1), mixup=0.4, cutmix=0.0)[1] for _ in range(2))
    assert torch.equal(a, b) and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha):
    draws = np.array([_beta(alpha, generator(seed)) for seed in range(2000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.03)
    assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)
