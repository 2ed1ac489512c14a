from types import SimpleNamespace

import pytest
import torch

from pocket_diffusers.hub_models.layers.latent_scaling import scale_latents, unscale_latents

CHANNELS = {"latents_mean": [1.0, -2.0], "latents_std": [4.0, 0.5], "scaling_factor": 1.0}
ONE = {"shift_factor": 0.5, "scaling_factor": 2.0}
CONFIGS = [CHANNELS, ONE, {"scaling_factor": 0.18, "latents_mean": None, "latents_std": None}, {**CHANNELS, **ONE}]


def test_each_channel_loses_its_own_mean_and_deviation():
    latents = torch.randn(512, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
    std, mean = torch.std_mean(latents, dim=(0, 2, 3))
    config = SimpleNamespace(latents_mean=mean.tolist(), latents_std=std.tolist(), scaling_factor=1.0)
    std, mean = torch.std_mean(scale_latents(latents, config), dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(2))


def test_values_by_hand():
    latents = torch.tensor([3.0, -1.5]).view(1, 2, 1, 1)
    assert scale_latents(latents, SimpleNamespace(**CHANNELS)).flatten().tolist() == [0.5, 1.0]
    assert scale_latents(latents, SimpleNamespace(**ONE)).flatten().tolist() == [5.0, -4.0]
    assert scale_latents(latents, SimpleNamespace(**CHANNELS | ONE)).flatten().tolist() == [1.0, 2.0], "channels first"


@pytest.mark.parametrize("config", CONFIGS)
def test_unscaling_is_the_inverse(config):
    latents = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    config = SimpleNamespace(**config)
    torch.testing.assert_close(unscale_latents(scale_latents(latents, config), config), latents)
