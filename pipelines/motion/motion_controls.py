"""Where joints must be at which frames: targets in metres with an explicit mask, and the JSON that says them."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ... import unknown_name
from ..files import read_json
from ..inputs import check_count, require
from .skeleton import CONTROL_JOINTS, JOINTS

MOST_FRAMES = 10_000
"""Of one clip, over eight minutes: a typing error in a frame's number takes no memory."""

FARTHEST = 1000.0
"""Metres from the origin on each axis, up to which a target is taken for one."""

MOST_BYTES = 4_000_000
"""Of a JSON file of controls; every joint of the longest motion that is made takes less than half a megabyte."""


@dataclass(frozen=True)
class MotionControls:
    """Positions that joints of one clip must take, at the frames where the mask says so; the rest is free.

    Positions are global: metres, Y up, the floor at 0. A clip starts with the pelvis above the origin, facing +Z, so a
    target of the pelvis at frame 0 with another x or z can be met by no motion. (0, 0, 0) is a target like any other.

    Attributes:
        targets: [frames, 22, 3], float32; whatever is given where the mask is False becomes 0.
        mask: [frames, 22], True where the joint must be at its target; at least once.

    Raises:
        ValueError: for a wrong shape or type, a mask without a True, or a target that is not finite or is farther than
            1000 m from the origin, naming joint and frame.
    """

    targets: Float[Tensor, "frames 22 3"]
    mask: Bool[Tensor, "frames 22"]

    def __post_init__(self) -> None:
        targets, mask = self.targets, self.mask
        floating = isinstance(targets, Tensor) and targets.is_floating_point()
        require(floating, "targets", _kind(targets), "a floating point tensor [frames, 22, 3]")
        boolean = isinstance(mask, Tensor) and mask.dtype == torch.bool
        require(boolean, "mask", _kind(mask), "a boolean tensor [frames, 22]")
        fits = targets.ndim == 3 and targets.shape[1:] == (len(JOINTS), 3) and 1 <= len(targets) <= MOST_FRAMES
        require(fits, "targets", list(targets.shape), f"[frames, 22, 3] with 1 to {MOST_FRAMES} frames")
        require(mask.shape == targets.shape[:2], "mask", list(mask.shape), f"{list(targets.shape[:2])} as the targets")
        if not mask.any():
            raise ValueError("mask must be True for at least one joint at one frame, not False everywhere.")
        far = ~(targets.abs() <= FARTHEST).all(-1) & mask
        if far.any():
            frame, joint = far.nonzero()[0].tolist()
            allowed = f"within {FARTHEST:g} m of the origin on each axis"
            require(False, f"the target of {JOINTS[joint]} at frame {frame}", targets[frame, joint].tolist(), allowed)
        object.__setattr__(self, "targets", torch.where(mask[..., None], targets, 0).float())

    @property
    def frames(self) -> int:
        """Of the clip."""
        return self.mask.shape[0]

    @classmethod
    def from_json(cls, source: str | Path | Mapping[str, Any] | Sequence[Any], length: int | None = None) -> Self:
        """Controls from a JSON file, or from what one holds.

        It is a list of controls, or an object with the list as "controls" and the clip's frames as "length"; other
        keys of the object belong to other readers. A control is a joint's way or a keyframe of several joints:

            {"joint": "pelvis", "frames": [0, 40], "positions": [[0, 0.92, 0], [0, 0.92, 1.5]]}
            {"joint": 20, "frames": {"start": 10, "stop": 12}, "positions": [[0.4, 1.3, 0.5], [0.4, 1.4, 0.5]]}
            {"frame": 60, "joints": {"head": [0.1, 1.55, 2.4], "right_wrist": [-0.3, 1.6, 2.5]}}

        Joints have names or numbers of `skeleton.JOINTS`, frames are counted from 0, "stop" is excluded.

        Args:
            source: path of a file of at most 4 MB, or its content.
            length: frames of the clip; by default the source's, or else as many as reach to the last one controlled.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: for anything else than that, a frame outside the clip, an unknown joint (with the nearest
                name), or a joint that is given two targets at one frame.
        """
        content = _read(Path(source)) if isinstance(source, str | Path) else source
        if isinstance(content, Mapping):
            length = content.get("length") if length is None else length
            content = content.get("controls")
        listed = isinstance(content, Sequence) and not isinstance(content, str) and len(content) > 0
        _require(listed, "controls", content, "a list of at least one control")
        if length is not None:
            _require(_is_whole(length) and 1 <= length <= MOST_FRAMES, "length", length, f"1 to {MOST_FRAMES} frames")
        cells: dict[tuple[int, int], list[float]] = {}
        for number, control in enumerate(content):
            for cell in _cells(f"controls[{number}]", control, length or MOST_FRAMES):
                if (cell.frame, cell.joint) in cells:
                    raise ValueError(
                        f"controls[{number}] must give {JOINTS[cell.joint]} no second target at frame {cell.frame}."
                    )
                cells[cell.frame, cell.joint] = cell.position
        frames = length or 1 + max(frame for frame, _ in cells)
        mask, targets = torch.zeros(frames, len(JOINTS), dtype=torch.bool), torch.zeros(frames, len(JOINTS), 3)
        places = tuple(torch.tensor(list(cells)).T)
        mask[places], targets[places] = True, torch.tensor(list(cells.values()))
        return cls(targets, mask)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: the clip's length, and a way for each joint that is controlled."""
        ways = []
        for joint in self.mask.any(0).nonzero()[:, 0].tolist():
            frames = self.mask[:, joint].nonzero()[:, 0]
            positions = self.targets[frames, joint].tolist()
            ways.append({"joint": JOINTS[joint], "frames": frames.tolist(), "positions": positions})
        return {"length": self.frames, "controls": ways}

    def padded(self, frames: int) -> Self:
        """The same controls in a clip of another length, whose further frames are free.

        Raises:
            ValueError: a frame that is controlled would be lost.
        """
        frames, last = check_count("frames", frames), int(self.mask.any(1).nonzero()[-1])
        require(last < frames <= MOST_FRAMES, "frames", frames, f"more than {last}, the last frame that is controlled")
        further = max(0, frames - self.frames)
        targets = torch.cat([self.targets[:frames], self.targets.new_zeros(further, len(JOINTS), 3)])
        return type(self)(targets, torch.cat([self.mask[:frames], self.mask.new_zeros(further, len(JOINTS))]))

    def to(self, device: torch.device | str) -> Self:
        """The same controls on another device."""
        return type(self)(self.targets.to(device), self.mask.to(device))


class BatchedControls(NamedTuple):
    """Controls of several clips, padded to one length.

    Attributes:
        targets: [batch, frames, 22, 3] in metres, 0 where the mask is False.
        mask: [batch, frames, 22].
    """

    targets: Float[Tensor, "batch frames 22 3"]
    mask: Bool[Tensor, "batch frames 22"]


def batched(controls: Sequence[MotionControls | None], frames: int) -> BatchedControls:
    """Controls of the clips of a batch, one each; None leaves a clip free.

    Raises:
        ValueError: there is none, or a frame that is controlled lies beyond `frames`.
    """
    require(len(controls) > 0, "controls", controls, "those of at least one clip")
    frames = check_count("frames", frames)
    given = [one.padded(frames) if one is not None else None for one in controls]
    like = next((one.targets for one in given if one is not None), torch.zeros(frames, len(JOINTS), 3))
    free = torch.zeros_like(like), torch.zeros_like(like[..., 0], dtype=torch.bool)
    targets, masks = zip(*(free if one is None else (one.targets, one.mask) for one in given), strict=True)
    return BatchedControls(torch.stack(targets), torch.stack(masks))


def control_features(
    joints: Float[Tensor, "*batch frames 22 3"],
    targets: Float[Tensor, "*batch frames 22 3"],
    mask: Bool[Tensor, "*batch frames 22"],
    control_joints: Sequence[int] = CONTROL_JOINTS,
) -> Float[Tensor, "*batch frames channels"]:
    """What the control branch sees: how far the motion now is from its targets, and the targets (ControlMM).

    Args:
        joints: of the motion as the tokens now stand, global metres; gradients flow to it.
        targets: global metres.
        mask: where they count; all channels of a joint are 0 elsewhere.
        control_joints: that have channels: the pelvis alone, (0,), makes 6, the six of OmniControl make 36. Targets of
            other joints have none.

    Returns:
        target - joint of every control joint (x y z each), then the targets likewise.

    Raises:
        ValueError: the shapes do not belong together.
    """
    shape = joints.shape
    require(shape[-2:] == (len(JOINTS), 3) and len(shape) >= 3, "joints", list(shape), "[..., frames, 22, 3]")
    require(targets.shape == shape, "targets", list(targets.shape), f"{list(shape)} as the joints")
    require(mask.shape == shape[:-1], "mask", list(mask.shape), f"{list(shape[:-1])} as the joints")
    chosen = list(control_joints)
    wanted, shown = targets[..., chosen, :], mask[..., chosen, None]
    pairs = torch.stack([wanted - joints[..., chosen, :], wanted], -3)  # [..., frames, 2, control joints, 3]
    return torch.where(shown.unsqueeze(-3), pairs, 0).flatten(-3)


def joint_number(joint: str | int, name: str = "joint") -> int:
    """The number in `skeleton.JOINTS` of a joint that is given by its name or its number.

    Args:
        joint: such as "left_wrist" or 20.
        name: of the argument, for the error.

    Raises:
        ValueError: it is none; a wrong name's error has the nearest.
    """
    if isinstance(joint, str):
        if joint not in JOINTS:
            raise unknown_name(name, joint[:40], JOINTS)
        return JOINTS.index(joint)
    _require(_is_whole(joint) and 0 <= joint < len(JOINTS), name, joint, "a joint's name or number from 0 to 21")
    return joint


class _Cell(NamedTuple):
    frame: int
    joint: int
    position: list[float]


def _read(path: Path) -> Any:
    if path.is_file():
        size = path.stat().st_size
        require(size <= MOST_BYTES, str(path), size, f"at most {MOST_BYTES} bytes")
    return read_json(path)


def _cells(name: str, control: Any, length: int) -> list[_Cell]:
    keys = set(control) if isinstance(control, Mapping) else None
    if keys == {"joint", "frames", "positions"}:
        joint, frames = joint_number(control["joint"], f"{name}.joint"), control["frames"]
        positions, count = _list(f"{name}.positions", control["positions"]), _frame_count(name, frames, length)
        require(len(positions) == count, f"{name}.positions", len(positions), f"{count}, one a frame")
        numbers = range(frames["start"], frames["stop"]) if isinstance(frames, Mapping) else frames
        pairs = enumerate(zip(numbers, positions, strict=True))
        return [_Cell(at, joint, _position(f"{name}.positions[{row}]", xyz)) for row, (at, xyz) in pairs]
    if keys == {"frame", "joints"}:
        frame, joints = _frame(f"{name}.frame", control["frame"], length), control["joints"]
        _require(isinstance(joints, Mapping) and len(joints) > 0, f"{name}.joints", joints, "names with positions")
        numbers = {joint: joint_number(joint, f"{name}.joints: joint") for joint in joints}
        return [_Cell(frame, numbers[at], _position(f"{name}.joints.{at}", xyz)) for at, xyz in joints.items()]
    allowed = "an object with joint, frames and positions, or with frame and joints"
    _require(False, name, control if keys is None else sorted(map(str, keys)), allowed)


def _frame_count(name: str, frames: Any, length: int) -> int:
    """How many frames are listed, or lie from "start" to before "stop"; each is one of the clip."""
    if isinstance(frames, Mapping):
        require(set(frames) == {"start", "stop"}, f"{name}.frames", sorted(map(str, frames)), "start and stop")
        start, stop = _frame(f"{name}.frames.start", frames["start"], length), frames["stop"]
        inside = _is_whole(stop) and start < stop <= length
        _require(inside, f"{name}.frames.stop", stop, f"a whole number from {start + 1} to {length}")
        return stop - start
    for frame in _list(f"{name}.frames", frames):
        _frame(f"{name}.frames", frame, length)
    return len(frames)


def _frame(name: str, frame: Any, length: int) -> int:
    _require(_is_whole(frame) and 0 <= frame < length, name, frame, f"a frame of the clip, from 0 to {length - 1}")
    return frame


def _list(name: str, value: Any) -> Sequence[Any]:
    _require(isinstance(value, list | tuple) and len(value) > 0, name, value, "a list that is not empty")
    return value


def _position(name: str, position: Any) -> list[float]:
    three = isinstance(position, list | tuple) and len(position) == 3
    numbers = three and all(isinstance(x, int | float) and not isinstance(x, bool) for x in position)
    inside = numbers and all(abs(x) <= FARTHEST for x in position)
    _require(inside, name, position, f"[x, y, z] in metres within {FARTHEST:g} of the origin")
    return [float(x) for x in position]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    """As `require`, for a value from a file, of which only the beginning is said."""
    if not holds:
        raise ValueError(f"{name} must be {allowed}, not {reprlib.repr(value)}.")
