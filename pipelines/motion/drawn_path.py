"""A path drawn on the floor, as the way that a joint takes over the frames of a clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..inputs import check_count, require
from .motion_controls import FARTHEST, MotionControls, joint_number
from .skeleton import FRAMES_PER_SECOND, JOINTS

WALKING, START_UP = 1.07, 0.8
"""Metres a second of a person who walks, and the seconds in which one comes to this speed from rest, and back."""

STANDING = 0.92
"""Metres of the pelvis above the floor while a person stands."""

MOST_POINTS = 10_000
PELVIS = JOINTS.index("pelvis")


@dataclass(frozen=True, eq=False)
class DrawnPath:
    """Where a joint goes, seen from above.

    Attributes:
        points: x and z in metres, one after the other [points, 2], with straight lines between them: a person who
            starts at (0, 0) looks along +z and has +x to the left. Points may repeat; all of them alike are a place to
            stay at.
        joint: number in `skeleton.JOINTS`. The pelvis starts above the origin in every clip.
    """

    points: Float[np.ndarray, "points 2"]
    joint: int = PELVIS

    @classmethod
    def of(cls, points: Any, joint: str | int = "pelvis") -> Self:
        """A path of points as JSON has them; where the pelvis is meant, it is led there from the origin.

        Raises:
            ValueError: there is no point, one that is not finite or farther than 1000 m from the origin, more than
                10,000, or an unknown joint, with the nearest name.
        """
        joint = joint_number(joint)
        listed = isinstance(points, Sequence) and not isinstance(points, str) and 1 <= len(points) <= MOST_POINTS
        allowed = f"a list of 1 to {MOST_POINTS:,} points [x, z] in metres"
        require(listed, "path", len(points) if isinstance(points, Sequence) else points, allowed)
        for number, point in enumerate(points):
            require(_is_place(point), f"point {number} of the path", point, f"[x, z] in metres within {FARTHEST:g}")
        start = [[0.0, 0.0]] if joint == PELVIS else []
        return cls(np.array([*start, *points], float), joint)

    @property
    def metres(self) -> float:
        """Its length."""
        return float(self._distances[-1])

    @property
    def walking_frames(self) -> int:
        """Frames of a clip in which it is walked from rest to rest; at least 2."""
        return max(2, 1 + round(FRAMES_PER_SECOND * (self.metres / WALKING + START_UP)))

    def places(self, frames: int) -> Float[np.ndarray, "frames 2"]:
        """x and z at each frame: from the first point to the last at an even speed, from rest to rest.

        Raises:
            ValueError: for fewer than 2 frames.
        """
        distances = self.metres * _progress(frames)
        return np.stack([np.interp(distances, self._distances, axis) for axis in self.points.T], 1)

    def controls(self, frames: int, heights: float | Float[Tensor, " frames"] = STANDING) -> MotionControls:
        """The joint held on the path at every frame of a clip.

        Args:
            frames: of the clip, at least 2.
            heights: of the joint above the floor in metres, at every frame or at each; those of a motion that is made
                without controls let the pelvis sink and rise as the motion asks for.

        Raises:
            ValueError: for fewer than 2 frames, or another number of heights.
        """
        places = torch.from_numpy(self.places(frames)).float()
        heights = torch.as_tensor(heights, dtype=torch.float32)
        require(heights.shape in ((), (frames,)), "heights", list(heights.shape), f"one, or {frames} as the frames")
        targets, mask = torch.zeros(frames, len(JOINTS), 3), torch.zeros(frames, len(JOINTS), dtype=torch.bool)
        targets[:, self.joint, ::2], targets[:, self.joint, 1] = places, heights
        mask[:, self.joint] = True
        return MotionControls(targets, mask)

    @property
    def _distances(self) -> Float[np.ndarray, " points"]:
        """Along the path, from its first point to each."""
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])


def _progress(frames: int) -> Float[np.ndarray, " frames"]:
    """Part of a way, from 0 to 1, that is behind one at each frame: the speed rises smoothly, stays, and falls."""
    check_count("frames", frames)
    require(frames >= 2, "frames", frames, "at least 2")
    between = (np.arange(frames - 1) + 0.5) / FRAMES_PER_SECOND
    end = (frames - 1) / FRAMES_PER_SECOND
    nearer = (np.minimum(between, end - between) / min(START_UP, end / 2)).clip(0, 1)
    covered = np.cumsum(nearer**2 * (3 - 2 * nearer))
    return np.concatenate([[0.0], covered / covered[-1]])


def _is_place(point: Any) -> bool:
    two = isinstance(point, Sequence) and not isinstance(point, str) and len(point) == 2
    numbers = two and all(isinstance(value, int | float) and not isinstance(value, bool) for value in point)
    return numbers and all(abs(value) <= FARTHEST for value in point)
