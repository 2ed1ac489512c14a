"""English sentences that say what a person of the motion world does, and nothing that is not so."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from .plans import Action, Plan

SUBJECTS = ("a person", "a person", "a person", "the person", "someone", "a man", "a woman", "a figure")
JOINERS = (", then ", " and then ", ", and afterwards ", " and after that ")

BEFORE = {"slowly": "slowly ", "quickly": "quickly "}
AFTER = {"slowly": (" slowly", " at a slow pace"), "quickly": (" quickly", " fast")}
TIMES = {0: ("",), 1: ("", " once"), 2: (" twice", " two times"), 3: (" three times",), 4: (" four times",)}

WAYS = {
    "forward": ("walks forward", "walks straight ahead", "steps forward", "strolls forward"),
    "backward": ("walks backward", "walks backwards", "steps backward"),
    "left": ("walks sideways to the left", "steps sideways to the left", "sidesteps to the left"),
    "right": ("walks sideways to the right", "steps sideways to the right", "sidesteps to the right"),
}
CLOCK = {"left": "counterclockwise", "right": "clockwise"}
TURNS = {
    90: ("turns {side}", "turns to the {side}", "turns 90 degrees to the {side}", "makes a quarter turn to the {side}"),
    180: ("turns around to the {side}", "turns 180 degrees to the {side}", "makes a half turn to the {side}"),
    360: ("turns in a full circle to the {side}", "turns 360 degrees to the {side}", "makes a full turn to the {side}"),
}
JUMPS = {
    "up": ("jumps", "jumps up", "jumps in place", "hops on both feet in place"),
    "forward": ("jumps forward", "leaps forward with both feet"),
    "backward": ("jumps backward", "jumps backwards"),
}
RAISES = {
    "up": ("raises {arm}", "raises {arm} above the head", "lifts {arm} up"),
    "forward": ("raises {arm} forward", "lifts {arm} straight ahead", "raises {arm} in front of the body"),
    "sideways": ("raises {arm} to the side", "lifts {arm} sideways", "raises {arm} sideways"),
}
RUNS = {"slowly": "jogs", "quickly": "sprints"}


def caption(plan: Plan, rng: np.random.Generator) -> str:
    """One of the sentences that are true of a plan."""
    said = [_drawn(rng, phrases(action)) for action in plan]
    return f"{_drawn(rng, SUBJECTS)} {_drawn(rng, JOINERS).join(said)}"


def all_captions(plan: Plan) -> Iterator[str]:
    """Every sentence that `caption` may say of a plan."""
    for subject, joiner, *said in product(dict.fromkeys(SUBJECTS), JOINERS, *map(phrases, plan)):
        yield f"{subject} {joiner.join(said)}"


def phrases(action: Action) -> tuple[str, ...]:
    """What may be said of an action after the subject. No phrase is said of two actions."""
    paced = []
    for phrase in VERBS[action.verb](action):
        if action.speed:
            paced.append(BEFORE[action.speed] + phrase)
        paced += [phrase + manner for manner in AFTER.get(action.speed, ("",))]
    if action.verb == "run" and action.speed:  # the verb itself tells the speed
        paced += [RUNS[action.speed] + way for way in (" forward", " straight ahead")]
    return tuple(phrase + times for phrase, times in product(paced, TIMES[action.repetitions]))


def _walk(action: Action) -> tuple[str, ...]:
    return WAYS[action.direction]


def _run(action: Action) -> tuple[str, ...]:
    return ("runs forward", "runs straight ahead", "runs ahead")


def _circle(action: Action) -> tuple[str, ...]:
    side, clock = action.direction, CLOCK[action.direction]
    return (f"walks in a circle to the {side}", f"walks {clock} in a circle", f"walks around a circle to the {side}")


def _turn(action: Action) -> tuple[str, ...]:
    return tuple(turn.format(side=action.direction) for turn in TURNS[action.degrees])


def _jump(action: Action) -> tuple[str, ...]:
    return JUMPS[action.direction]


def _crouch(action: Action) -> tuple[str, ...]:
    return ("crouches", "crouches down", "squats", "squats down", "bends the knees deeply")


def _wave(action: Action) -> tuple[str, ...]:
    hand = _limb(action, "hand")
    return (f"waves with {hand}", f"waves {hand}", f"waves {_limb(action, 'arm')} in greeting")


def _punch(action: Action) -> tuple[str, ...]:
    if action.limb == "both":
        return ("punches with both fists in turn", "punches with the left and the right hand in turn", "boxes")
    return tuple(f"{verb} with the {action.limb} {limb}" for verb in ("punches", "boxes") for limb in ("fist", "hand"))


def _kick(action: Action) -> tuple[str, ...]:
    return tuple(f"{verb} the {action.limb} {limb}" for verb in ("kicks with", "kicks forward with") for limb in LEGS)


def _raise(action: Action) -> tuple[str, ...]:
    said = RAISES[action.direction]
    if action.limb == "both":
        said = tuple(phrase.replace("the side", "the sides") for phrase in said)
    return tuple(phrase.format(arm=_limb(action, "arm")) for phrase in said)


def _stand(action: Action) -> tuple[str, ...]:
    return ("stands still", "stands in place", "does not move", "waits")


LEGS = ("foot", "leg")

VERBS = {
    "walk": _walk,
    "run": _run,
    "circle": _circle,
    "turn": _turn,
    "jump": _jump,
    "crouch": _crouch,
    "wave": _wave,
    "punch": _punch,
    "kick": _kick,
    "raise": _raise,
    "stand": _stand,
}


def _limb(action: Action, noun: str) -> str:
    return f"both {noun}s" if action.limb == "both" else f"the {action.limb} {noun}"


def _drawn(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
