import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen

TINY = {
    "latent_channels": 4,
    "encoder_channels": (8, 16, 16),
    "encoder_layers_per_block": 1,
    "decoder_channels": (16, 16, 8),
    "decoder_layers_per_stage": 1,
    "norm_num_groups": 4,
    "sample_size": 16,
}
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


def tiny(**overrides):
    torch.manual_seed(0)
    return AutoencoderSnapGen(**{**TINY, **overrides})


def on_meta(preset, **overrides):
    with torch.device("meta"):
        return AutoencoderSnapGen.from_preset(preset, **overrides)


def test_paper_decoder_has_the_published_size():
    decoder = on_meta("paper").decoder
    assert count(decoder) == pytest.approx(1.38e6, rel=0.01)
    assert count(decoder) == 1_379_651
    wider_above = {"decoder_channels": (256, 256, 128, 64)}  # as many parameters, and more operations
    assert count(on_meta("paper", **wider_above).decoder) == pytest.approx(1.382e6, abs=500)
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
    ours = tiny(encoder_channels=(8, 8, 16, 16), decoder_channels=(16, 16, 8, 8), encoder_layers_per_block=2)
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
    assert count(model) == pytest.approx(1.35e6, rel=0.01)
    latents = model.encode(torch.rand(2, 3, 64, 64) * 2 - 1).latent_dist
    assert latents.mode().shape == latents.sample().shape == (2, 16, 8, 8)
    assert model.decode(latents.mode()).sample.shape == (2, 3, 64, 64)
    assert model.decode(latents.mode(), return_dict=False)[0].shape == (2, 3, 64, 64)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_latent_moves_with_the_picture(patch_size):
    """Pictures need not be square, and the compression ratio holds for each side."""
    model = tiny(patch_size=patch_size)
    ratio = 4 * patch_size
    assert model.spatial_compression_ratio == ratio
    assert model(torch.randn(1, 3, 2 * ratio, 3 * ratio)).sample.shape == (1, 3, 2 * ratio, 3 * ratio)


def test_decoder_alone_is_local_in_the_latents_it_reads():
    decoder = tiny().decoder
    for module in decoder.modules():
        if isinstance(module, nn.GroupNorm):  # its statistics see the whole picture
            module.forward = lambda x: x
    z = torch.randn(1, 4, 32, 32)
    other = z.clone()
    other[..., 0, 0] += 1
    changed = (decoder(z) != decoder(other)).any(dim=1)[0].nonzero()
    assert 0 < changed.max() < 4 * 12


def test_backward_reaches_every_parameter_and_checkpointing_gives_the_same_gradients():
    x = torch.randn(2, 3, 16, 16)
    gradients = []
    for checkpointing in (False, True):
        model = tiny()
        if checkpointing:
            model.enable_gradient_checkpointing()
        posterior = model.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
        (model.decode(posterior.mean + posterior.std * noise).sample - x).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_training_brings_pictures_back():
    """A few steps on two pictures: the error falls far below that of the mean picture."""
    model = tiny(norm_num_groups=8)
    x = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).repeat_interleave(8, 2)
    x = x.repeat_interleave(8, 3)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(80):
        loss = (model(x).sample - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * x.var().item()


def test_saved_model_is_bit_exact(tmp_path):
    model = tiny(patch_size=2, scaling_factor=0.7, shift_factor=0.1).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoencoderSnapGen.from_pretrained(tmp_path)
    x = torch.randn(1, 3, 16, 16)
    assert (loaded.config.scaling_factor, loaded.config.shift_factor) == (0.7, 0.1)
    assert torch.equal(loaded(x).sample, model(x).sample)


def test_statistics_of_latents_are_saved_and_must_fit_the_channels(tmp_path):
    channels = tiny().config.latent_channels
    tiny(latents_mean=[0.5] * channels, latents_std=[2.0] * channels).save_pretrained(tmp_path)
    assert list(AutoencoderSnapGen.from_pretrained(tmp_path).config.latents_std) == [2.0] * channels
    for wrong in ({"latents_mean": [0.0] * channels}, {"latents_mean": [0.0], "latents_std": [1.0]}):
        with pytest.raises(ValueError, match=f"must hold {channels} numbers"):
            tiny(**wrong)


def test_channels_last_and_half_precision_agree():
    model = tiny().eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        wanted = model(x).sample
        torch.testing.assert_close(
            model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last)).sample,
            wanted,
            atol=1e-4,
            rtol=1e-4,
        )
        half = model.to(torch.bfloat16)(x.bfloat16()).sample
    assert half.dtype == torch.bfloat16
    assert (half.float() - wanted).abs().mean() < 0.05 * wanted.abs().mean()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 18), r"16 x 18 pixels \(height x width\): both must be multiples of 4"),
        ((1, 4, 16, 16), r"x must be \[batch, 3, height, width\], not \[1, 4, 16, 16\]"),
        ((3, 16, 16), r"x must be \[batch, 3, height, width\], not \[3, 16, 16\]"),
    ],
)
def test_pictures_it_cannot_take_raise(shape, message):
    with pytest.raises(ValueError, match=message):
        tiny().encode(torch.zeros(shape))


def test_latents_it_cannot_take_raise():
    with pytest.raises(ValueError, match=r"z must be \[batch, 4, height, width\], not \[1, 16, 8, 8\]"):
        tiny().decode(torch.zeros(1, 16, 8, 8))


def test_encoder_and_decoder_of_different_depth_raise():
    with pytest.raises(ValueError, match="encoder_channels has 3 stages and decoder_channels 2"):
        tiny(decoder_channels=(16, 8))
