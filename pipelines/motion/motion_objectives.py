"""What a motion shall do, as losses on its joints that gradients flow through; each clip of a batch has its own.

Every objective is called with joints [batch, frames, 22, 3] (global metres, Y up) and `valid` [batch, frames], True at
the frames of each clip that are no padding (None: all are). What stands in padded frames has neither value nor
gradient. It returns a loss of at least 0 for each clip, [batch], 0 where it is met. Anything else that does so is an
objective too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..inputs import check_choice, check_number, require
from .motion_controls import joint_number
from .skeleton import FRAMES_PER_SECOND, JOINTS

BODY_PARTS = {"left_arm": (20, 18), "right_arm": (21, 19), "legs": (10, 4, 11, 5), "head": (15,), "spine": (0,)}
"""Joints that stand for a part of the body in a timeline (STMC, arXiv 2401.08559)."""

HEAD = JOINTS.index("head")


class Objective(Protocol):
    """A loss on joints, see the top of this file."""

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]: ...


@dataclass(frozen=True)
class ControlTargets:
    """Joints are at their targets: mean squared error over x, y and z where the mask says so.

    Attributes:
        targets: [batch, frames, 22, 3] in global metres, or [frames, 22, 3] for every clip alike.
        mask: where they count, without the last axis. A clip without a True has loss 0.
    """

    targets: Float[Tensor, "*batch frames 22 3"]
    mask: Bool[Tensor, "*batch frames 22"]

    def __post_init__(self) -> None:
        shape = self.targets.shape
        fits = len(shape) in (3, 4) and shape[-2:] == (len(JOINTS), 3)
        require(fits, "targets", list(shape), "[batch, frames, 22, 3] or [frames, 22, 3]")
        require(self.mask.shape == shape[:-1], "mask", list(self.mask.shape), f"{list(shape[:-1])} as the targets")

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        joints, valid = _checked(joints, valid)
        fits = self.targets.shape[-3] == joints.shape[1] and self.targets.shape[:-3] in ((), joints.shape[:1])
        require(fits, "targets", list(self.targets.shape), f"{list(joints.shape)} as the joints")
        counted = (self.mask.to(joints.device) & valid[..., None])[..., None]  # [batch, frames, 22, 1]
        squares = torch.where(counted, joints - self.targets.to(joints), 0).square()
        return squares.sum((1, 2, 3)) / (3 * counted.sum((1, 2, 3))).clamp(min=1)


@dataclass(frozen=True)
class AvoidSpheres:
    """A joint stays out of spheres: how deep it is inside, in metres, mean over frames and spheres (ControlMM).

    Attributes:
        centres: of the spheres [spheres, 3] in global metres.
        radii: [spheres] in metres, positive.
        joint: name or number.
        weight: of the loss, at least 0.
    """

    centres: Float[Tensor, "spheres 3"] | Sequence[Sequence[float]]
    radii: Float[Tensor, " spheres"] | Sequence[float]
    joint: str | int = "pelvis"
    weight: float = 1.0

    def __post_init__(self) -> None:
        centres, radii = _numbers("centres", self.centres), _numbers("radii", self.radii)
        fits = centres.ndim == 2 and centres.shape[1] == 3 and len(centres) > 0
        require(fits, "centres", list(centres.shape), "[spheres, 3] with at least one sphere")
        require(radii.shape == centres.shape[:1], "radii", list(radii.shape), f"[{len(centres)}], one a sphere")
        require(bool(torch.isfinite(centres).all()), "centres", centres.tolist(), "finite")
        require(bool(((radii > 0) & (radii < math.inf)).all()), "radii", radii.tolist(), "positive and finite")
        _settle(self, centres=centres, radii=radii, joint=joint_number(self.joint))
        check_number("weight", self.weight, 0)

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        joints, valid = _checked(joints, valid)
        offsets = joints[:, :, None, self.joint] - self.centres.to(joints)  # [batch, frames, spheres, 3]
        depths = (self.radii.to(joints) - torch.linalg.vector_norm(offsets, dim=-1)).clamp(min=0)
        return self.weight * _mean(depths.mean(-1), valid)


@dataclass(frozen=True)
class StayInside:
    """A joint stays inside a box along the axes: its distance from it, in metres, mean over frames.

    Attributes:
        low, high: corners [3] in global metres, low < high on each axis; infinite on an axis without a limit.
        joint: name or number.
        weight: of the loss, at least 0.
    """

    low: Float[Tensor, " 3"] | Sequence[float]
    high: Float[Tensor, " 3"] | Sequence[float]
    joint: str | int = "pelvis"
    weight: float = 1.0

    def __post_init__(self) -> None:
        low, high = _numbers("low", self.low), _numbers("high", self.high)
        for name, corner in (("low", low), ("high", high)):
            require(corner.shape == (3,), name, list(corner.shape), "a corner [3]")
        require(bool((low < high).all()), "low", low.tolist(), f"below high, {high.tolist()}, on each axis")
        _settle(self, low=low, high=high, joint=joint_number(self.joint))
        check_number("weight", self.weight, 0)

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        joints, valid = _checked(joints, valid)
        places = joints[:, :, self.joint]
        outside = places - places.clamp(self.low.to(joints), self.high.to(joints))
        return self.weight * _mean(torch.linalg.vector_norm(outside, dim=-1), valid)


@dataclass(frozen=True)
class HeadHeight:
    """The head stays between two heights: its distance from them, in metres, mean over frames (ProgMoGen's ceiling).

    Attributes:
        low, high: metres above the floor, low < high.
        weight: of the loss, at least 0.
    """

    low: float = 0.0
    high: float = math.inf
    weight: float = 1.0
    _slab: StayInside = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        corners = (-math.inf, self.low, -math.inf), (math.inf, self.high, math.inf)
        _settle(self, _slab=StayInside(*corners, joint=HEAD, weight=self.weight))

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        return self._slab(joints, valid)


@dataclass(frozen=True)
class PartSpan:
    """A part of the body over some frames.

    Attributes:
        part: of `BODY_PARTS`.
        start, stop: frames of the clip, the last one excluded.
    """

    part: str
    start: int
    stop: int

    def __post_init__(self) -> None:
        check_choice("part", self.part, tuple(BODY_PARTS))
        ordered = all(type(frame) is int for frame in (self.start, self.stop)) and 0 <= self.start < self.stop
        require(ordered, "start and stop", (self.start, self.stop), "frames of the clip with 0 <= start < stop")


@dataclass(frozen=True)
class BodyPartTimeline:
    """Parts of the body keep what they did in an earlier motion, while another text moves the rest (ControlMM).

    `motion` and `mask` are also the controls that the control branch is given.

    Attributes:
        motion: joints of the earlier motion [batch, frames, 22, 3] in global metres.
        spans: which part keeps it over which frames, at least one.
    """

    motion: Float[Tensor, "batch frames 22 3"]
    spans: Sequence[PartSpan]

    def __post_init__(self) -> None:
        shape = self.motion.shape
        require(len(shape) == 4 and shape[-2:] == (len(JOINTS), 3), "motion", list(shape), "[batch, frames, 22, 3]")
        require(len(self.spans) > 0, "spans", self.spans, "at least one span of a body part")
        last = max(span.stop for span in self.spans)
        require(last <= shape[1], "stop of a span", last, f"at most {shape[1]}, the frames of the motion")

    @property
    def mask(self) -> Bool[Tensor, "batch frames 22"]:
        """True where a joint keeps its earlier place."""
        mask = torch.zeros(self.motion.shape[:-1], dtype=torch.bool, device=self.motion.device)
        for span in self.spans:
            mask[:, span.start : span.stop, list(BODY_PARTS[span.part])] = True
        return mask

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        return ControlTargets(self.motion.detach(), self.mask)(joints, valid)


@dataclass(frozen=True)
class AntiJitter:
    """Joints change their acceleration little: mean squared jerk over joints and frames, in (m/s^3)^2.

    Jerk is the third difference times the cube of the frame rate, 20; people reach about 100 m/s^3, so that a weight
    of 1e-6 is already felt beside targets that are met within centimetres.

    Attributes:
        weight: of the loss, at least 0.
    """

    weight: float

    def __post_init__(self) -> None:
        check_number("weight", self.weight, 0)

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        joints, valid = _checked(joints, valid)
        require(joints.shape[1] >= 4, "frames", joints.shape[1], "at least 4, or there is no third difference")
        jerks = joints.diff(n=3, dim=1) * FRAMES_PER_SECOND**3  # [batch, frames - 3, 22, 3]
        return self.weight * _mean(jerks.square().sum(-1).mean(-1), valid.unfold(1, 4, 1).all(-1))


@dataclass(frozen=True)
class ObjectiveSum:
    """Several objectives at once.

    Attributes:
        objectives: at least one.
    """

    objectives: Sequence[Objective]

    def __post_init__(self) -> None:
        require(len(self.objectives) > 0, "objectives", self.objectives, "at least one objective")

    def __call__(
        self, joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        losses = [objective(joints, valid) for objective in self.objectives]
        for objective, loss in zip(self.objectives, losses, strict=True):
            name = f"what {getattr(objective, '__name__', type(objective).__name__)} returns"
            tensor = isinstance(loss, Tensor)
            given = list(loss.shape) if tensor else type(loss).__name__
            require(tensor and loss.shape == joints.shape[:1], name, given, f"a loss a clip, [{len(joints)}]")
        return torch.stack(losses).sum(0)


def _checked(
    joints: Float[Tensor, "batch frames 22 3"], valid: Bool[Tensor, "batch frames"] | None
) -> tuple[Float[Tensor, "batch frames 22 3"], Bool[Tensor, "batch frames"]]:
    """Joints with zeros at frames that are padding, and which are not."""
    shape = joints.shape
    require(len(shape) == 4 and shape[-2:] == (len(JOINTS), 3), "joints", list(shape), "[batch, frames, 22, 3]")
    if valid is None:
        return joints, torch.ones(shape[:2], dtype=torch.bool, device=joints.device)
    fits = valid.dtype == torch.bool and valid.shape == shape[:2]
    require(fits, "valid", f"{valid.dtype} {list(valid.shape)}", f"boolean {list(shape[:2])} as the joints")
    return torch.where(valid[..., None, None], joints, 0), valid


def _mean(losses: Float[Tensor, "batch frames"], valid: Bool[Tensor, "batch frames"]) -> Float[Tensor, " batch"]:
    """Mean over the valid frames of each clip; 0 of a clip without one."""
    return torch.where(valid, losses, 0).sum(1) / valid.sum(1).clamp(min=1)


def _numbers(name: str, values: Any) -> Tensor:
    try:
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be numbers in a tensor or in lists of one length, not {values!r}.") from None


def _settle(objective: Any, **values: Any) -> None:
    """Sets fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(objective, name, value)
