"""The denoiser's objective: noise levels and targets, what the model is shown, and that it learns classes and texts."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.training.conditions import Conditions, cached_classes
from pocket_diffusers.training.objectives.denoising import Denoising, noised, sampler_of, training_scheduler

TINY = {
    "sample_size": 4, "in_channels": 4, "out_channels": 4, "widths": (16, 32), "down_stages": ("C", "T"), "head_dim": 8,
    "num_classes": 3, "emb_dim": 16,
}  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair():
    return torch.randn(64, 4, 4, 4, generator=generator(1)), torch.randn(64, 4, 4, 4, generator=generator(2))


def test_flow_is_the_straight_path(pair):
    x0, noise = pair
    x, timesteps, target = noised(FlowMatchEulerDiscreteScheduler(), x0, noise, generator())
    sigma = (timesteps / 1000).view(-1, 1, 1, 1)
    assert torch.allclose(x, (1 - sigma) * x0 + sigma * noise, atol=1e-4) and torch.equal(target, noise - x0)
    assert ((timesteps > 0) & (timesteps < 1000)).all()


def test_a_shift_moves_timesteps_towards_noise(pair):
    plain, shifted = (noised(training_scheduler("flow", shift), *pair, generator())[1] / 1000 for shift in (1.0, 2.0))
    assert torch.allclose(shifted, 2 * plain / (1 + plain), atol=1e-6) and (shifted > plain).all()
    assert torch.logit(plain).mean().abs() < 0.4 and abs(float(torch.logit(plain).std()) - 1) < 0.3


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_ddpm_targets_lead_back_to_the_picture(pair, kind):
    x0, noise = pair
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    x, timesteps, target = noised(scheduler, x0, noise, generator())
    alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    assert torch.allclose(x, alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise, atol=1e-5)
    back = {
        "epsilon": (x - (1 - alpha).sqrt() * target) / alpha.sqrt(),
        "v_prediction": alpha.sqrt() * x - (1 - alpha).sqrt() * target,
        "sample": target,
    }[kind]
    early = timesteps < 500  # later there is too little of the picture left for float32
    assert torch.allclose(back[early], x0[early], atol=1e-3)


def test_another_scheduler_is_refused(pair):
    with pytest.raises(ValueError, match="scheduler must be FlowMatchEulerDiscrete or DDPM.*not a DDIMScheduler"):
        noised(DDIMScheduler(), *pair, generator())


@pytest.mark.parametrize("kind", ["flow", "epsilon", "v_prediction"])
def test_the_scheduler_fits_the_prediction(kind):
    scheduler = training_scheduler(kind)
    if kind == "flow":
        assert isinstance(scheduler, FlowMatchEulerDiscreteScheduler) and sampler_of(scheduler) is scheduler
    else:
        assert isinstance(scheduler, DDPMScheduler) and scheduler.config.prediction_type == kind
        assert scheduler.config.beta_schedule == "scaled_linear"
        sampler = sampler_of(scheduler)
        assert not sampler.config.clip_sample
        assert isinstance(sampler, DDIMScheduler) and torch.equal(sampler.alphas_cumprod, scheduler.alphas_cumprod)


def test_another_prediction_is_refused():
    with pytest.raises(ValueError, match="prediction_type must be one of flow, epsilon.*not 'noise'"):
        training_scheduler("noise")


class Recorder(torch.nn.Module):
    """Stands for a UNet that predicts nothing, and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.given = None

    def forward(self, *given, return_dict):
        self.given = given
        return (given[0] * self.weight,)


def test_the_model_is_shown_what_the_conditions_say():
    unet, latents, shown = Recorder(), torch.zeros(4000, 4, 2, 2), (torch.arange(4000), torch.arange(4000) > 7)
    objective = Denoising(unet, training_scheduler("flow"), lambda batch, _: Conditions(batch, shown), 1e-3)
    loss, _ = objective.loss("unet", latents, generator())
    x, timesteps, *given = unet.given
    assert x.shape == latents.shape and timesteps.shape == (4000,)
    assert len(given) == 2 and all(map(torch.equal, given, shown))
    assert float(loss.detach()) == pytest.approx(1.0, abs=0.05)  # nothing is predicted of a velocity that is all noise
    assert objective.preview({}) is None


def test_a_step_lowers_the_loss_it_was_made_for():
    torch.manual_seed(0)
    unet = AsCANUNet2DModel(**TINY)
    data = cached_classes(torch.randn(8, 4, 4, 4, generator=generator()), torch.arange(8) % 3, 3, drop=0.1)
    objective = Denoising(unet, training_scheduler("flow"), data, 3e-3)
    optimizer, losses = objective.optimizer("unet"), []
    for _ in range(30):
        loss, _ = objective.loss("unet", torch.arange(8), generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_the_unet_learns_four_latents_by_heart(tiny_components):
    pipeline = SnapGenPipeline(**{**tiny_components(), "scheduler": training_scheduler("flow")})
    latents = torch.randn(4, 4, 4, 4, generator=generator())
    text, mask, *_ = pipeline.encode_prompt(["red", "green", "blue", "two"], do_classifier_free_guidance=False)
    text = text.detach()

    def conditions(batch, generator):
        return Conditions(latents[batch], (text[batch], mask[batch]))

    objective = Denoising(pipeline.unet, training_scheduler("flow", 1.5), conditions, 3e-3)
    batch = torch.arange(4).repeat(8)
    first = objective.loss("unet", batch, generator(1))[0].item()
    fit(objective, lambda *_: iter(lambda: batch, None), FitSettings(steps=110, schedule="cosine"), progress=False)
    with torch.no_grad():
        last = objective.loss("unet", batch, generator(1))[0].item()
    assert last < first / 3


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_levels_of_a_beta_distribution_lean_towards_noise(kind):
    latents = torch.zeros(20_000, 1, 1, 1)
    x, timesteps, _ = noised(training_scheduler(kind), latents, torch.ones_like(latents), generator(), time_alpha=3.0)
    assert timesteps.min() >= 0 and timesteps.max() < 1000 and timesteps.is_floating_point() == (kind == "flow")
    levels = (timesteps.double() / 1000).sort().values
    assert float(levels.mean()) == pytest.approx(0.75, abs=0.005)  # of Beta(3, 1), whose distribution is t^3
    assert float(levels.var()) == pytest.approx(3 / 80, abs=0.002)
    steps = torch.arange(1, len(levels) + 1) / len(levels)
    assert float((levels**3 - steps).abs().max()) < 0.015, "Kolmogorov-Smirnov"
    if kind == "flow":
        assert torch.allclose(x.flatten(), timesteps / 1000)


def test_alpha_of_one_is_uniform():
    latents = torch.zeros(20_000, 1, 1, 1)
    _, timesteps, _ = noised(training_scheduler("epsilon"), latents, latents, generator(), time_alpha=1.0)
    counts = torch.bincount(timesteps // 100, minlength=10)
    assert len(counts) == 10 and ((counts - 2000).abs() < 250).all()
