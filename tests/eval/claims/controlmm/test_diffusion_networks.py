"""The rivals of the clock: their sizes, and that sampling is DDPM's with gradients towards targets."""

import math

import pytest
import torch

from pocket_diffusers.eval.claims.controlmm.contenders import pelvis_way
from pocket_diffusers.eval.claims.controlmm.diffusion_networks import GUIDANCE_SCALE, MDM, Diffusion, OmniControl
from pocket_diffusers.pipelines.motion.motion_features import joints_of_features


def parameters(kind):
    with torch.device("meta"):
        return sum(value.numel() for value in kind().parameters())


def test_sizes_are_the_published_ones():
    """Layers of widths 512 and 1,024, 263 features in and out, time and text, counted by hand."""
    layer = 4 * (512 * 512 + 512) + 512 * 1024 + 1024 + 1024 * 512 + 512 + 2 * 2 * 512
    ends = 263 * 512 + 512 + 512 * 263 + 263 + 3 * (512 * 512 + 512)
    assert parameters(MDM) == 8 * layer + ends == pytest.approx(17.88e6, rel=1e-3)
    assert parameters(OmniControl) == 16 * layer + ends + 66 * 512 + 512 + 9 * (512 * 512 + 512)


class Blind(torch.nn.Module):
    """Predicts the prompt's first number everywhere, and notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, motion, step, text, hint):
        self.asked.append((step, len(motion), hint))
        return text[:, :1, None].expand_as(motion)


def test_a_step_is_the_posterior_of_a_guided_prediction(monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    way = pelvis_way(8)
    diffusion = Diffusion(network := Blind(), torch.full((1, 512), 0.4), way.targets, way.mask)
    motion = torch.full((1, 8, 263), 2.0)
    found = diffusion.step(motion, 500, 0)

    def kept(step):
        return math.cos((step / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    alpha = kept(501) / kept(500)
    clean = GUIDANCE_SCALE * 0.4
    mean = math.sqrt(kept(500)) * (1 - alpha) / (1 - kept(501)) * clean
    mean += math.sqrt(alpha) * (1 - kept(500)) / (1 - kept(501)) * 2.0
    torch.testing.assert_close(found, torch.full((1, 8, 263), mean), rtol=1e-4, atol=1e-5)
    ((step, rows, hint),) = network.asked
    assert (step, rows) == (500, 2), "with the prompt and without it"
    assert torch.equal(hint[0], way.targets.flatten(1)), "where joints shall be"


def test_gradients_bring_joints_nearer_to_their_targets(monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    way = pelvis_way(8)
    diffusion = Diffusion(Blind(), torch.zeros(1, 512), way.targets, way.mask)
    motion = torch.zeros(1, 8, 263)

    def off(gradients):
        return (joints_of_features(diffusion.step(motion, 500, gradients))[0, :, 0] - way.targets[:, 0]).norm()

    assert off(20) < off(5) < off(0)


def test_sampling_goes_to_the_end_and_is_finite():
    torch.manual_seed(0)
    way = pelvis_way(8)
    diffusion = Diffusion(OmniControl().eval(), torch.randn(2, 512), way.targets, way.mask)
    made = diffusion.run(2, 3)
    assert made.shape == (2, 8, 263) and made.isfinite().all() and not made.requires_grad
