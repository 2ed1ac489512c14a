"""What SnapGen's autoencoder is and computes; what all models promise is in `tests/contracts`."""

import pytest
import torch
from diffusers import AutoencoderKL
from tiny_snapgen import AUTOENCODER
from torch import nn

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen

SD3_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(preset, **overrides):
    with torch.device("meta"):
        return AutoencoderSnapGen.from_preset(preset, **overrides)


def test_paper_decoder_has_the_published_size():
    decoder = on_meta("paper").decoder
    assert count(decoder) == pytest.approx(1.38e6, rel=0.01)
    assert count(decoder) == 1_379_651
    fit_a = {"decoder_channels": (256, 256, 128, 64)}  # another fit to the published size, which saved configs may name
    assert count(on_meta("paper", **fit_a).decoder) == pytest.approx(1.382e6, abs=500)
    dense = [m for m in decoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.groups == 1]
    assert dense == [decoder.conv_in, decoder.conv_out]  # every other 3x3 is depthwise


def test_paper_decoder_is_36_times_smaller_than_that_of_sd3():
    with torch.device("meta"):
        reference = AutoencoderKL(**SD3_VAE).decoder
    assert count(reference) / count(on_meta("paper").decoder) == pytest.approx(36, abs=0.5)


def test_paper_encoder_takes_the_weights_of_sd3():
    with torch.device("meta"):
        reference = AutoencoderKL(**SD3_VAE).state_dict()
    ours = on_meta("paper").state_dict()
    wanted = {key: tensor.shape for key, tensor in reference.items() if key.startswith("encoder.")}
    assert {key: tensor.shape for key, tensor in ours.items() if key.startswith("encoder.")} == wanted


def test_encoder_computes_what_diffusers_computes():
    small = {**SD3_VAE, "block_out_channels": (8, 8, 16, 16), "latent_channels": 4, "norm_num_groups": 4}
    reference = AutoencoderKL(**small)
    depth = {"encoder_channels": (8, 8, 16, 16), "encoder_layers_per_block": 2, "decoder_channels": (16, 16, 8, 8)}
    ours = AUTOENCODER.make(**depth)
    ours.encoder.load_state_dict(reference.encoder.state_dict())
    x = torch.randn(1, 3, 16, 24)
    a, b = ours.encode(x).latent_dist, reference.encode(x).latent_dist
    assert torch.equal(a.mean, b.mean) and torch.equal(a.std, b.std)


@pytest.mark.parametrize("preset", ["paper", "nano"])
def test_presets_stand_for_eight_pixels(preset):
    model = on_meta(preset)
    assert model.spatial_compression_ratio == 8
    assert model.config.latent_channels == 16


def test_nano_goes_from_picture_to_latents_and_back():
    model = AutoencoderSnapGen.from_preset("nano")
    latents = model.encode(torch.rand(2, 3, 64, 64) * 2 - 1).latent_dist
    assert latents.mode().shape == latents.sample().shape == (2, 16, 8, 8)
    assert model.decode(latents.mode()).sample.shape == (2, 3, 64, 64)
    assert model.decode(latents.mode(), return_dict=False)[0].shape == (2, 3, 64, 64)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_latent_moves_with_the_picture(patch_size):
    """Pictures need not be square, and the compression ratio holds for each side."""
    model = AUTOENCODER.make(patch_size=patch_size)
    ratio = 4 * patch_size
    assert model.spatial_compression_ratio == ratio
    assert model(torch.randn(1, 3, 2 * ratio, 3 * ratio)).sample.shape == (1, 3, 2 * ratio, 3 * ratio)


def test_decoder_alone_is_local_in_the_latents_it_reads():
    decoder = AUTOENCODER.make().decoder
    for module in decoder.modules():
        if isinstance(module, nn.GroupNorm):  # its statistics see the whole picture
            module.forward = lambda x: x
    z = torch.randn(1, 4, 32, 32)
    other = z.clone()
    other[..., 0, 0] += 1
    changed = (decoder(z) != decoder(other)).any(dim=1)[0].nonzero()
    assert 0 < changed.max() < 4 * 12


def test_training_brings_pictures_back():
    """A few steps on two pictures: the error falls far below that of the mean picture."""
    model = AUTOENCODER.make(norm_num_groups=8)
    x = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).repeat_interleave(8, 2)
    x = x.repeat_interleave(8, 3)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(80):
        loss = (model(x).sample - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * x.var().item()


def test_latents_it_cannot_take_raise():
    with pytest.raises(ValueError, match=r"z must be \[batch, 4, height, width\], not \[1, 16, 8, 8\]"):
        AUTOENCODER.make().decode(torch.zeros(1, 16, 8, 8))
