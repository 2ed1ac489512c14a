"""Euler's steps along a flow, from noise to picture, by flow matching's scheduler."""

import math
from collections.abc import Mapping
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin

from ..contract import TensorSpec
from . import Sampler, class_and_config

OTHER_LEVELS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas", "shift_terminal")
FORMULA = """\
sigmas[i] = shift * u / (1 + (shift - 1) * u) with u = 1 + (lowest - 1) * i / (steps - 1), for i = 0 .. steps - 1
(u = 1 for a single step), and sigmas[steps] = 0"""
LEVELS = """{rule}For {steps} steps the noise levels are

```
{sigmas}
```"""
RULE = """Its noise levels, with shift = {shift:.8g} and lowest = {lowest:.8g}:

```
{formula}
```

"""


class FlowMatchEuler(Sampler):
    """Steps of FlowMatchEulerDiscreteScheduler without noise."""

    schedule = """\
sigmas = scheduler's noise levels for the number of steps, from 1 down to 0 (see "scheduler" below)
"""
    time = "1000 * sigmas[i]"
    prediction = "velocity"
    step = """\
    latents = latents + (sigmas[i + 1] - sigmas[i]) * velocity
"""
    timestep = TensorSpec(
        "timestep", ("batch",), "float32", 0, 1000, "noise level times 1000: 1000 is noise, 0 is clean"
    )
    predicted = TensorSpec("velocity", (), "float32", None, None, "noise minus clean latents, as predicted")
    purpose = "predicts which way the noise lies, once a step"

    def check(self, scheduler: SchedulerMixin) -> None:
        """As `Sampler.check`."""
        if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
            raise ValueError(
                f"the scheduler is {type(scheduler).__name__}, but an export knows only the steps of "
                "FlowMatchEulerDiscreteScheduler."
            )
        if scheduler.config.get("stochastic_sampling"):
            raise ValueError(
                "the scheduler has stochastic_sampling=True, but an export knows only steps without noise."
            )

    def record(
        self, scheduler: FlowMatchEulerDiscreteScheduler, steps: int, shift: float | None = None
    ) -> dict[str, Any]:
        """As `Sampler.record`; the rule is None where the config asks for levels of another kind."""
        example = type(scheduler).from_config(scheduler.config)
        example.set_timesteps(steps, mu=shift)
        return {
            **class_and_config(scheduler),
            **_rule(scheduler.config, shift),
            "example": {
                "steps": steps,
                "sigmas": [round(float(sigma), 6) for sigma in example.sigmas],
                "timesteps": [round(float(level), 4) for level in example.timesteps],
            },
        }

    def note(self, record: dict[str, Any]) -> str:
        """As `Sampler.note`."""
        rule = RULE.format(**record) if record["formula"] else ""
        sigmas = " ".join(f"{sigma:.6g}" for sigma in record["example"]["sigmas"])
        return LEVELS.format(rule=rule, steps=record["example"]["steps"], sigmas=sigmas)


def _rule(config: Mapping[str, Any], mu: float | None) -> dict[str, Any]:
    lowest, shift = 1 / config["num_train_timesteps"], config["shift"]
    if any(config.get(name) for name in OTHER_LEVELS):
        return {"shift": None, "lowest": None, "formula": None}
    if config.get("use_dynamic_shifting"):  # which leaves the lowest level where it is
        shift = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    else:
        lowest = shift * lowest / (1 + (shift - 1) * lowest)
    return {"shift": shift, "lowest": lowest, "formula": FORMULA}
