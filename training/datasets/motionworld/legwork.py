"""Actions of the legs that do not follow a path: jumping, crouching and kicking."""

import math

import numpy as np

from .curves import Curve, keyed, pulse, rise, swung, thrown
from .footsteps import Step
from .gestures import GUARD, UNHURRIED, hold
from .plans import Action
from .track import SIDES, ArmPose, Track

GRAVITY = 9.81  # m / s^2
TIP_TOE = 0.06
"""Metres by which the pelvis is above its standing height when the toes leave the floor."""


def jump(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Jumps with both feet. Returns when the last landing has been absorbed."""
    time, size, tempo = track.time, track.style.size, track.style.tempo
    height, dip = size * rng.uniform(0.24, 0.36), size * rng.uniform(0.22, 0.30)
    metres = {"up": 0.0, "forward": 1.0, "backward": -0.55}[action.direction] * size * rng.uniform(0.4, 0.75)
    speed = math.sqrt(2 * GRAVITY * height)
    crouching, pushing, flying, absorbing = 0.42 * tempo, 0.24, 2 * speed / GRAVITY, 0.22
    keys, arms, leans, now = [(start, 0.0, 0.0)], [], [(start, 0.0)], start
    for _ in range(action.repetitions):
        down, off = now + crouching, now + crouching + pushing
        land = off + flying
        keys += [(down, -dip, 0.0), (off, TIP_TOE, speed), (land, TIP_TOE, -speed)]
        arms += [(now, 0.0), (down - 0.04, -1.0), (off + 0.2, 1.0), (land + 0.06, 0.4)]
        _fly(track, off, land, metres)
        now, crouching = land + absorbing, 0.12 * tempo  # the next dip is that of the landing, a little deeper
        keys.append((now, -0.8 * dip, 0.0))
        leans += [(down, 1.0), (off + 0.1, 0.0), (land, 0.1), (now, 0.9)]
    end = now + 0.45 * tempo
    track.rise += thrown(time, [*keys, (end, 0.0, 0.0)])
    lean = keyed(time, [*leans, (end, 0.0)])
    track.chest[:, 1] += 26.0 * lean
    track.hips[:, 1] += 13.0 * lean
    track.shift[:, 1] -= 0.05 * lean
    _swing_arms(track, start, end, [*arms, (end, 0.0)])
    return end


def _fly(track: Track, off: float, land: float, metres: float) -> None:
    """Both feet leave the floor at `off` and stand on it again at `land`, `metres` further ahead."""
    time, path = track.time, rise(track.time, off - 0.2, land + 0.15)
    track.place += path[:, None] * track.ahead(metres)
    u = np.clip((time - off) / (land - off), 0.0, 1.0)
    highest = GRAVITY * (land - off) ** 2 / 8 + 0.04  # as far as the pelvis rises, and the feet are drawn up
    for side, foot in track.feet.items():
        foot.flight += 4 * u * (1 - u) * highest * swung(u / 0.2) * swung((1 - u) / 0.2)
        toes, yaw = track.foothold(track.time[-1], side, track.style.stance)
        foot.steps.append(Step(off, land, toes, yaw, clearance=0.0, heel=38.0, strike=0.0))


def _swing_arms(track: Track, start: float, end: float, keys: list[tuple[float, float]]) -> None:
    """The arms go back with the dip, at -1, and up with the jump, at 1."""
    reach = track.style.size * 95.0
    swing = keyed(track.time, keys)
    forward, back = np.maximum(swing, 0.0), np.minimum(swing, 0.0)
    poses = np.stack(
        (reach * forward + 45.0 * back, 14.0 + 8.0 * forward, 25.0 + 20.0 * forward, 10.0 + 0.0 * swing), axis=-1
    )
    for side in SIDES:
        hold(track, side, (start, start + 0.25, end - 0.3, end), poses)


def crouch(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Bends the knees deeply and stands up again. Returns when the person stands."""
    pace = UNHURRIED[action.speed] * track.style.tempo
    depth, lean = track.style.size * rng.uniform(0.36, 0.46), rng.uniform(26.0, 40.0)
    down, stay, up = 0.75 * pace, rng.uniform(0.12, 0.35) * pace, 0.7 * pace
    keys, now = [(start, 0.0)], start
    for _ in range(action.repetitions):
        keys += [(now + down, 1.0), (now + down + stay, 1.0), (now + down + stay + up, 0.0)]
        now += down + stay + up + 0.15 * pace
        keys.append((now, 0.0))
    low = keyed(track.time, keys)
    track.rise -= depth * low
    track.shift[:, 1] -= 0.13 * low
    track.hips[:, 1] += 0.55 * lean * low
    track.chest[:, 1] += lean * low
    track.head[:, 1] += 8.0 * low
    forward = rng.uniform(45.0, 75.0)
    for side in SIDES:
        poses = _between(low, ArmPose(5.0, 10.0, 20.0, 12.0), ArmPose(forward, 8.0, 25.0, 25.0))
        hold(track, side, (start, start + 0.3, now - 0.3, now), poses)
    return now


def kick(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Kicks forward with one foot. Returns when both feet stand again."""
    time, pace, side = track.time, UNHURRIED[action.speed] * track.style.tempo, action.limb
    foot, sign = track.feet[side], SIDES[side]
    size, ahead = track.style.size, track.ahead(1.0)
    # Metres that the toes are forward and up of where they stand, and how far the foot points down beside lying flat.
    cocked = (0.14 * size, 0.50, 30.0)
    out = (rng.uniform(0.80, 0.88), size * rng.uniform(0.72, 0.86), -46.0)
    leave = start + 0.35 * pace
    keys: list[tuple[float, tuple[float, float, float]]] = [(start, (0.0, 0.0, 0.0)), (leave, (0.0, 0.0, 20.0))]
    snaps, now = [(start, 0.0)], leave
    for number in range(action.repetitions):
        up = now + (0.32 if number == 0 else 0.26) * pace
        hit = up + 0.22 * pace
        back = hit + 0.10 * pace + 0.24 * pace
        keys += [(up, cocked), (hit, out), (hit + 0.06 * pace, out), (back, cocked)]
        snaps += [(up, 0.0), (hit, 1.0), (hit + 0.06 * pace, 1.0), (back, 0.0)]
        now = back
    down = now + 0.36 * pace
    keys += [(down, (0.0, 0.0, 0.0))]
    forward, height, flex = keyed(time, keys).T
    foot.reach += forward[:, None] * ahead
    foot.flight += height
    foot.flex += flex
    foot.busy |= (time > leave) & (time < down)
    end = down + 0.3 * pace
    snap, balance = keyed(time, snaps), pulse(time, start, leave + 0.1 * pace, now, end)
    track.shift[:, 0] -= sign * (track.style.stance - 0.03) * balance
    track.chest[:, 1] -= 16.0 * snap - 4.0 * balance
    track.hips[:, 1] -= 20.0 * snap + 4.0 * balance
    track.hips[:, 0] -= sign * 14.0 * snap
    track.rise -= 0.03 * balance
    for arm in SIDES:
        hold(track, arm, (start, leave + 0.1 * pace, now, end), np.tile(GUARD, (len(time), 1)))
    return end


def _between(weight: Curve, low: ArmPose, high: ArmPose) -> np.ndarray:
    return np.array(low) + weight[:, None] * np.subtract(high, low)
