"""A plan, performed by a person."""

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ....pipelines.motion.skeleton import FRAMES_PER_SECOND
from . import gait, gestures, legwork
from .figure import joints_of_track
from .plans import Plan
from .styles import sample_style
from .track import MAX_FRAMES, Track

MIN_FRAMES = 40
"""Frames of the shortest clip, HumanML3D's bound."""

PERFORM = {
    "walk": gait.walk,
    "run": gait.run,
    "circle": gait.circle,
    "turn": gait.turn,
    "jump": legwork.jump,
    "crouch": legwork.crouch,
    "wave": gestures.wave,
    "punch": gestures.punch,
    "kick": legwork.kick,
    "raise": gestures.raise_arms,
    "stand": gait.stand,
}
"""How a verb is done: (track, start in seconds, action, rng, seconds that it may take) -> seconds when it has ended."""


class Performance(NamedTuple):
    """What a plan became.

    Attributes:
        joints: float32 [frames, 22, 3], metres, Y up.
        contacts: bool [frames, 2], where the left and the right toes are planted.
        ends: frame at which each action has ended.
    """

    joints: Tensor
    contacts: Tensor
    ends: tuple[int, ...]


def perform(plan: Plan, rng: np.random.Generator) -> Performance | None:
    """Performs a plan in a manner drawn from `rng`; None when that takes longer than a clip may last."""
    track = Track(sample_style(rng))
    end, ends = rng.uniform(0.15, 0.4), []
    seconds = 8.0 if len(plan) == 1 else 3.6
    for action in plan:
        start = end + (rng.uniform(0.1, 0.3) if ends else 0.0)
        if start >= track.time[-1]:
            return None
        end = PERFORM[action.verb](track, start, action, rng, seconds)
        ends.append(math.ceil(end * FRAMES_PER_SECOND))
    frames = max(MIN_FRAMES, round((end + rng.uniform(0.25, 0.6)) * FRAMES_PER_SECOND))
    if frames > MAX_FRAMES:
        return None
    joints, contacts = joints_of_track(track, frames)
    joints[..., 1] -= joints[..., 1].min()
    joints[..., [0, 2]] -= joints[:1, :1, [0, 2]].clone()
    return Performance(joints, contacts, tuple(ends))
