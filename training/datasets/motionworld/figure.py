"""From what a body does to where its 22 joints are, in metres."""

import numpy as np
import torch
from torch import Tensor

from ....pipelines.motion.forward_kinematics import chained
from ....pipelines.motion.skeleton import JOINTS, bone_lengths
from .curves import Curve, smooth, smooth_below
from .footsteps import FootTrace
from .track import SIDES, Track

# How bones lie in a person who stands, seen from the hips, the chest or the head; x is mirrored for the right side.
HIP = (0.58, -0.80, -0.16)
SPINE = ((0.0, 0.96, -0.27), (0.0, 0.98, 0.19), (0.0, 1.0, 0.05))
NECK = (0.0, 0.985, -0.16)
HEAD = (0.0, 0.87, 0.49)
COLLAR = (0.52, 0.84, -0.14)
SHOULDER = (0.98, 0.04, -0.15)
SHRUG = 0.55  # by which the shoulder's bone rises with an arm that is straight up
SPINE_SHARES = (0.15, 0.5, 0.85)  # of the way from the turn of the hips to that of the chest

STRAIGHTEST = 0.992
"""Share of a leg's whole length that the hip may be off the ankle: a knee is never locked."""

_LENGTHS = dict(zip(JOINTS, bone_lengths().double().tolist(), strict=True))


def joints_of_track(track: Track, frames: int) -> tuple[Tensor, Tensor]:
    """The first `frames` frames of a track.

    Returns:
        The joints, float32 [frames, 22, 3], and where the left and the right toes are planted, bool [frames, 2].
    """
    feet = {side: foot.trace(track.time) for side, foot in track.feet.items()}
    bones = np.zeros((len(track.time), len(JOINTS), 3))
    _sway_with_steps(track, feet)
    hips, chest, head = (
        angles + track.heading[:, None] * (1, 0, 0) for angles in (track.hips, track.chest, track.head)
    )

    hip_frame, chest_frame = rotations(hips), rotations(chest)
    for name, direction, share in zip(("spine1", "spine2", "spine3"), SPINE, SPINE_SHARES, strict=True):
        _lay(bones, name, rotations(hips + share * (chest - hips)) @ direction)
    _lay(bones, "neck", chest_frame @ NECK)
    _lay(bones, "head", rotations(head) @ HEAD)

    for side, pose in track.arms(_apart(track, feet)).items():
        upper, fore = arm_directions(np.radians(pose), SIDES[side])
        mirrored = (SIDES[side], 1, 1)
        _lay(bones, f"{side}_collar", chest_frame @ np.multiply(COLLAR, mirrored))
        lifted = (0.5 + 0.5 * upper[:, 1:2]) ** 2  # 0 for a hanging arm, 1 for one straight up
        shoulder = np.multiply(SHOULDER, mirrored) + lifted * (0.0, SHRUG, 0.0)
        _lay(bones, f"{side}_shoulder", turned(chest_frame, shoulder))
        _lay(bones, f"{side}_elbow", turned(chest_frame, upper))
        _lay(bones, f"{side}_wrist", turned(chest_frame, fore))
        _lay(bones, f"{side}_hip", hip_frame @ np.multiply(HIP, mirrored))

    pelvis = _pelvis(track, feet, bones)
    for side, foot in feet.items():
        _lay(bones, f"{side}_foot", foot.direction)
        hip = pelvis + bones[:, JOINTS.index(f"{side}_hip")]
        ankle = foot.toes - bones[:, JOINTS.index(f"{side}_foot")]
        outward = rotations(np.stack((0.5 * (hips[:, 0] + foot.yaw), 0 * foot.yaw, 0 * foot.yaw), axis=-1))
        thigh, shin = leg_bones(ankle - hip, outward[:, :, 0], _LENGTHS[f"{side}_knee"], _LENGTHS[f"{side}_ankle"])
        bones[:, JOINTS.index(f"{side}_knee")], bones[:, JOINTS.index(f"{side}_ankle")] = thigh, shin
    planted = np.stack([feet[side].planted for side in SIDES], axis=-1)
    joints = chained(torch.from_numpy(bones[:frames]), torch.from_numpy(pelvis[:frames])).float()
    return joints, torch.from_numpy(planted[:frames])


def rotations(angles: np.ndarray) -> np.ndarray:
    """Matrices [frames, 3, 3] of yaw, pitch and roll [frames, 3] in degrees: rolled first, turned last."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(np.radians(angles)).T, np.cos(np.radians(angles)).T
    rows = (
        (cy * cr + sy * sp * sr, -cy * sr + sy * sp * cr, sy * cp),
        (cp * sr, cp * cr, -sp),
        (-sy * cr + cy * sp * sr, sy * sr + cy * sp * cr, cy * cp),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def turned(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Each [3] vector by the [3, 3] matrix of its frame."""
    return np.einsum("fij,fj->fi", matrices, vectors)


def arm_directions(pose: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [frames, 3] of upper arm and forearm, seen from the chest, of an `ArmPose` [frames, 4] in radians.

    Args:
        sign: 1 for the left arm, -1 for the right one.
    """
    (swing, spread, bend, turn), mirrored = pose.T, (sign, 1, 1)
    upper = np.stack((np.sin(spread), -np.cos(spread) * np.cos(swing), np.cos(spread) * np.sin(swing)), axis=-1)
    forward = np.stack((0 * swing, np.sin(swing), np.cos(swing)), axis=-1)  # to where an arm bends by itself
    inward = np.cross(upper, forward)
    sideways = np.cos(turn)[:, None] * forward + np.sin(turn)[:, None] * inward
    fore = np.cos(bend)[:, None] * upper + np.sin(bend)[:, None] * sideways
    return upper * mirrored, fore * mirrored


def leg_bones(
    reach: np.ndarray, left: np.ndarray, thigh_length: float, shin_length: float
) -> tuple[np.ndarray, np.ndarray]:
    """Thigh and shin [frames, 3] that lead from the hip over `reach` [frames, 3] to the ankle, with the knee forward.

    The law of cosines gives the knee. An ankle farther away than the leg is long is not reached.

    Args:
        left: unit vectors [frames, 3] to the left of the leg; the knee bends in the plane that is square to it.
    """
    farthest, nearest = 0.9999 * (thigh_length + shin_length), 1.2 * abs(thigh_length - shin_length)
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / distance
    distance = np.clip(distance, nearest, farthest)
    forward = np.cross(along, left)
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    cosine = (thigh_length**2 + distance**2 - shin_length**2) / (2 * thigh_length * distance)
    thigh = thigh_length * (cosine * along + np.sqrt(1 - cosine**2) * forward)
    return thigh, distance * along - thigh


def _lay(bones: np.ndarray, joint: str, directions: np.ndarray) -> None:
    """Gives the bone to `joint` its length along `directions` [frames, 3]."""
    norm = np.linalg.norm(directions, axis=-1, keepdims=True)
    bones[:, JOINTS.index(joint)] = directions * (_LENGTHS[joint] / norm)


def _apart(track: Track, feet: dict[str, FootTrace]) -> Curve:
    """Metres of the left toes before the right ones, as the person faces."""
    yaw = np.radians(track.heading)
    across = feet["left"].toes - feet["right"].toes
    return across[:, 0] * np.sin(yaw) + across[:, 2] * np.cos(yaw)


def _sway_with_steps(track: Track, feet: dict[str, FootTrace]) -> None:
    """The pelvis moves over the foot that bears, drops on the other side and turns with the legs, the chest against."""
    bounce, apart = track.style.bounce * track.striding, smooth(_apart(track, feet))
    bearing = smooth(smooth(1.0 * feet["left"].planted - feet["right"].planted))  # 1 on the left foot alone
    track.shift[:, 0] += 0.022 * bounce * bearing * (1 - 0.5 * track.running)
    track.hips[:, 2] += 3.0 * bounce * bearing
    track.chest[:, 2] -= 1.5 * bounce * bearing
    track.hips[:, 0] -= 9.0 * bounce * apart
    track.chest[:, 0] += 9.0 * bounce * apart
    in_air = smooth(1.0 * ~(feet["left"].planted | feet["right"].planted))
    track.rise += track.running * bounce * (0.07 * in_air - 0.03)


def _pelvis(track: Track, feet: dict[str, FootTrace], bones: np.ndarray) -> np.ndarray:
    """The pelvis [frames, 3], as high as the track wants it where both legs are long enough for that."""
    yaw = np.radians(track.heading)
    left, forward = track.shift.T
    pelvis = np.stack(
        (
            track.place[:, 0] + left * np.cos(yaw) + forward * np.sin(yaw),
            track.style.height + track.rise,
            track.place[:, 1] - left * np.sin(yaw) + forward * np.cos(yaw),
        ),
        axis=-1,
    )
    ceiling = np.full(len(pelvis), np.inf)
    for side, foot in feet.items():
        hip = pelvis + bones[:, JOINTS.index(f"{side}_hip")]
        ankle = foot.toes - _LENGTHS[f"{side}_foot"] * foot.direction
        longest = STRAIGHTEST * (_LENGTHS[f"{side}_knee"] + _LENGTHS[f"{side}_ankle"])
        off = ((hip - ankle)[:, [0, 2]] ** 2).sum(axis=-1)
        highest = ankle[:, 1] + np.sqrt(np.maximum(longest**2 - off, 0.0)) - (hip - pelvis)[:, 1]
        ceiling = np.minimum(ceiling, highest)
    pelvis[:, 1] = smooth_below(pelvis[:, 1], ceiling)
    return pelvis
