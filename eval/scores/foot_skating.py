"""How much of a motion the feet slide over the ground (the skating ratio of OmniControl, arXiv 2310.08580)."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...pipelines.inputs import check_choice
from ...pipelines.motion.skeleton import FEET, FRAMES_PER_SECOND
from .valid_frames import valid_frames

HEIGHT = 0.05  # metres: a foot below it touches the ground
SPEED = 0.5  # metres a second; a comment in OmniControl's code says 0.2, the code itself 0.5
WINDOW = 5  # steps whose mean speed must be above it as well
TOES = tuple(toes for _, toes in FEET.values())

Compat = Literal["fixed", "official"]


def foot_skating(
    joints: Float[Tensor, "batch frames 22 3"], lengths: Sequence[int], compat: Compat = "fixed"
) -> Float[Tensor, " batch"]:
    """The share of steps, from one frame to the next, in which at least one foot skates, in [0, 1], clip by clip.

    A foot skates in a step when its toes are less than 5 cm above the ground in both frames, and move horizontally at
    more than 0.5 m/s in this step and in the mean of the five steps around it.

    Args:
        joints: in metres, Y up, with the ground at 0.
        lengths: frames of each clip, at least 2.
        compat: "fixed" looks at the steps inside each clip: it divides by their number, and near the ends the mean is
            of the steps there are. "official" is OmniControl at 76336a6: all frames of the array count, padding too,
            and steps outside the array count as standing still.

    Raises:
        ValueError: what `valid_frames` refuses, or an unknown `compat`.
    """
    check_choice("compat", compat, ("fixed", "official"))
    valid = valid_frames(joints, lengths if compat == "fixed" else [joints.shape[1]] * len(joints), shortest=2)
    toes = joints[:, :, TOES].double()  # [batch, frames, feet, 3]
    inside = valid[:, 1:, None]  # [batch, steps, 1]
    speed = toes[..., ::2].diff(dim=1).norm(dim=-1) * FRAMES_PER_SECOND  # [batch, steps, feet]
    speed = speed.where(inside, 0.0)
    mean = _mean_around(speed)
    if compat == "fixed":
        mean = mean / _mean_around(inside.double())
    low = toes[..., 1] < HEIGHT
    skates = low[:, 1:] & low[:, :-1] & (speed > SPEED) & (mean > SPEED) & inside
    return skates.any(-1).double().sum(1) / inside.sum((1, 2))


def _mean_around(values: Float[Tensor, "batch steps feet"]) -> Float[Tensor, "batch steps feet"]:
    """Over the window about each step, with zeros outside."""
    return F.avg_pool1d(values.mT, WINDOW, stride=1, padding=WINDOW // 2).mT
