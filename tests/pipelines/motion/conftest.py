"""Motions made by hand: angles of joints that swing, through forward kinematics."""

import math

import pytest
import torch

from pocket_diffusers.pipelines.motion.forward_kinematics import joints_of
from pocket_diffusers.pipelines.motion.rotations import about_vertical, from_axis_angles, product

FRAMES = 60
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
STANDING = {  # joint: axis and angle in radians that make a person of the skeleton at rest, whose bones lie square
    1: (Z, -1.1), 2: (Z, 1.1), 4: (Z, 1.1), 5: (Z, -1.1), 10: (X, 0.5), 11: (X, 0.5), 15: (X, -0.6),
    13: (Z, 1.0), 14: (Z, -1.0), 16: (Z, 0.5), 17: (Z, -0.5), 18: (Z, -1.5), 19: (Z, 1.5),
}  # fmt: skip
SWINGS = {  # joint: axis, mean angle, swing, and where in its cycle of 20 frames it starts, in radians
    4: (X, 0.0, 0.6, 0.0), 5: (X, 0.0, 0.6, math.pi), 7: (X, 0.5, 0.5, -1.0), 8: (X, 0.5, 0.5, math.pi - 1.0),
    18: (Z, 1.6, 1.3, 0.0), 19: (X, -0.2, 0.8, 0.0), 20: (Z, 0.4, 0.4, 0.5), 21: (X, -1.1, 0.8, 0.5),
    9: (Y, 0.0, 0.3, 0.0), 6: (X, 0.1, 0.2, 1.0), 15: (X, 0.0, 0.1, 0.0),
}  # fmt: skip


@pytest.fixture(scope="session")
def dance() -> torch.Tensor:
    """A figure that goes round a circle, swings its legs and lifts its left arm overhead: [60, 22, 3] in metres."""
    time = torch.arange(FRAMES, dtype=torch.float64)
    rotations = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).repeat(FRAMES, 22, 1)
    for joint, (axis, angle) in STANDING.items():
        rotations[:, joint] = from_axis_angles(angle * torch.tensor(axis, dtype=torch.float64))
    for joint, (axis, mean, swing, start) in SWINGS.items():
        angles = mean + swing * (time * math.tau / 20 + start).sin()
        turn = from_axis_angles(angles[:, None] * torch.tensor(axis, dtype=torch.float64))
        rotations[:, joint] = product(rotations[:, joint], turn)
    course = time * 0.05
    rotations[:, 0] = product(about_vertical(course), from_axis_angles(torch.tensor([[0.1, 0, 0.05]]).double()))
    root = torch.stack([-course.cos(), 0.86 + 0.03 * (time * math.tau / 10).cos(), course.sin()], -1)
    return joints_of(rotations, root).float()
