"""Autoencoders found by their config, and what they make of many pictures or of a batch."""

import diffusers
import pytest
import torch

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.training.latents import encode, encode_all, load_autoencoder, pixels_per_latent, scaled


@pytest.fixture
def vae():
    torch.manual_seed(0)
    sizes = {"encoder_channels": (16, 16), "decoder_channels": (16, 16), "latent_channels": 4, "norm_num_groups": 4}
    return AutoencoderSnapGen.from_preset("nano", **sizes, latents_mean=[1.0] * 4, latents_std=[2.0] * 4).eval()


def test_encoding_in_parts_is_encoding_at_once_and_takes_the_mean(vae):
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = encode_all(vae, pictures, batch_size=3)
    assert torch.allclose(latents, vae.encode(pictures).latent_dist.mean, atol=1e-5) and not latents.requires_grad
    assert torch.equal(encode(vae, pictures), encode(vae, pictures))
    assert torch.allclose(scaled(vae, latents), (latents - 1) / 2 * vae.config.scaling_factor)


@pytest.mark.parametrize("inside", ["", "vae"])
def test_an_autoencoder_is_found_by_its_config_in_its_folder_or_a_pipelines(vae, tmp_path, inside):
    vae.save_pretrained(tmp_path / inside)
    found = load_autoencoder(tmp_path)
    assert type(found) is AutoencoderSnapGen and pixels_per_latent(found) == found.spatial_compression_ratio
    assert not found.training and not any(parameter.requires_grad for parameter in found.parameters())
    assert all(torch.equal(mine, its) for mine, its in zip(vae.parameters(), found.parameters(), strict=True))


def test_diffusers_own_autoencoders_are_found_too(tmp_path):
    block = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    diffusers.AutoencoderKL(**block, **kinds).save_pretrained(tmp_path)
    found = load_autoencoder(tmp_path)
    assert type(found) is diffusers.AutoencoderKL and pixels_per_latent(found) == 4
    assert encode(found, torch.zeros(1, 3, 16, 16)).shape == (1, 4, 4, 4)


def test_nothing_else_is_taken_for_an_autoencoder():
    with pytest.raises(ValueError, match=r"vae must be a folder of an autoencoder.*not '.*unet'"):
        load_autoencoder(checkpoint("ascan-nano") / "unet")
