"""The tokenizer's loss against a naive twin."""

import numpy as np
import pytest
import torch

from pocket_diffusers.training.objectives.motion_reconstruction import MotionReconstruction


class Fixed(torch.nn.Module):
    """Makes what it is told to of any motion."""

    def __init__(self, made):
        super().__init__()
        self.made = torch.nn.Parameter(made)

    def forward(self, motion, generator, return_dict=True):
        assert isinstance(generator, torch.Generator) and not return_dict
        return self.made, torch.tensor([[[3, 1], [3, 2]], [[0, 1], [3, 1]]]), self.made[0, 0, 0] * 0 + 0.25


def smooth_l1(made, motion):
    away = np.abs(made - motion)
    return np.where(away < 1, away**2 / 2, away - 0.5).mean()


def test_loss_equals_its_naive_twin():
    generator = torch.Generator().manual_seed(0)
    motion, made = (2 * torch.randn(2, 8, 263, generator=generator) for _ in range(2))
    objective = MotionReconstruction(Fixed(made), lambda batch, generator: motion[batch], 1e-3)
    loss, logged = objective.loss("autoencoder", torch.arange(2), torch.Generator())
    made, motion = made.numpy(), motion.numpy()
    whole, places = smooth_l1(made, motion), smooth_l1(made[..., 4:67], motion[..., 4:67])
    assert loss.item() == pytest.approx(whole + 0.5 * places + 0.02 * 0.25, rel=1e-5)
    assert logged == pytest.approx({"features": whole, "places": places, "commitment": 0.25, "codes": 2}, rel=1e-5)
    group = objective.optimizer("autoencoder").param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.99), 0.0)
