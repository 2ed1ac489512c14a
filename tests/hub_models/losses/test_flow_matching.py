import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pocket_diffusers.hub_models.losses.flow_matching import flow_matching_pair, logit_normal_sigmas, shift_sigmas


def test_path_goes_straight_from_picture_to_noise_with_its_velocity():
    x0, noise = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    for sigma, point in ((0.0, x0), (1.0, noise)):
        torch.testing.assert_close(flow_matching_pair(x0, noise, torch.full((3,), sigma).double())[0], point)
    sigmas = torch.tensor([0.1, 0.5, 0.8]).double()
    here, velocity = flow_matching_pair(x0, noise, sigmas)
    there, _ = flow_matching_pair(x0, noise, sigmas + 1e-4)
    torch.testing.assert_close((there - here) / 1e-4, velocity, atol=1e-8, rtol=1e-8)


def test_path_and_sign_are_those_of_the_scheduler():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(7)
    x0, noise = torch.randn(2, 1, 4, 2, 2)
    sigma = scheduler.sigmas[3:4]
    noisy, velocity = flow_matching_pair(x0, noise, sigma)
    torch.testing.assert_close(scheduler.scale_noise(x0, scheduler.timesteps[3:4], noise), noisy)
    for timestep in scheduler.timesteps:  # the true velocity leads from noise back to the picture
        noise = scheduler.step(velocity, timestep, noise).prev_sample
    torch.testing.assert_close(noise, x0, atol=1e-5, rtol=1e-5)


def test_noise_levels_have_a_normal_logit():
    sigmas = logit_normal_sigmas(200_000, torch.Generator().manual_seed(0), mean=0.3, std=0.8)
    logits = torch.logit(sigmas.double())
    assert 0 < sigmas.min() < sigmas.max() < 1
    assert logits.mean().item() == pytest.approx(0.3, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)
    assert ((logits - 0.3) / 0.8).pow(4).mean().item() == pytest.approx(3.0, abs=0.1)


def test_noise_levels_repeat_with_their_generator():
    draw = [logit_normal_sigmas(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])


def test_time_shift_is_that_of_the_scheduler():
    plain, shifted = (FlowMatchEulerDiscreteScheduler(shift=shift).sigmas for shift in (1.0, 3.0))
    torch.testing.assert_close(shift_sigmas(plain, 3.0), shifted)
    assert torch.equal(shift_sigmas(plain, 1.0), plain)
