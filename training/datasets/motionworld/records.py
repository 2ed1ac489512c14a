"""Clips of the motion world: a person who moves, and the sentence that says how."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from ....pipelines.inputs import check_choice, require
from .captions import caption
from .performance import perform
from .plans import Plan, sample_plan

# The number seeds the split's own stream of clips.
SPLITS = {"train": 1, "validation": 2, "test": 3}

_MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class Clip:
    """One clip of 20 frames a second.

    Attributes:
        index: position in its split.
        caption: English, lower case, without a full stop.
        plan: the actions in their order.
        joints: float32 [frames, 22, 3] in metres, Y up, 40 to 196 frames; the pelvis starts over the origin, the person
            faces +Z, and the lowest joint of the clip is at height 0.
        contacts: [frames, 2], where the toes of the left and of the right foot stand on the floor; they do not move.
        ends: frame at which each action has ended.
    """

    index: int
    caption: str
    plan: Plan
    joints: Float[Tensor, "frames 22 3"]
    contacts: Bool[Tensor, "frames 2"]
    ends: tuple[int, ...]

    def plan_json(self) -> str:
        """The plan as a JSON list: each action's verb, speed, direction, limb, repetitions, degrees, and its end."""
        return json.dumps([asdict(action) | {"end": end} for action, end in zip(self.plan, self.ends, strict=True)])


def clips(split: str, indices: Iterable[int], seed: int = 0) -> Iterator[Clip]:
    """The clips of a split at `indices`, in that order; each depends on (seed, split, index) alone.

    Raises:
        ValueError: an unknown split, or a negative seed or index.
    """
    check_world(split, seed)
    return (_clip(split, index, seed) for index in indices)


def check_world(split: str, seed: int) -> None:
    """Raise ValueError for an unknown split or a negative seed."""
    check_choice("split", split, tuple(SPLITS))
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    require(whole and seed >= 0, "seed", seed, "a whole number of at least 0")


def _clip(split: str, index: int, seed: int) -> Clip:
    require(index >= 0, "index", index, "at least 0")
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng([seed, SPLITS[split], index, attempt])
        plan = sample_plan(rng)
        performance = perform(plan, rng)
        if performance is not None:
            return Clip(index, caption(plan, rng), plan, *performance)
    raise RuntimeError(f"no plan of split {split!r} fits index {index} after {_MAX_ATTEMPTS} attempts.")
