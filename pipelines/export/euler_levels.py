"""Noise levels of flow matching's Euler scheduler, as a contract states them."""

import math
from collections.abc import Mapping
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin

OTHER_LEVELS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas", "shift_terminal")
FORMULA = """\
sigmas[i] = shift * u / (1 + (shift - 1) * u) with u = 1 + (lowest - 1) * i / (steps - 1), for i = 0 .. steps - 1
(u = 1 for a single step), and sigmas[steps] = 0"""


def check_euler(scheduler: SchedulerMixin) -> None:
    """Refuses a scheduler whose step is not Euler's without noise.

    Raises:
        ValueError: naming the scheduler or its setting.
    """
    if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
        raise ValueError(
            f"the scheduler is {type(scheduler).__name__}, but an export knows only the steps of "
            "FlowMatchEulerDiscreteScheduler."
        )
    if scheduler.config.get("stochastic_sampling"):
        raise ValueError("the scheduler has stochastic_sampling=True, but an export knows only steps without noise.")


def scheduler_record(scheduler: FlowMatchEulerDiscreteScheduler, steps: int, mu: float | None = None) -> dict[str, Any]:
    """What a contract says of a scheduler: its config, the rule behind its levels, and those of a run to compare with.

    The rule is None where the config asks for levels of another kind.

    Args:
        scheduler: passes `check_euler`.
        steps: of the example.
        mu: what a scheduler with dynamic shifting takes for the size of the contract; None without.
    """
    config, example = scheduler.config, type(scheduler).from_config(scheduler.config)
    example.set_timesteps(steps, mu=mu)
    return {
        "class": type(scheduler).__name__,
        "config": {key: value for key, value in config.items() if not key.startswith("_")},
        **_rule(config, mu),
        "example": {
            "steps": steps,
            "sigmas": [round(float(sigma), 6) for sigma in example.sigmas],
            "timesteps": [round(float(level), 4) for level in example.timesteps],
        },
    }


def _rule(config: Mapping[str, Any], mu: float | None) -> dict[str, Any]:
    lowest, shift = 1 / config["num_train_timesteps"], config["shift"]
    if any(config.get(name) for name in OTHER_LEVELS):
        return {"shift": None, "lowest": None, "formula": None}
    if config.get("use_dynamic_shifting"):  # which leaves the lowest level where it is
        shift = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    else:
        lowest = shift * lowest / (1 + (shift - 1) * lowest)
    return {"shift": shift, "lowest": lowest, "formula": FORMULA}
