"""Motion programs of PocketWorld: closed-form poses of one object over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Program = Literal["slide", "orbit", "bounce", "spin", "hop"]
Point = tuple[float, float, float]

PROGRAMS: tuple[str, ...] = get_args(Program)
# Angles of `Motion.direction` as the default camera, which stands at +Z, sees them.
DIRECTIONS: dict[str, float] = {
    "right": 0.0,
    "away": 0.5 * math.pi,
    "left": math.pi,
    "closer": 1.5 * math.pi,
}
HOPS_EACH_WAY = 3
_DRAWS_PER_PROGRAM = 32


@dataclass(frozen=True)
class Motion:
    """How an object leaves its rest pose. Every program repeats after `period` seconds.

    With `u = time / period + phase` the pose at `u = 0` is the rest pose, and no program ever goes below the
    rest height:

    - `slide`: straight along `direction` at uniform speed, `amplitude` far in half a period, then back;
    - `orbit`: once around a vertical axis at radius `amplitude`, counter-clockwise seen from above; the rest
      position lies at angle `direction` of that circle;
    - `bounce`: one ballistic flight a period, `amplitude` high;
    - `spin`: one turn of the yaw a period; nothing else moves, and `amplitude` is not used;
    - `hop`: slides and makes `HOPS_EACH_WAY` ballistic hops in half a period, each as high as long.

    Args:
        program: one of `PROGRAMS`.
        amplitude: scene units, above 0 (0 is allowed for `spin`).
        period: seconds, above 0.
        direction: radians on the ground plane; 0 is +X, pi / 2 is -Z, like the yaw of an object.
        phase: fraction of the period that has passed at time 0, in [0, 1).

    Raises:
        ValueError: if an argument is outside its range.
    """

    program: Program
    amplitude: float = 1.0
    period: float = 2.0
    direction: float = 0.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        if self.program not in PROGRAMS:
            raise ValueError(f"program must be one of {', '.join(PROGRAMS)}; got {self.program!r}.")
        smallest = 0.0 if self.program == "spin" else np.nextafter(0.0, 1.0)
        if not smallest <= self.amplitude < math.inf:
            raise ValueError(f"amplitude of {self.program} must be finite and above 0; got {self.amplitude}.")
        if not 0.0 < self.period < math.inf:
            raise ValueError(f"period must be a finite number of seconds above 0; got {self.period}.")
        if not math.isfinite(self.direction):
            raise ValueError(f"direction must be a finite angle in radians; got {self.direction}.")
        if not 0.0 <= self.phase < 1.0:
            raise ValueError(f"phase must be in [0, 1); got {self.phase}.")


def check_motion(shape: str, motion: Motion | None) -> None:
    """Raise ValueError unless `shape` can show `motion`: a spin is visible on cubes only."""
    if motion is not None and motion.program == "spin" and shape != "cube":
        raise ValueError(f"motion 'spin' is visible on a cube only; got shape {shape!r}.")


def heading(direction: float) -> Point:
    """Unit vector on the ground plane at angle `direction`: +X turned by `direction` radians about +Y."""
    return (math.cos(direction), 0.0, -math.sin(direction))


def pose_at(position: Point, yaw: float, motion: Motion | None, time):
    """Pose of an object at `time`.

    Args:
        position: rest centre (x, y, z) in scene units.
        yaw: rest yaw about +Y in radians.
        motion: None for an object at rest.
        time: seconds, a float or an array of any shape.

    Returns:
        `((x, y, z), yaw)`: floats for a float time, else arrays of the shape of `time`.
    """
    if motion is None:
        (dx, dy, dz), turn = (0.0, 0.0, 0.0), 0.0
    else:
        (dx, dy, dz), turn = _displacement(motion, np.asarray(time, dtype=np.float64) / motion.period)
    moved = (position[0] + dx, position[1] + dy, position[2] + dz, yaw + turn)
    if np.ndim(time) == 0:
        x, y, z, angle = (float(value) for value in moved)
    else:
        x, y, z, angle = (np.broadcast_to(value, np.shape(time)).copy() for value in moved)
    return (x, y, z), angle


def _displacement(motion: Motion, periods):
    cycle = periods + motion.phase
    along_x, _, along_z = heading(motion.direction)
    if motion.program == "spin":
        return (0.0, 0.0, 0.0), 2 * math.pi * cycle
    if motion.program == "bounce":
        return (0.0, motion.amplitude * _flight(cycle), 0.0), 0.0
    if motion.program == "orbit":
        angle = motion.direction + 2 * math.pi * cycle
        radius = motion.amplitude
        return (radius * (np.cos(angle) - along_x), 0.0, radius * (-np.sin(angle) - along_z)), 0.0
    travelled = motion.amplitude * _there_and_back(cycle)
    rise = 0.0
    if motion.program == "hop":
        rise = motion.amplitude / HOPS_EACH_WAY * _flight(2 * HOPS_EACH_WAY * cycle)
    return (travelled * along_x, rise, travelled * along_z), 0.0


def _flight(cycle):
    """Ballistic height, 0 at whole numbers and 1 halfway between them."""
    part = cycle % 1.0
    return 4.0 * part * (1.0 - part)


def _there_and_back(cycle):
    """Triangle wave: 0 at whole numbers, 1 at halves, linear between."""
    return 1.0 - np.abs(2.0 * (cycle % 1.0) - 1.0)


def swept_box(position: Point, motion: Motion | None) -> tuple[Point, Point]:
    """Least and greatest (x, y, z) of the centre over the whole motion, in scene units."""
    low, high = list(position), list(position)
    if motion is None or motion.program == "spin":
        return tuple(low), tuple(high)
    along_x, _, along_z = heading(motion.direction)
    if motion.program == "bounce":
        high[1] += motion.amplitude
    elif motion.program == "orbit":
        for axis, toward in ((0, along_x), (2, along_z)):
            pivot = position[axis] - motion.amplitude * toward
            low[axis], high[axis] = pivot - motion.amplitude, pivot + motion.amplitude
    else:
        for axis, toward in ((0, along_x), (2, along_z)):
            low[axis] += min(0.0, motion.amplitude * toward)
            high[axis] += max(0.0, motion.amplitude * toward)
        if motion.program == "hop":
            high[1] += motion.amplitude / HOPS_EACH_WAY
    return tuple(low), tuple(high)


def sample_motion(
    rng: np.random.Generator,
    shape: str,
    duration: float = 2.0,
    programs: Sequence[str] = PROGRAMS,
    allowed: Callable[[Motion], bool] = lambda motion: True,
) -> Motion | None:
    """Draw a motion that suits a shape, or None if none of many draws is `allowed`.

    Slides and hops start at time 0 and do not turn back within `duration`, so that their direction, one of
    `DIRECTIONS`, can be told in words; a cube spins half a turn in `duration`, so that its four-fold symmetry
    does not alias; an object orbits once and bounces twice.

    Args:
        rng: numpy random generator; the draw depends on nothing else.
        shape: shape of the object; `spin` is drawn for cubes only.
        duration: length of the clip in seconds, above 0.
        programs: to draw from with equal chance; one without an allowed draw leaves its chance to the rest.
        allowed: says whether the object has room for a motion, for example by `swept_box` or `pose_at`.

    Raises:
        ValueError: if `duration` is not above 0, a program is unknown or none of `programs` suits the shape.
    """
    if not 0.0 < duration < math.inf:
        raise ValueError(f"duration must be a finite number of seconds above 0; got {duration}.")
    if not set(programs) <= set(PROGRAMS):
        raise ValueError(f"programs must be among {', '.join(PROGRAMS)}; got {', '.join(programs)}.")
    suitable = [name for name in programs if name != "spin" or shape == "cube"]
    if not suitable:
        raise ValueError(f"programs must hold one that suits a {shape}; got {', '.join(programs) or 'none'}.")
    for index in rng.permutation(len(suitable)):
        for _ in range(_DRAWS_PER_PROGRAM):
            motion = _draw(rng, suitable[index], duration)
            if allowed(motion):
                return motion
    return None


def _draw(rng: np.random.Generator, program: str, duration: float) -> Motion:
    if program == "spin":
        return Motion("spin", 0.0, period=2 * duration)
    if program == "bounce":
        return Motion("bounce", rng.uniform(0.35, 0.8), period=duration / 2, phase=rng.uniform())
    if program == "orbit":
        return Motion("orbit", rng.uniform(0.3, 0.6), period=duration, direction=rng.uniform(0, 2 * math.pi))
    direction = list(DIRECTIONS.values())[rng.integers(len(DIRECTIONS))]
    return Motion(program, rng.uniform(0.7, 1.5), period=2 * duration, direction=direction)
