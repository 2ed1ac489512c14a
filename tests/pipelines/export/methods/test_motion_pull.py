"""Gradients back through a decoder of motion: against autograd."""

import pytest
import torch
from torch import Tensor

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.layers.padding import padding_behind
from pocket_diffusers.pipelines.export.methods.motion_pull import MotionPull, joints_pull
from pocket_diffusers.pipelines.motion.motion_features import joints_of_features

LENGTHS = torch.tensor([9, 4], dtype=torch.int32)


def make_autoencoder(depth: int = 2) -> MotionRVQVAE:
    torch.manual_seed(0)
    autoencoder = MotionRVQVAE(width=8, depth=depth, dropout=0.5, num_quantizers=2, num_codes=5, code_width=6).double()
    autoencoder.set_statistics(torch.linspace(-0.5, 0.9, 263), torch.linspace(0.02, 0.4, 263))
    return autoencoder.eval().requires_grad_(False)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("depth", [1, 3])
def test_the_pull_of_a_decoder_is_that_of_autograd(depth):
    autoencoder = make_autoencoder(depth)
    latents, by_features, by_joints = drawn(2, 9, 6).requires_grad_(), drawn(2, 36, 263), drawn(2, 36, 22, 3)
    motion = autoencoder.decode(latents, padding_behind(LENGTHS, 9))
    features = motion * autoencoder.std + autoencoder.mean
    loss = (features * by_features).sum() + (joints_of_features(features) * by_joints).sum()
    (expected,) = torch.autograd.grad(loss, latents)
    found = MotionPull(autoencoder)(latents.detach(), LENGTHS, by_features, by_joints)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected[0].abs().min() > 0 and not found[1, 4:].any(), "padding has no gradient"


def test_the_pull_of_joints_is_that_of_autograd_and_reads_67_features():
    features = drawn(3, 2, 11, 263, seed=1).requires_grad_()
    gradient = drawn(3, 2, 11, 22, 3, seed=2)
    (expected,) = torch.autograd.grad((joints_of_features(features) * gradient).sum(), features)
    found = joints_pull(features.detach(), gradient)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    assert found[..., :67].abs().amin((0, 1)).count_nonzero() == 11 * 67 - 3 and not found[..., 67:].any()


def test_frames_behind_the_last_gradient_have_exactly_none():
    gradient = drawn(1, 30, 22, 3)
    gradient[:, 12:] = 0
    found = joints_pull(drawn(1, 30, 263, seed=3), gradient)
    assert found[:, :12, :67].any(-1).all() and not found[:, 12:].any()
