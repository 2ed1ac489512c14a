"""How far controlled joints are from where they should be (OmniControl, arXiv 2310.08580)."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...pipelines.inputs import check_choice
from ..intervals import bootstrap_interval

JointReduce = Literal["none", "mean"]


@dataclass(frozen=True)
class ControlError:
    """Errors of control with what they mean.

    Attributes:
        trajectory_20, trajectory_50: share of clips with any error of more than 20 or 50 cm, in [0, 1].
        location_20, location_50: share of errors of more than 20 or 50 cm, by clip, then the mean over clips.
        average: mean error in metres by clip, then the mean over clips.
        interval: 95 % interval of `average` by a bootstrap over clips; None for a single clip.
        joint_reduce: "none" or "mean", see `control_error`.
        n: clips.
        controlled: joints at frames that were given, in all clips together.
    """

    trajectory_20: float
    trajectory_50: float
    location_20: float
    location_50: float
    average: float
    interval: tuple[float, float] | None
    joint_reduce: JointReduce
    n: int
    controlled: int

    def to_record(self) -> dict[str, Any]:
        """The errors as a JSON object."""
        return {**asdict(self), "interval": None if self.interval is None else list(self.interval)}


def control_error(
    joints: Float[Tensor, "batch frames 22 3"],
    targets: Float[Tensor, "batch frames 22 3"],
    mask: Bool[Tensor, "batch frames 22"],
    joint_reduce: JointReduce = "none",
) -> ControlError:
    """Euclidean distances of the joints from their targets, wherever `mask` is True.

    A clip's trajectory fails if any of its errors is above the limit, which OmniControl's code calls strict. Its looser
    form, which compares the mean of a clip, is not offered: no paper prints it. Published tables show `trajectory_50`,
    `location_50` and `average`.

    Args:
        joints: that were made, in metres.
        targets: where they should be, in metres; anything where `mask` is False.
        mask: what was controlled, at least one joint at one frame of each clip. It is not read off the targets, for
            (0, 0, 0) is a place like any other.
        joint_reduce: "none" takes an error of each joint at each frame, as OmniControl does; "mean" first the mean
            over the controlled joints of a frame, as ControlMM does, which hides a joint that misses beside others
            that do not.

    Raises:
        ValueError: shapes that do not fit, a clip without control, or a controlled place that is not finite.
    """
    check_choice("joint_reduce", joint_reduce, ("none", "mean"))
    _check(joints, targets, mask)
    errors = (joints.double() - targets.double()).norm(dim=-1).where(mask, 0.0)  # [batch, frames, joints]
    counted = mask
    if joint_reduce == "mean":
        counted = mask.any(-1, keepdim=True)
        errors = errors.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    errors, count = errors.flatten(1), counted.flatten(1).sum(1)
    averages = errors.sum(1) / count
    return ControlError(
        **{f"trajectory_{limit}": _share((errors > limit / 100).any(1)) for limit in (20, 50)},
        **{f"location_{limit}": _share((errors > limit / 100).sum(1) / count) for limit in (20, 50)},
        average=_share(averages),
        interval=bootstrap_interval(averages.tolist()) if len(averages) > 1 else None,
        joint_reduce=joint_reduce,
        n=len(averages),
        controlled=int(mask.sum()),
    )


def _share(of_clips: Tensor) -> float:
    return of_clips.double().mean().item()


def _check(joints: Tensor, targets: Tensor, mask: Tensor) -> None:
    shape = joints.shape
    if joints.ndim != 4 or shape[-1] != 3 or 0 in shape or shape != targets.shape or shape[:-1] != mask.shape:
        raise ValueError(
            f"joints is {list(joints.shape)}, targets {list(targets.shape)} and mask {list(mask.shape)}; they must be "
            "[batch, frames, joints, 3], the same, and [batch, frames, joints]."
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, not {mask.dtype}.")
    controlled = mask.flatten(1).any(1)
    if not controlled.all():
        raise ValueError(
            f"mask must be True somewhere in every clip, but in clip {int(controlled.int().argmin())} is not."
        )
    if not (joints[mask].isfinite().all() and targets[mask].isfinite().all()):
        raise ValueError("joints and targets must be finite where mask is True, but hold NaN or infinity.")
