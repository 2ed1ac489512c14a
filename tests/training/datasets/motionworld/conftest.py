"""What a caption claims, proved from the joints alone."""

from collections.abc import Callable

import numpy as np
import pytest

PELVIS, NECK, HEAD = 0, 12, 15
HIPS, SHOULDERS, ELBOWS, WRISTS, TOES = (
    {"left": left, "right": left + 1} for left in (1, 16, 18, 20, 10)
)  # numbers of the joints; the right one follows the left one
OTHER = {"left": "right", "right": "left"}
TO_THE_LEFT = {"left": 1, "right": -1}


def across(joints):
    """Horizontal unit vectors from right to left through hips and shoulders."""
    line = joints[:, 1] - joints[:, 2] + joints[:, 16] - joints[:, 17]
    line[:, 1] = 0
    return line / np.linalg.norm(line, axis=-1, keepdims=True)


def yaw(joints):
    """Degrees turned to the left from +Z, without jumps."""
    line = across(joints)
    return np.degrees(np.unwrap(np.arctan2(-line[:, 2], line[:, 0])))


def body_frame(joints):
    """The joints seen from the pelvis: x to the left, y up from the floor, z forward."""
    left = across(joints)
    forward = np.cross(left, (0.0, 1.0, 0.0))
    seen = joints - joints[:, :1] * (1, 0, 1)
    return np.stack([(seen * left[:, None]).sum(-1), seen[..., 1], (seen * forward[:, None]).sum(-1)], axis=-1)


def from_the_start(joints):
    """(left, forward) of the pelvis as the person faced at first, in metres."""
    angle = np.radians(yaw(joints)[0])
    x, _, z = (joints[:, PELVIS] - joints[0, PELVIS]).T
    return np.stack((x * np.cos(angle) - z * np.sin(angle), x * np.sin(angle) + z * np.cos(angle)), axis=-1)


def times(holds):
    """How often something begins to hold."""
    return int((holds[1:] & ~holds[:-1]).sum() + holds[0])


def walks(action, joints):
    left, forward = from_the_start(joints)[-1]
    assert abs(yaw(joints)[-1] - yaw(joints)[0]) < 12
    if action.direction in ("left", "right"):
        assert TO_THE_LEFT[action.direction] * left > 0.5 and abs(forward) < 0.12
    else:
        assert (1 if action.direction == "forward" else -1) * forward > 0.9 and abs(left) < 0.12
    assert not in_air(joints).any()


def runs(action, joints):
    left, forward = from_the_start(joints)[-1]
    assert forward > 1.5 and abs(left) < 0.15
    assert times(in_air(joints)) >= 3
    assert np.linalg.norm(np.diff(joints[:, PELVIS], axis=0), axis=-1).max() * 20 > 1.7


def in_air(joints):
    return (joints[:, [10, 11], 1] > 0.01).all(axis=1)


def walks_in_a_circle(action, joints):
    path = from_the_start(joints)
    turned = yaw(joints)[-1] - yaw(joints)[0]
    assert abs(turned - TO_THE_LEFT[action.direction] * 360) < 12
    assert np.linalg.norm(path[-1]) < 0.12
    sideways, ahead = np.ptp(path, axis=0)
    assert 0.9 < sideways / ahead < 1.1 and sideways > 1.0
    assert TO_THE_LEFT[action.direction] * path[:, 0].mean() > 0.3


def turns(action, joints):
    turned = yaw(joints)[-1] - yaw(joints)[0]
    assert abs(turned - TO_THE_LEFT[action.direction] * action.degrees) < 12
    assert np.linalg.norm(from_the_start(joints), axis=-1).max() < 0.15


def jumps(action, joints):
    high = in_air(joints) & (joints[:, PELVIS, 1] > joints[0, PELVIS, 1] + 0.1)
    assert times(high) == action.repetitions
    metres = from_the_start(joints)[-1, 1] / action.repetitions
    low, far = {"up": (-0.05, 0.05), "forward": (0.3, 0.9), "backward": (-0.5, -0.15)}[action.direction]
    assert low < metres < far


def crouches(action, joints):
    assert times(joints[:, PELVIS, 1] < joints[0, PELVIS, 1] - 0.25) == action.repetitions
    assert joints[:, TOES["left"], 1].max() < 1e-3 > joints[:, TOES["right"], 1].max()


def waves(action, joints):
    seen = body_frame(joints)
    for side in OTHER:
        up = seen[:, WRISTS[side], 1] > seen[:, SHOULDERS[side], 1] + 0.05
        assert up.any() == (action.limb in (side, "both"))
        if up.any():
            fore = seen[up, WRISTS[side]] - seen[up, ELBOWS[side]]
            outward = TO_THE_LEFT[side] * fore[:, 0]
            middle = 0.5 * (outward.max() + outward.min())
            swings = times(outward < middle) - 1  # in at first, then out and back in
            assert swings == action.repetitions if action.repetitions else 2 <= swings <= 4
            assert np.ptp(outward) > 0.12


def punches(action, joints):
    counts, order = {}, []
    for side in OTHER:
        arm = np.linalg.norm(joints[:, WRISTS[side]] - joints[:, SHOULDERS[side]], axis=-1)
        assert arm.min() < 0.35  # drawn back to the chin, be it to strike or to guard
        seen = body_frame(joints)
        ahead = seen[:, WRISTS[side], 2] - seen[:, HEAD, 2]
        level = np.abs(seen[:, WRISTS[side], 1] - seen[:, SHOULDERS[side], 1]) < 0.15
        out = (arm > 0.47) & (ahead > 0.2) & level
        counts[side] = times(out)
        order += [(frame, side) for frame in np.flatnonzero(np.diff(out.astype(int)) == 1)]
    if action.limb == "both":
        sides = [side for _, side in sorted(order)]
        assert len(sides) == action.repetitions and all(a != b for a, b in zip(sides, sides[1:], strict=False))
    else:
        assert counts == {action.limb: action.repetitions, OTHER[action.limb]: 0}


def kicks(action, joints):
    height, seen = joints[:, TOES[action.limb], 1], body_frame(joints)
    out = (height > 0.6) & (seen[:, TOES[action.limb], 2] > 0.5)
    assert times(out) == action.repetitions
    standing = joints[:, TOES[OTHER[action.limb]]]
    assert np.ptp(standing, axis=0).max() < 1e-5


def raises(action, joints):
    seen = body_frame(joints)
    for side in OTHER:
        wrist, shoulder = seen[:, WRISTS[side]], seen[:, SHOULDERS[side]]
        x, y, z = (wrist - shoulder).T
        level = np.abs(y) < 0.16
        raised = {"up": y > 0.4, "forward": level & (z > 0.4), "sideways": level & (TO_THE_LEFT[side] * x > 0.4)}
        wanted = action.repetitions if action.limb in (side, "both") else 0
        assert times(raised[action.direction]) == wanted
        assert np.linalg.norm(wrist - shoulder, axis=-1).min() > 0.45  # it is a straight arm that rises
    assert np.ptp(joints[:, PELVIS, 1]) < 0.1
    if action.direction != "up":
        assert (seen[:, [20, 21], 1].max(axis=1) < seen[:, HEAD, 1] + 0.1).all()


def stands(action, joints):
    assert np.ptp(joints, axis=0).max() < 0.12


CLAIMS = {
    "walk": walks,
    "run": runs,
    "circle": walks_in_a_circle,
    "turn": turns,
    "jump": jumps,
    "crouch": crouches,
    "wave": waves,
    "punch": punches,
    "kick": kicks,
    "raise": raises,
    "stand": stands,
}


@pytest.fixture
def prove() -> Callable:
    """(action, joints of its frames): asserts that the action can be seen in the joints, with all that it claims."""

    def proved(action, joints):
        CLAIMS[action.verb](action, np.asarray(joints, dtype=float))

    return proved
