"""How a pipeline samples when its caller does not say: the one place of these numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingDefaults:
    """Default arguments of a pipeline that samples: its call, export contract, benchmark and Space all read them.

    Attributes:
        num_inference_steps: steps of the scheduler, at least 1.
        guidance_scale: weight of classifier-free guidance; up to 1 is none.
    """

    num_inference_steps: int
    guidance_scale: float
