"""Jerk, the change of acceleration: what a viewer sees as jitter."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ...pipelines.motion.skeleton import FRAMES_PER_SECOND, JOINTS
from .valid_frames import valid_frames


class Jerk(NamedTuple):
    """Lengths of the third derivative of the joints' positions in m/s^3, clip by clip: the largest, and the mean."""

    peak: Float[Tensor, " batch"]
    mean: Float[Tensor, " batch"]


def jerk(joints: Float[Tensor, "batch frames 22 3"], lengths: Sequence[int]) -> Jerk:
    """Jerk over all joints and all four consecutive frames inside a clip, by differences at 20 frames a second.

    The largest is the peak jerk of FlowMDM (arXiv 2402.15509), here of whole clips and in physical units.

    Args:
        joints: in metres.
        lengths: frames of each clip, at least 4.

    Raises:
        ValueError: what `valid_frames` refuses.
    """
    inside = valid_frames(joints, lengths, shortest=4)[:, 3:, None]  # [batch, frames - 3, 1]
    third = joints.double().diff(n=3, dim=1) * FRAMES_PER_SECOND**3  # [batch, frames - 3, joints, 3]
    size = third.norm(dim=-1).where(inside, 0.0)
    return Jerk(size.amax((1, 2)), size.sum((1, 2)) / (len(JOINTS) * inside.sum((1, 2))))
