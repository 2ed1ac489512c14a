"""The autoencoder's objective: its numbers, what stays frozen, who moves when, and that it learns."""

import pytest
import torch

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.training.objectives.reconstruction import Reconstruction, ReconstructionWeights, grid


def tiny_autoencoder() -> AutoencoderSnapGen:
    torch.manual_seed(0)
    return AutoencoderSnapGen.from_preset(
        "nano", encoder_channels=(16, 16), decoder_channels=(16, 16), latent_channels=4, norm_num_groups=4
    )


@pytest.fixture
def pictures():
    """Four pictures of one colour with a bar of another, in [-1, 1]."""
    colours = torch.rand(4, 2, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    pictures = colours[:, 0].repeat(1, 1, 32, 32)
    pictures[:, :, 8:20] = colours[:, 1]
    return pictures


def objective_of(vae, pictures, **weights) -> Reconstruction:
    return Reconstruction(vae, ReconstructionWeights(**weights), 3e-3, pictures)


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module, before):
    return [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]


def endless(batch):
    return lambda start, rank, world: iter(lambda: batch, None)


def test_loss_is_the_sum_it_says(pictures):
    vae = tiny_autoencoder()
    objective = objective_of(vae, pictures, pixel=2.0, edge=0.5, kl=0.1)
    loss, metrics = objective.loss("autoencoder", pictures, torch.Generator().manual_seed(1))
    with torch.no_grad():
        posterior = vae.encode(pictures).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(1))
        error = vae.decode(posterior.mean + posterior.std * noise).sample - pictures
    edges = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    expected = 2.0 * ((error**2).mean() + error.abs().mean()) + 0.5 * edges + 0.1 * kl
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert metrics["kl"] == pytest.approx(kl.item(), rel=1e-5)


def test_pixels_on_and_near_objects_count_more(pictures):
    vae = tiny_autoencoder()
    objects = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    objects[:, :, 8:20, 5:9] = True
    objects[0] = False
    objective = objective_of(vae, pictures, pixel=2.0, edge=0.5, object=4.0)
    loss, _ = objective.loss("autoencoder", (pictures, objects), torch.Generator().manual_seed(1))
    with torch.no_grad():
        posterior = vae.encode(pictures).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(1))
        error = vae.decode(posterior.mean + posterior.std * noise).sample - pictures
    weight = torch.ones(4, 1, 32, 32)
    weight[1:, :, 6:22, 3:11] = 5.0  # two pixels around
    edges = (error.diff(dim=3).abs() * weight[..., 1:]).mean() + (error.diff(dim=2).abs() * weight[..., 1:, :]).mean()
    expected = 2.0 * ((weight * error**2).mean() + (weight * error.abs()).mean()) + 0.5 * edges
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_a_frozen_encoder_stays_bit_identical(pictures):
    vae = tiny_autoencoder()
    vae.encoder.requires_grad_(False)
    encoder, decoder = weights_of(vae.encoder), weights_of(vae.decoder)
    settings = FitSettings(steps=3, ema_decay=0.9)
    fit(objective_of(vae, pictures), endless((pictures, ["", "", "", ""])), settings, progress=False)
    assert not moved(vae.encoder, encoder)
    assert set(moved(vae.decoder, decoder)) == set(decoder)


def test_adversaries_alternate(pictures):
    objective = objective_of(tiny_autoencoder(), pictures, adversarial=0.5)
    assert list(objective.parts) == ["autoencoder", "discriminator"]
    autoencoder, discriminator = objective.parts.values()
    for learning, waiting in ((autoencoder, discriminator), (discriminator, autoencoder)):
        waiting.requires_grad_(False)
        part = "autoencoder" if learning is autoencoder else "discriminator"
        objective.loss(part, pictures, torch.Generator().manual_seed(0))[0].backward()
        assert all(p.grad is not None for p in learning.parameters()) and any(
            p.grad.any() for p in learning.parameters()
        )
        assert all(p.grad is None for p in waiting.parameters())
        learning.zero_grad()
        waiting.requires_grad_(True)
    before = [weights_of(module) for module in objective.parts.values()]
    fit(objective, endless(pictures), FitSettings(steps=1), progress=False)
    assert all(moved(module, old) for module, old in zip(objective.parts.values(), before, strict=True))


def test_preview_shows_samples_above_what_is_made_of_them(pictures):
    vae = tiny_autoencoder().eval()
    objective = objective_of(vae, pictures)
    with torch.no_grad():
        preview = objective.preview(objective.parts)
    assert preview.size == (4 * 64, 2 * 64)
    assert preview.crop((0, 0, 256, 64)).tobytes() == grid(pictures, 4).tobytes()
    assert preview.crop((0, 64, 256, 128)).tobytes() == grid(vae(pictures).sample.detach(), 4).tobytes()


@pytest.mark.slow
def test_loss_falls_by_half(pictures):
    objective = objective_of(tiny_autoencoder(), pictures, kl=1e-4)
    first, _ = objective.loss("autoencoder", pictures, torch.Generator().manual_seed(0))
    fit(objective, endless(pictures), FitSettings(steps=80, warmup_steps=5), progress=False)
    last, _ = objective.loss("autoencoder", pictures, torch.Generator().manual_seed(0))
    assert last < first / 2
