"""The 22-joint skeleton of HumanML3D in the order of SMPL, in metres, Y up, 20 frames a second."""

import torch

FRAMES_PER_SECOND = 20

# fmt: off
# name, parent, length of the bone to the parent in metres (the uniform skeleton of HumanML3D), direction at rest
BONES = (
    ("pelvis",         -1, 0.0000, ( 0,  0, 0)),
    ("left_hip",        0, 0.1031, ( 1,  0, 0)),
    ("right_hip",       0, 0.1099, (-1,  0, 0)),
    ("spine1",          0, 0.1316, ( 0,  1, 0)),
    ("left_knee",       1, 0.3936, ( 0, -1, 0)),
    ("right_knee",      2, 0.3902, ( 0, -1, 0)),
    ("spine2",          3, 0.1432, ( 0,  1, 0)),
    ("left_ankle",      4, 0.4324, ( 0, -1, 0)),
    ("right_ankle",     5, 0.4256, ( 0, -1, 0)),
    ("spine3",          6, 0.0574, ( 0,  1, 0)),
    ("left_foot",       7, 0.1434, ( 0,  0, 1)),
    ("right_foot",      8, 0.1494, ( 0,  0, 1)),
    ("neck",            9, 0.2194, ( 0,  1, 0)),
    ("left_collar",     9, 0.1375, ( 1,  0, 0)),
    ("right_collar",    9, 0.1434, (-1,  0, 0)),
    ("head",           12, 0.1030, ( 0,  0, 1)),
    ("left_shoulder",  13, 0.1316, ( 0, -1, 0)),
    ("right_shoulder", 14, 0.1230, ( 0, -1, 0)),
    ("left_elbow",     16, 0.2568, ( 0, -1, 0)),
    ("right_elbow",    17, 0.2631, ( 0, -1, 0)),
    ("left_wrist",     18, 0.2660, ( 0, -1, 0)),
    ("right_wrist",    19, 0.2699, ( 0, -1, 0)),
)
# fmt: on

JOINTS = tuple(name for name, *_ in BONES)
"""Names of the joints; a joint's number is its place."""

PARENTS = tuple(parent for _, parent, *_ in BONES)
"""The joint above each; -1 above the pelvis. A parent comes before its children."""

CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
"""Right leg, left leg, spine and head, right arm, left arm: along them rotations are found."""

CONTROL_JOINTS = (0, 10, 11, 15, 20, 21)
"""Pelvis, feet, head and wrists: the joints that motion control is measured at (OmniControl, arXiv 2310.08580)."""

FEET = {"left": (7, 10), "right": (8, 11)}
"""Ankle and toes of each foot."""


def bone_lengths() -> torch.Tensor:
    """Lengths of the bones to the parents, [22] in metres, 0 of the pelvis."""
    return torch.tensor([length for _, _, length, _ in BONES])


def rest_directions() -> torch.Tensor:
    """Unit directions from parent to joint at rest, [22, 3]; 0 of the pelvis."""
    return torch.tensor([direction for *_, direction in BONES], dtype=torch.float32)
