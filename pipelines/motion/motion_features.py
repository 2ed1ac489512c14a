"""The 263 features of a frame of motion in HumanML3D (Guo et al., CVPR 2022), from joints and back.

| features | what |
|---|---|
| 0 | half the turn about the vertical to the next frame, in radians, negative when the heading grows |
| 1:3 | step of the root to the next frame, x and z in metres, as one who faces as in the next frame sees it |
| 3 | height of the root in metres |
| 4:67 | places of joints 1 to 21 in metres from the floor under the root, as one who faces as in this frame sees them |
| 67:193 | rotations of joints 1 to 21, six numbers each |
| 193:259 | steps of all joints to the next frame in metres, as one who faces as in this frame sees them |
| 259:263 | 1 where the left ankle, left toes, right ankle and right toes stand still to the next frame, else 0 |

The heading is one for all: that of hips and shoulders, smoothed along time. A clip of T frames has T - 1 vectors.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..files import whole_file
from ..inputs import require
from ..npy_file import read_floats
from .forward_kinematics import chained
from .inverse_kinematics import bones_of, facing, heading
from .rotations import about_vertical, inverse, product, shortest_arc, six_numbers_of, turned_about_vertical
from .skeleton import CHAINS, FEET, JOINTS, bone_lengths, rest_directions

NUM_FEATURES = 263

TURN, STEP, HEIGHT = slice(0, 1), slice(1, 3), slice(3, 4)
PLACES, ROTATIONS, STEPS, CONTACTS = slice(4, 67), slice(67, 193), slice(193, 259), slice(259, 263)
GROUPS = (TURN, STEP, HEIGHT, PLACES, ROTATIONS, STEPS, CONTACTS)
EMPHASISED = (TURN, STEP, HEIGHT, CONTACTS)

HEADING_SIGMA = 20.0
"""Frames, one second: the standard deviation of the Gaussian by which the facing direction is smoothed along time."""

STANDS_STILL = 0.002
"""Square metres: a foot whose step to the next frame, squared, is below touches the ground."""

EMPHASIS = 25.0
"""How much more a network weighs the root and the contacts: see `MotionStatistics.emphasised`."""

ROOT_HEIGHTS = (-1.0, 4.0)
"""Metres between which the root of half of all frames is, or features were scaled by other statistics."""

# The columns of rotations have length 1. Half of them are off by 0 in features of joints, by 0.2 in a network's that
# knows the mean and deviation only, and by 0.6 and more in normalised ones.
OFF_IN_METRES, OFF_IN_NORMALISED = 0.4, 0.1

ROWS_AT_ONCE = 65_536

ABOVE = tuple(next((chain[chain.index(joint) - 1] for chain in CHAINS if joint in chain[2:]), 0) for joint in range(22))
"""The joint whose bone a rotation is seen from. HumanML3D begins each chain at the pelvis, the arms' too, although
they hang on spine3; its files are so, and it is kept (github.com/EricGuo5513/HumanML3D/issues/119)."""


def features_of(joints: Float[Tensor, "*batch frames 22 3"]) -> Float[Tensor, "*batch frames-1 263"]:
    """Features of motions, wherever in the world they are and whichever way they face.

    The rotations are those of HumanML3D: each bone is turned the shortest way from its rest direction in the world,
    and seen from the bone before it in its chain; the first of a chain is seen from the heading *backwards*, so that
    these depend on the heading. They are not SMPL's.

    Args:
        joints: metres, Y up, 20 frames a second, at least two frames; `retargeted` if the bones are not those of the
            uniform skeleton.

    Returns:
        One vector for each frame but the last.

    Raises:
        ValueError: for a wrong shape or joints that are not finite.
    """
    joints = canonicalised(joints)
    root = joints[..., :1, :]
    half_turns = _half_turns(joints)
    angles = _headings(half_turns)  # [..., frames]: of the heading that `joints_of_features` finds again
    seen = turned_about_vertical(joints - root * root.new_tensor([1, 0, 1]), -angles[..., None])
    steps = joints[..., 1:, :, :] - joints[..., :-1, :, :]
    step = turned_about_vertical(steps[..., 0, :], -angles[..., 1:])
    feet = steps[..., (*FEET["left"], *FEET["right"]), :]
    parts = (
        half_turns[..., None],
        step[..., ::2],
        root[..., :-1, 0, 1:2],
        seen[..., :-1, 1:, :].flatten(-2),
        _six_numbers(joints, angles)[..., :-1, :],
        turned_about_vertical(steps, -angles[..., :-1, None]).flatten(-2),
        (feet.square().sum(-1) < STANDS_STILL).to(joints),
    )
    return torch.cat(parts, -1)


def joints_of_features(features: Float[Tensor, "*batch frames 263"]) -> Float[Tensor, "*batch frames 22 3"]:
    """Joints of motions: the first frame stands above the origin and faces +Z.

    Differentiable. Only features 0 to 66 are read, and an error in the first three adds up along time. Values are not
    looked at: `check_features` tells those in metres from those that are normalised.

    Args:
        features: in metres and radians, not normalised.

    Returns:
        Metres, Y up.

    Raises:
        ValueError: for a wrong shape.
    """
    _check_width(features)
    angles = _headings(features[..., :-1, 0])
    x, z = features[..., :-1, STEP].unbind(-1)
    steps = turned_about_vertical(torch.stack([x, torch.zeros_like(x), z], -1), angles[..., 1:])
    ground = F.pad(steps.cumsum(-2), (0, 0, 1, 0))  # [..., frames, 3] below the root
    root = ground + F.pad(features[..., HEIGHT], (1, 1))
    body = turned_about_vertical(features[..., PLACES].unflatten(-1, (-1, 3)), angles[..., None])
    return torch.cat([root[..., None, :], body + ground[..., None, :]], -2)


def check_features(features: Float[Tensor, "*batch frames 263"]) -> None:
    """Refuses what are no features in metres and radians, such as normalised ones.

    Frames that are 0 throughout are padding, and only the others are looked at.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, or features that were normalised.
    """
    _check_values(features)
    off = _off_length(features)
    if off > OFF_IN_METRES:
        raise ValueError(
            "features must be in metres and radians, not normalised: half of the columns of their rotations are off "
            f"length 1 by {off:.2g} or more."
        )
    _check_heights(features)


def canonicalised(joints: Float[Tensor, "*batch frames 22 3"]) -> Float[Tensor, "*batch frames 22 3"]:
    """Motions moved and turned in the world, so that their lowest joint touches the floor y = 0 and the first frame
    has its root above the origin and faces +Z.

    Raises:
        ValueError: for a wrong shape or joints that are not finite.
    """
    _check_joints(joints)
    floor = joints[..., 1].amin((-2, -1))
    start = joints[..., 0, 0, :]
    origin = torch.stack([start[..., 0], floor, start[..., 2]], -1)[..., None, None, :]
    return turned_about_vertical(joints - origin, -heading(joints[..., 0, :, :])[..., None, None])


def retargeted(joints: Float[Tensor, "*batch frames 22 3"]) -> Float[Tensor, "*batch frames 22 3"]:
    """Motions of people of any size as the uniform skeleton of HumanML3D does them.

    Bones keep their directions and get its lengths; the way of the root is scaled as the right leg of the first frame.

    Raises:
        ValueError: for a wrong shape, joints that are not finite, or a bone without length.
    """
    _check_joints(joints)
    bones, lengths = bones_of(joints), bone_lengths().to(joints)
    found = bones.norm(dim=-1)
    shortest, joint = found[..., 1:].flatten(0, -2).amin(0).min(0)
    if shortest == 0:
        raise ValueError(f"joints must lie apart, but {JOINTS[joint + 1]} is where its parent is.")
    knee, ankle = JOINTS.index("right_knee"), JOINTS.index("right_ankle")
    scale = (lengths[knee] + lengths[ankle]) / (found[..., 0, knee] + found[..., 0, ankle])
    return chained(F.normalize(bones, dim=-1) * lengths[:, None], joints[..., 0, :] * scale[..., None, None])


@dataclass(frozen=True)
class MotionStatistics:
    """Mean and deviation of each feature, by which networks see motions.

    Attributes:
        mean: [263], in metres and radians.
        std: [263], positive. Features of a group (`GROUPS`) share one in HumanML3D.

    Raises:
        ValueError: for a wrong shape, a number that is not finite, or a deviation that is not positive.
    """

    mean: Float[Tensor, "263"]
    std: Float[Tensor, "263"]

    def __post_init__(self) -> None:
        for name, value in (("mean", self.mean), ("std", self.std)):
            require(value.shape == (NUM_FEATURES,), name, list(value.shape), f"[{NUM_FEATURES}]")
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
        smallest, feature = self.std.min(0)
        require(smallest.item() > 0, f"std of feature {feature}", smallest.item(), "positive")

    @classmethod
    def of(cls, clips: Iterable[Float[Tensor, "frames 263"]]) -> Self:
        """Statistics over all frames of clips, as HumanML3D computes them: a deviation is averaged over its group, so
        that the scale between the features of a group, which mean the same, is kept.

        Raises:
            ValueError: for no clip, or one that is refused by `check_features`.
        """
        count, total, squares = 0, torch.zeros(NUM_FEATURES).double(), torch.zeros(NUM_FEATURES).double()
        for clip in clips:
            _check_width(clip)
            for rows in clip.detach().reshape(-1, NUM_FEATURES).split(ROWS_AT_ONCE):
                check_features(rows)
                rows = rows.cpu().double()
                count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
        require(count > 0, "clips", count, "at least one")
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        std = torch.cat([std[group].mean().expand_as(std[group]) for group in GROUPS])
        return cls(mean.float(), std.float())

    def emphasised(self) -> Self:
        """The same with the deviations of root and contacts 25 times smaller, so that networks weigh them more.

        The readers of HumanML3D divide these by a bias of 5, so that the few features that move the whole body count
        for more in a loss. They do so in place and are made twice, for training and for validation, so that the
        published networks (MDM, OmniControl, MoMask) live with 25, and the statistics beside them hold it already.
        """
        std = self.std.clone()
        for group in EMPHASISED:
            std[group] /= EMPHASIS
        return replace(self, std=std)

    def normalise(self, features: Float[Tensor, "*batch frames 263"]) -> Float[Tensor, "*batch frames 263"]:
        """Features of mean 0, as networks take them. Padding does not stay 0.

        Raises:
            ValueError: for features that `check_features` refuses.
        """
        check_features(features)
        return (features - self.mean) / self.std

    def denormalise(self, features: Float[Tensor, "*batch frames 263"]) -> Float[Tensor, "*batch frames 263"]:
        """Features in metres and radians of those that are normalised.

        Raises:
            ValueError: for a wrong shape, NaN or infinity, features that are in metres already, or a root that no
                person has, which other statistics leave.
        """
        _check_values(features)
        off = _off_length(features)
        if off < OFF_IN_NORMALISED:
            raise ValueError(
                "features must be normalised, not in metres and radians: half of the columns of their rotations have "
                f"length 1 to {off:.2g}."
            )
        denormalised = self.in_metres(features)
        _check_heights(denormalised)
        return denormalised

    def in_metres(self, features: Float[Tensor, "*batch frames 263"]) -> Float[Tensor, "*batch frames 263"]:
        """As `denormalise`, for what a network made a moment ago: values are not looked at, which export needs."""
        return features * self.std + self.mean

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

    @classmethod
    def load(cls, mean: str | Path, std: str | Path) -> Self:
        """Statistics of two NumPy files, such as HumanML3D's Mean.npy and Std.npy.

        Raises:
            FileNotFoundError: one is missing.
            ValueError: one does not hold 263 numbers that are finite and, of deviations, positive.
        """
        return cls(*(torch.from_numpy(read_floats(path, (NUM_FEATURES,))) for path in (mean, std)))

    def save(self, folder: str | Path) -> None:
        """Writes Mean.npy and Std.npy, as HumanML3D has them, each whole or not at all; the folder is made.

        Raises:
            OSError: one cannot be written, with the path and the reason.
        """
        for name, value in (("Mean.npy", self.mean), ("Std.npy", self.std)):
            with whole_file(Path(folder, name)) as draft, draft.open("wb") as file:
                np.save(file, value.float().cpu().numpy(), allow_pickle=False)


def _half_turns(joints: Tensor) -> Tensor:
    """Half the turns from frame to frame, in radians, against the sense of `heading`: [..., frames - 1]."""
    forward = _smoothed(facing(joints))
    # The first frame faces +Z as it stands, not as smoothing would have it, so that recovery may begin there.
    forward = torch.cat([torch.tensor([0.0, 1]).to(forward).expand_as(forward[..., :1, :]), forward[..., 1:, :]], -2)
    x, z = forward.unbind(-1)
    sine = x[..., 1:] * z[..., :-1] - z[..., 1:] * x[..., :-1]
    cosine = x[..., 1:] * x[..., :-1] + z[..., 1:] * z[..., :-1]
    return -torch.atan2(sine, cosine) / 2


def _headings(half_turns: Tensor) -> Tensor:
    """Headings in radians of all frames, of the turns between them; 0 at the first."""
    return F.pad(-2 * half_turns.cumsum(-1), (1, 0))


def _smoothed(values: Tensor) -> Tensor:
    """Filtered along the last but one dimension by a Gaussian cut off at four sigma; the ends go on as they are."""
    radius = math.ceil(4 * HEADING_SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).to(values) / HEADING_SIGMA).square())
    rows = values.mT.reshape(-1, 1, values.shape[-2])
    padded = F.pad(rows, (radius, radius), mode="replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None]).view(values.mT.shape).mT


def _six_numbers(joints: Tensor, angles: Tensor) -> Tensor:
    """Rotations of joints 1 to 21, [..., frames, 126]."""
    arcs = shortest_arc(rest_directions().to(joints), bones_of(joints))
    arcs = torch.cat([about_vertical(-angles)[..., None, :], arcs[..., 1:, :]], -2)
    return six_numbers_of(product(inverse(arcs[..., ABOVE[1:], :]), arcs[..., 1:, :])).flatten(-2)


def _check_joints(joints: Tensor) -> None:
    frames = f"[..., frames, {len(JOINTS)}, 3] with at least two frames"
    fits = joints.ndim >= 3 and joints.shape[-3] >= 2 and joints.shape[-2:] == (len(JOINTS), 3) and joints.numel() > 0
    require(fits, "joints", list(joints.shape), frames)
    require(joints.is_floating_point(), "joints", str(joints.dtype), "floating point")
    if not torch.isfinite(joints).all():
        raise ValueError("joints must be finite, but hold NaN or infinity.")


def _check_values(features: Tensor) -> None:
    _check_width(features)
    if not torch.isfinite(features).all():
        raise ValueError("features must be finite, but hold NaN or infinity.")


def _check_heights(features: Tensor) -> None:
    low, high = ROOT_HEIGHTS
    height = features[..., HEIGHT].median().item()
    if not low <= height <= high:
        raise ValueError(
            f"features must have a root between {low:g} and {high:g} m, not {height:.3g} m: were they scaled by other "
            "statistics?"
        )


def _off_length(features: Tensor) -> float:
    """By how much half of the columns of rotations differ from length 1; NaN if all is padding."""
    rows = features.detach()[features.any(-1)]
    return (rows[:, ROTATIONS].unflatten(-1, (-1, 3)).norm(dim=-1) - 1).abs().median().item()


def _check_width(features: Tensor) -> None:
    fits = features.ndim >= 2 and features.shape[-1] == NUM_FEATURES and features.numel() > 0
    require(fits, "features", list(features.shape), f"[..., frames, {NUM_FEATURES}] with at least one frame")
    require(features.is_floating_point(), "features", str(features.dtype), "floating point")
