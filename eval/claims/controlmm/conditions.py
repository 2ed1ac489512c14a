"""What clips are controlled at: frames of a joint, cells of several, and whole poses; targets are the true motion's.

And how far from there motions are.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from ....pipelines.motion.motion_controls import MotionControls, batched
from ....pipelines.motion.skeleton import CONTROL_JOINTS, JOINTS
from ...scores.control_error import ControlError, control_error
from .motions import Motions

LONGEST = 196
DENSITIES = {"1": 1, "2": 2, "5": 5, "25-percent": 49, "100-percent": 196}
"""Frames that are controlled, as ControlMM and OmniControl say them: above 5 of 196, fewer in shorter clips."""
KEY_FRAMES = 20  # frames from one to the next, a second
SPARSE = 5

Mask = Bool[Tensor, "frames 22"]
Condition = Callable[[int, torch.Generator], Mask]
"""Where a clip of so many frames is controlled."""


def at_density(density: int, joints: Sequence[int]) -> Condition:
    """Some joints at frames drawn without replacement, as many as the density says of so long a clip."""

    def mask(frames: int, draw: torch.Generator) -> Mask:
        count = density if density <= SPARSE else max(1, density * frames // LONGEST)
        return cells(frames, torch.randperm(frames, generator=draw)[:count].tolist(), joints)

    return mask


def across_joints(density: int) -> Condition:
    """One of the 63 subsets of the six joints that are not empty, at frames of a density."""

    def mask(frames: int, draw: torch.Generator) -> Mask:
        chosen = int(torch.randint(1, 2 ** len(CONTROL_JOINTS), (), generator=draw))
        joints = [joint for place, joint in enumerate(CONTROL_JOINTS) if chosen >> place & 1]
        return at_density(density, joints)(frames, draw)

    return mask


def cells(frames: int, controlled: Sequence[int], joints: Sequence[int]) -> Mask:
    """True for these joints at these frames."""
    mask = torch.zeros(frames, len(JOINTS), dtype=torch.bool)
    mask[torch.tensor(controlled)[:, None], torch.tensor(joints)] = True
    return mask


WHOLE_BODY = range(len(JOINTS))
WRISTS, FEET = (20, 21), (10, 11)
POSES: dict[str, tuple[str, Condition]] = {
    "first-frame": ("the first frame's whole pose", lambda n, draw: cells(n, [0], WHOLE_BODY)),
    "first-fifth": ("whole poses of the first 20 %", lambda n, draw: cells(n, range(max(1, n // 5)), WHOLE_BODY)),
    "first-and-last": ("whole poses of the first and the last frame", lambda n, draw: cells(n, [0, n - 1], WHOLE_BODY)),
    "key-frames": ("a whole pose each second", lambda n, draw: cells(n, range(0, n, KEY_FRAMES), WHOLE_BODY)),
    "wrists-sparse": ("both wrists at five frames", at_density(SPARSE, WRISTS)),
    "wrists-dense": ("both wrists at every frame", at_density(LONGEST, WRISTS)),
    "feet-sparse": ("both feet at five frames", at_density(SPARSE, FEET)),
    "feet-dense": ("both feet at every frame", at_density(LONGEST, FEET)),
}
"""The conditions of Motius' board (github.com/ZeyuLing/Motius), which does not say what frames sparse ones take."""


def controls_of(motions: Motions, conditions: Sequence[Condition], seed: int = 0) -> list[MotionControls]:
    """Controls of each clip under one of the conditions, in turn; those of clip i are drawn from seed + i."""
    made = []
    for row, joints in enumerate(motions.joints):
        draw = torch.Generator().manual_seed(seed + row)
        made.append(MotionControls(joints, conditions[row % len(conditions)](len(joints), draw)))
    return made


def errors_of(motions: Motions, controls: Sequence[MotionControls]) -> ControlError:
    """Errors of motions under their controls, of each joint at each frame."""
    joints = motions.padded_joints
    return control_error(joints, *batched(controls, joints.shape[1]))
