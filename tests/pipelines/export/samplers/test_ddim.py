"""DDIM as a contract tells it: diffusers' scheduler as the oracle of its rule, its levels and its step."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from pocket_diffusers.pipelines.export.samplers.ddim import KNOWN, Ddim


def scheduler(**settings) -> DDIMScheduler:
    return DDIMScheduler(
        **{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, **settings}
    )


SETTINGS = [
    {"set_alpha_to_one": False, "steps_offset": 1},
    {},
    {"num_train_timesteps": 60, "beta_start": 0.001, "beta_end": 0.2, "steps_offset": 1},
]


def follow(record: dict, steps: int):
    """Timesteps, and what is kept at a timestep, by the formula as a reader works it out."""
    train, stride = record["train"], record["train"] // steps
    low, high = math.sqrt(record["beta_start"]), math.sqrt(record["beta_end"])
    betas = [(low + (high - low) * k / (train - 1)) ** 2 for k in range(train)]
    kept = np.cumprod(1 - np.array(betas))
    timesteps = [(steps - 1 - i) * stride + record["offset"] for i in range(steps)]
    return timesteps, stride, lambda t: kept[t] if t >= 0 else record["last"]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("steps", [1, 7, 25])
def test_the_rule_and_the_loop_are_diffusers(settings, steps):
    theirs = scheduler(**settings)
    record = Ddim().record(theirs, 25)
    theirs.set_timesteps(steps)
    timesteps, stride, kept = follow(record, steps)
    assert timesteps == theirs.timesteps.tolist()
    draw = torch.Generator().manual_seed(0)
    ours = expected = torch.randn(2, 3, 4, 4, generator=draw, dtype=torch.float64)
    for t in timesteps:
        noise = torch.randn(ours.shape, generator=draw, dtype=torch.float64)
        expected = theirs.step(noise, t, expected, return_dict=False)[0]
        # what `Ddim.step` says, word for word
        clean = (ours - math.sqrt(1 - kept(t)) * noise) / math.sqrt(kept(t))
        ours = math.sqrt(kept(t - stride)) * clean + math.sqrt(1 - kept(t - stride)) * noise
    torch.testing.assert_close(ours, expected, rtol=2e-5, atol=2e-5)


def test_a_record_holds_a_run_to_compare_with_and_the_note_tells_it():
    record = Ddim().record(scheduler(set_alpha_to_one=False, steps_offset=1), 5)
    assert record["class"] == "DDIMScheduler" and record["config"]["beta_end"] == 0.012
    assert record["example"]["timesteps"] == [801, 601, 401, 201, 1]
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)[[801, 601, 401, 201, 1]]
    np.testing.assert_allclose(record["example"]["kept"], kept, atol=2e-6)
    assert record["last"] == pytest.approx(1 - 0.00085)
    note = Ddim().note(record)
    for words in (
        "beta_end = 0.012, offset = 1 and last = 0.99915",
        "stride = train // steps",
        "For 5 steps",
        "801 0.0",
    ):
        assert words in note


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type='v_prediction', but an export knows only 'epsilon'"),
        ({"beta_schedule": "linear"}, "beta_schedule='linear', but an export knows only 'scaled_linear'"),
        ({"trained_betas": [0.1] * 1000}, r"trained_betas=\[0.1"),
        ({"timestep_spacing": "trailing"}, "timestep_spacing='trailing'"),
        ({"clip_sample": True}, "clip_sample=True, but an export knows only False"),
        ({"thresholding": True}, "thresholding=True"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
    ],
)
def test_other_settings_are_refused(settings, sentence):
    assert settings.keys() <= KNOWN.keys()
    with pytest.raises(ValueError, match=sentence):
        Ddim().check(scheduler(**settings))


def test_other_schedulers_are_refused_and_the_right_one_is_not():
    Ddim().check(scheduler())
    with pytest.raises(ValueError, match="is EulerDiscreteScheduler, but an export knows only the steps of DDIM"):
        Ddim().check(EulerDiscreteScheduler())
