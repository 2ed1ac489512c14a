"""Steps of DDIM (arXiv 2010.02502) that add no noise, from the noise that a UNet finds in latents."""

from typing import Any

from diffusers import DDIMScheduler, SchedulerMixin

from ..contract import TensorSpec
from . import Sampler, class_and_config

KNOWN = {
    "prediction_type": "epsilon", "beta_schedule": "scaled_linear", "trained_betas": None,
    "timestep_spacing": "leading", "clip_sample": False, "thresholding": False, "rescale_betas_zero_snr": False,
}  # fmt: skip
"""What the rule below holds for: the settings of Stable Diffusion."""
FORMULA = """\
betas[k] = (sqrt(beta_start) + (sqrt(beta_end) - sqrt(beta_start)) * k / (train - 1)) ** 2 for k = 0 .. train - 1
kept[k] = (1 - betas[0]) * (1 - betas[1]) * ... * (1 - betas[k]) for k from 0 up, and kept[k] = last for k below 0
stride = train // steps, and timesteps[i] = (steps - 1 - i) * stride + offset for i = 0 .. steps - 1"""
LEVELS = """With train = {train}, beta_start = {beta_start:.8g}, beta_end = {beta_end:.8g}, offset = {offset} and \
last = {last:.7g}:

```
{formula}
```

For {steps} steps the timesteps, and what is kept of the picture at each, are

```
{levels}
```"""


class Ddim(Sampler):
    """Steps of DDIMScheduler with Stable Diffusion's settings."""

    schedule = """\
timesteps, stride, kept = scheduler's timesteps for the number of steps, how far they lie apart, and what is kept of
    the picture's variance at each timestep (see "scheduler" below)
"""
    time = "timesteps[i]"
    prediction = "noise"
    step = """\
    clean = (latents - sqrt(1 - kept[t]) * noise) / sqrt(kept[t])
    latents = sqrt(kept[t - stride]) * clean + sqrt(1 - kept[t - stride]) * noise
"""
    timestep = TensorSpec(
        "timestep", ("batch",), "float32", 0, 999, "timestep of the scheduler: 999 is noise, 0 is nearly clean"
    )
    predicted = TensorSpec("noise", (), "float32", None, None, "noise in the latents, of unit variance, as predicted")
    purpose = "predicts the noise, once a step"

    def check(self, scheduler: SchedulerMixin) -> None:
        """As `Sampler.check`."""
        if type(scheduler).__name__ != "DDIMScheduler":
            raise ValueError(
                f"the scheduler is {type(scheduler).__name__}, but an export knows only the steps of DDIMScheduler."
            )
        for name, known in KNOWN.items():
            if (found := scheduler.config.get(name, known)) != known:
                raise ValueError(f"the scheduler has {name}={found!r}, but an export knows only {known!r}.")

    def record(self, scheduler: DDIMScheduler, steps: int, shift: float | None = None) -> dict[str, Any]:
        """As `Sampler.record`."""
        config, example = scheduler.config, type(scheduler).from_config(scheduler.config)
        example.set_timesteps(steps)
        timesteps = example.timesteps.tolist()
        return {
            **class_and_config(scheduler),
            "train": config.num_train_timesteps,
            "beta_start": config.beta_start,
            "beta_end": config.beta_end,
            "offset": config.steps_offset,
            "last": float(example.final_alpha_cumprod),
            "formula": FORMULA,
            "example": {
                "steps": steps,
                "timesteps": timesteps,
                "kept": [round(float(example.alphas_cumprod[timestep]), 6) for timestep in timesteps],
            },
        }

    def note(self, record: dict[str, Any]) -> str:
        """As `Sampler.note`."""
        example = record["example"]
        pairs = zip(example["timesteps"], example["kept"], strict=True)
        levels = "\n".join(f"{timestep:3d} {kept:.6g}" for timestep, kept in pairs)
        return LEVELS.format(**record, steps=example["steps"], levels=levels)
