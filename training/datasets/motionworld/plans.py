"""What a person of the motion world does: one action, or two one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

SPEEDS = ("slowly", "", "quickly")


class Choices(NamedTuple):
    """What the actions of a verb may differ in; ("",) and (0,) where they do not."""

    speeds: tuple[str, ...] = SPEEDS
    directions: tuple[str, ...] = ("",)
    limbs: tuple[str, ...] = ("",)
    repetitions: tuple[int, ...] = (0,)
    degrees: tuple[int, ...] = (0,)


CHOICES = {
    "walk": Choices(directions=("forward", "backward", "left", "right")),
    "run": Choices(directions=("forward",)),
    "circle": Choices(directions=("left", "right")),
    "turn": Choices(directions=("left", "right"), degrees=(90, 180, 360)),
    "jump": Choices(speeds=("",), directions=("up", "forward", "backward"), repetitions=(1, 2, 3, 4)),
    "crouch": Choices(repetitions=(1, 2, 3)),
    "wave": Choices(limbs=("left", "right", "both"), repetitions=(0, 2, 3, 4)),
    "punch": Choices(limbs=("left", "right", "both"), repetitions=(1, 2, 3, 4)),
    "kick": Choices(limbs=("left", "right"), repetitions=(1, 2, 3, 4)),
    "raise": Choices(directions=("up", "forward", "sideways"), limbs=("left", "right", "both"), repetitions=(1, 2, 3)),
    "stand": Choices(speeds=("",)),
}
"""The verbs of the world. `circle` is a walk in a circle."""

WEIGHTS = {"walk": 3.0, "run": 1.5, "turn": 1.5, "circle": 1.5, "stand": 0.4}
"""How often a verb is drawn, where that is not 1."""

TWO_ACTIONS = 0.45
"""Share of the plans that have two actions."""


@dataclass(frozen=True)
class Action:
    """One thing that a person does.

    Args:
        verb: one of `CHOICES`, which holds what each of the others may be.
        speed: "slowly", "" or "quickly".
        direction: where to, or to which side.
        limb: "left", "right" or "both": the hand, arm, fist or foot that does it. Fists that both punch take turns.
        repetitions: how often, together for both fists; 0 where the number is not told.
        degrees: of a turn.

    Raises:
        ValueError: if the verb cannot be done so.
    """

    verb: str
    speed: str = ""
    direction: str = ""
    limb: str = ""
    repetitions: int = 0
    degrees: int = 0

    def __post_init__(self) -> None:
        if self.verb not in CHOICES:
            raise ValueError(f"verb must be one of {', '.join(CHOICES)}, not {self.verb!r}.")
        manner = (self.speed, self.direction, self.limb, self.repetitions, self.degrees)
        for name, value, allowed in zip(_MANNER, manner, CHOICES[self.verb], strict=True):
            if value not in allowed:
                raise ValueError(f"{name} of {self.verb} must be one of {allowed}, not {value!r}.")
        if self.verb == "punch" and self.limb == "both" and self.repetitions == 1:
            raise ValueError("repetitions of punch with both fists must be at least 2, not 1.")


_MANNER = ("speed", "direction", "limb", "repetitions", "degrees")

Plan = tuple[Action, ...]


def all_actions() -> Iterator[Action]:
    """Every action of the world."""
    for verb, choices in CHOICES.items():
        for manner in product(*choices):
            if _can(verb, manner):
                yield Action(verb, *manner)


def sample_plan(rng: np.random.Generator) -> Plan:
    """Draw one action, or two of different verbs; the choices of a verb are drawn evenly."""
    count = 2 if rng.random() < TWO_ACTIONS else 1
    weights = np.array([WEIGHTS.get(verb, 1.0) for verb in CHOICES])
    verbs = rng.choice(len(CHOICES), size=count, replace=False, p=weights / weights.sum())
    return tuple(_sample_action(rng, tuple(CHOICES)[verb]) for verb in verbs)


def _sample_action(rng: np.random.Generator, verb: str) -> Action:
    while True:
        manner = tuple(choices[int(rng.integers(len(choices)))] for choices in CHOICES[verb])
        if _can(verb, manner):
            return Action(verb, *manner)


def _can(verb: str, manner: tuple) -> bool:
    _, _, limb, repetitions, _ = manner
    return not (verb == "punch" and limb == "both" and repetitions == 1)
