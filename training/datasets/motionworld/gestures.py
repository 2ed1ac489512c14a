"""Actions of the arms: waving, punching and raising them."""

import numpy as np

from .curves import keyed, pulse
from .plans import Action
from .track import SIDES, ArmPose, Gesture, Track

UNHURRIED = {"slowly": 1.5, "": 1.0, "quickly": 0.7}
"""Factor of the time that a movement takes."""

GUARD = ArmPose(swing=32.0, spread=10.0, bend=122.0, turn=28.0)
"""Fists before the chin."""

STRUCK = ArmPose(swing=86.0, spread=-10.0, bend=8.0, turn=28.0)
"""A fist straight ahead."""

RAISED = {
    "up": ArmPose(swing=170.0, spread=12.0, bend=12.0, turn=0.0),
    "forward": ArmPose(swing=88.0, spread=2.0, bend=8.0, turn=0.0),
    "sideways": ArmPose(swing=8.0, spread=88.0, bend=8.0, turn=0.0),
}


def hold(track: Track, side: str, moments: tuple[float, float, float, float], poses: np.ndarray) -> None:
    """Takes an arm from hanging into `poses` [frames, 4] between the first two moments, and back between the last."""
    track.gestures.append(Gesture(side, pulse(track.time, *moments), poses))


def limbs_of(action: Action) -> tuple[str, ...]:
    """The sides that an action uses."""
    return tuple(SIDES) if action.limb == "both" else (action.limb,)


def wave(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Raises a hand and moves it from side to side. Returns when it hangs again."""
    time, pace = track.time, UNHURRIED[action.speed] * track.style.tempo
    times = action.repetitions or int(rng.integers(2, 5))
    spread, swing = rng.uniform(48.0, 85.0), rng.uniform(58.0, 95.0)
    inward, outward = 100.0 + 8.0 * track.style.size, 62.0 - 16.0 * (track.style.size - 1.0)
    raised = start + 0.65 * pace
    keys, now = [(start, inward), (raised, inward)], raised
    for _ in range(times):  # out and back in
        keys += [(now + 0.3 * pace, outward), (now + 0.6 * pace, inward)]
        now += 0.6 * pace
    end = now + 0.7 * pace
    bend = keyed(time, keys)
    poses = np.stack((swing + 0 * bend, spread + 0.08 * (100.0 - bend), bend, 0 * bend), axis=-1)
    for side in limbs_of(action):
        hold(track, side, (start, raised, now, end), poses)
        up = SIDES[side] * pulse(time, start, raised, now, end)
        track.chest[:, 2] += 4.0 * up
        track.head[:, 2] -= 3.0 * up
    return end


def punch(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Raises the fists and punches straight ahead. Returns when the arms hang again."""
    time, pace = track.time, UNHURRIED[action.speed] * track.style.tempo
    first, *other = rng.permutation(list(SIDES)) if action.limb == "both" else (action.limb,)
    turns = [first if number % 2 == 0 or not other else other[0] for number in range(action.repetitions)]
    ready = start + 0.55 * pace
    keys, now = {side: [(start, 0.0), (ready, 0.0)] for side in SIDES}, ready
    for side in turns:
        hit, back = now + 0.26 * pace, now + (0.26 + 0.08 + 0.32) * pace
        keys[side] += [(now + 1e-3, 0.0), (hit, 1.0), (hit + 0.08 * pace, 1.0), (back, 0.0)]
        now = back + 0.06 * pace
    end = now + 0.6 * pace
    stance = pulse(time, start, ready, now, end)
    track.rise -= 0.035 * stance
    track.chest[:, 1] += 5.0 * stance
    for side, sign in SIDES.items():
        strike = keyed(time, keys[side])
        poses = np.array(GUARD) + strike[:, None] * np.subtract(STRUCK, GUARD)
        hold(track, side, (start, ready, now, end), poses)
        # The shoulder goes with the fist: to strike with the left one the chest turns to the right.
        track.chest[:, 0] -= sign * 26.0 * track.style.size * strike
        track.hips[:, 0] -= sign * 11.0 * strike
        track.chest[:, 1] += 5.0 * strike
        track.shift[:, 1] += 0.05 * strike
    return end


def raise_arms(track: Track, start: float, action: Action, rng: np.random.Generator, seconds: float) -> float:
    """Raises straight arms and lowers them. Returns when they hang again."""
    time, pace = track.time, UNHURRIED[action.speed] * track.style.tempo
    up, stay, down = 0.8 * pace, rng.uniform(0.15, 0.6) * pace, 0.75 * pace
    keys, now = [(start, 0.0)], start
    for _ in range(action.repetitions):
        keys += [(now + up, 1.0), (now + up + stay, 1.0), (now + up + stay + down, 0.0)]
        now += up + stay + down + 0.12 * pace
        keys.append((now, 0.0))
    lifted = keyed(time, keys)
    rest = ArmPose(3.0, track.style.arm_gap, track.style.elbow, 12.0)
    goal = np.array(RAISED[action.direction]) + rng.uniform(-4.0, 4.0, 4)
    poses = np.array(rest) + lifted[:, None] * (goal - rest)
    for side in limbs_of(action):
        hold(track, side, (start, start + 0.1, now - 0.1, now), poses)
        track.chest[:, 2] += 3.0 * SIDES[side] * lifted
    track.chest[:, 1] -= 4.0 * lifted
    track.head[:, 1] -= (8.0 if action.direction == "up" else 0.0) * lifted
    return now
