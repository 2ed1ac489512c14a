"""Actions that carry a person along a path: walking, running, walking in a circle and turning."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .curves import Curve, ease, pulse
from .footsteps import Step
from .plans import Action
from .track import SIDES, Track

Path = Callable[[Curve], tuple[np.ndarray, Curve]]
"""From progress [frames] in [0, 1] to metres forward and to the left [frames, 2], and degrees turned [frames]."""


@dataclass(frozen=True)
class Pace:
    """How the feet keep up with a path.

    Args:
        seconds: of a step.
        length: metres of a step.
        swing: part of a step's time for which a foot is in the air; above 1 both feet are at once.
        stance: metres from the middle to each foot.
        clearance: metres to which the toes rise.
        heel: degrees by which the heel rises before the toes leave.
        strike: degrees by which the toes are raised before they land.
        lean: degrees by which the trunk leans forward.
    """

    seconds: float
    length: float
    swing: float
    stance: float
    clearance: float
    heel: float
    strike: float
    lean: float = 0.0


WALKING = {
    "slowly": Pace(0.68, 0.44, 0.74, 0.09, 0.09, 24.0, 20.0, 0.0),
    "": Pace(0.54, 0.58, 0.80, 0.08, 0.10, 36.0, 30.0, 1.5),
    "quickly": Pace(0.42, 0.68, 0.86, 0.07, 0.11, 44.0, 34.0, 5.0),
}
RUNNING = {
    "slowly": Pace(0.38, 0.74, 1.34, 0.06, 0.20, 46.0, 14.0, 6.0),
    "": Pace(0.34, 0.90, 1.38, 0.05, 0.26, 50.0, 14.0, 8.0),
    "quickly": Pace(0.31, 1.06, 1.46, 0.04, 0.32, 52.0, 12.0, 11.0),
}
BACKWARD = {
    "slowly": Pace(0.70, 0.32, 0.74, 0.10, 0.09, 6.0, -12.0, 2.0),
    "": Pace(0.56, 0.42, 0.76, 0.10, 0.09, 8.0, -16.0, 3.0),
    "quickly": Pace(0.45, 0.50, 0.80, 0.10, 0.10, 8.0, -18.0, 5.0),
}
SIDEWAYS = {
    "slowly": Pace(0.62, 0.18, 0.72, 0.17, 0.08, 8.0, 0.0),
    "": Pace(0.46, 0.20, 0.76, 0.175, 0.08, 8.0, 0.0),
    "quickly": Pace(0.36, 0.22, 0.80, 0.18, 0.09, 8.0, 0.0),
}
TURNING = {
    "slowly": Pace(0.58, 0.0, 0.72, 0.11, 0.08, 12.0, 0.0),
    "": Pace(0.46, 0.0, 0.76, 0.11, 0.08, 14.0, 0.0),
    "quickly": Pace(0.36, 0.0, 0.80, 0.11, 0.08, 14.0, 0.0),
}
STEPS_AROUND = 10
"""Fewest steps around a circle: in one of fewer the feet would cross."""

DEGREES_A_STEP = {"slowly": 32.0, "": 40.0, "quickly": 50.0}


def walk(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Walks straight, in about `seconds`; to the side a person steps sideways. Returns when it has ended."""
    if action.direction == "forward":
        return _go_straight(track, start, WALKING[action.speed], (1.0, 0.0), rng, seconds)
    if action.direction == "backward":
        return _go_straight(track, start, BACKWARD[action.speed], (-1.0, 0.0), rng, seconds)
    way = (0.0, SIDES[action.direction])
    return _go_straight(track, start, SIDEWAYS[action.speed], way, rng, seconds, first=action.direction)


def run(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Runs straight ahead. Returns when it has ended."""
    end = _go_straight(track, start, RUNNING[action.speed], (1.0, 0.0), rng, min(seconds, 4.0))
    track.running += pulse(track.time, start - 0.1, start + 0.4, end - 0.4, end + 0.3)
    return end


def circle(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Walks once around a circle that begins straight ahead. Returns when it has ended."""
    sign = SIDES[action.direction]
    pace = replace(WALKING[action.speed], stance=0.11)  # each foot has an arc of its own
    steps = max(STEPS_AROUND, _steps_in(track, pace, seconds, rng))
    radius = steps * pace.length * track.style.stride / (2 * math.pi)

    def path(progress: Curve) -> tuple[np.ndarray, Curve]:
        angle = 2 * np.pi * progress
        return radius * np.stack((np.sin(angle), sign * (1 - np.cos(angle))), axis=-1), sign * np.degrees(angle)

    return _follow(track, start, pace, path, steps, first=_either(rng))


def turn(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Turns on the spot with small steps. Returns when it has ended."""
    sign, share = SIDES[action.direction], rng.uniform(0.9, 1.1)
    steps = max(3, round(action.degrees * share / DEGREES_A_STEP[action.speed]) + 1)

    def path(progress: Curve) -> tuple[np.ndarray, Curve]:
        return np.zeros((len(progress), 2)), sign * action.degrees * progress

    return _follow(track, start, TURNING[action.speed], path, steps, first=action.direction)


def stand(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Stands still. Returns when it has ended."""
    return start + rng.uniform(0.6, 0.9) * min(seconds, 4.0)


def _go_straight(
    track: Track,
    start: float,
    pace: Pace,
    way: tuple[float, float],
    rng: np.random.Generator,
    seconds: float,
    first: str = "",
) -> float:
    steps = _steps_in(track, pace, seconds, rng)
    metres = steps * pace.length * track.style.stride

    def path(progress: Curve) -> tuple[np.ndarray, Curve]:
        return metres * progress[:, None] * way, np.zeros(len(progress))

    return _follow(track, start, pace, path, steps, first or _either(rng))


def _steps_in(track: Track, pace: Pace, seconds: float, rng: np.random.Generator) -> int:
    return max(4, round(seconds * rng.uniform(0.7, 1.0) / (pace.seconds * track.style.tempo)))


def _either(rng: np.random.Generator) -> str:
    return "left" if rng.random() < 0.5 else "right"


def _follow(track: Track, start: float, pace: Pace, path: Path, steps: int, first: str) -> float:
    """Walks along a path with `steps` steps, the last of which closes the feet. Returns when the last has landed."""
    time, second = track.time, pace.seconds * track.style.tempo
    end = start + (steps - 1 + pace.swing) * second
    start_up = 1.6 * second
    speed = ease((time - start) / start_up) * ease((end - time) / start_up)
    progress = np.concatenate(([0.0], np.cumsum(speed)[:-1])) / speed.sum()
    metres, degrees = path(progress)
    forward, left = track.ahead(1.0), track.ahead(0.0, 1.0)
    track.place += metres[:, :1] * forward + metres[:, 1:] * left
    track.heading += degrees
    under_way = pulse(time, start, start + start_up, end - start_up, end)
    track.striding += pulse(time, start - 0.1, start + 0.3, end - 0.3, end + 0.3)
    track.hips[:, 1] += 0.4 * pace.lean * under_way
    track.shift[:, 1] += 0.0012 * pace.strike * under_way  # who steps out with the heel is ahead of the feet
    track.chest[:, 1] += pace.lean * under_way
    turning = np.gradient(degrees, time)
    track.head[:, 0] += np.clip(0.22 * turning, -22.0, 22.0)
    track.chest[:, 0] += np.clip(0.08 * turning, -8.0, 8.0)
    _plan_steps(track, start, second, pace, steps, first)
    return end


def _plan_steps(track: Track, start: float, second: float, pace: Pace, steps: int, first: str) -> None:
    """Feet in turn; each lands where it bears the person in the middle of its time on the floor."""
    sides = (first, "right" if first == "left" else "left")
    for number in range(steps):
        side, lift = sides[number % 2], start + number * second
        land, next_lift = lift + pace.swing * second, lift + 2 * second
        last = number >= steps - 2
        middle = track.time[-1] if last else 0.5 * (land + next_lift)
        toes, yaw = track.foothold(middle, side, track.style.stance if last else pace.stance)
        stood_at = np.array(track.feet[side].stands_at)
        strength = min(1.0, float(np.linalg.norm(stood_at - toes)) / (1.2 * pace.length)) if pace.length else 1.0
        track.feet[side].steps.append(
            Step(
                lift=lift,
                land=land,
                toes=toes,
                yaw=yaw,
                clearance=pace.clearance * (0.6 + 0.4 * strength),
                heel=pace.heel * strength,
                strike=pace.strike * strength,
            )
        )
