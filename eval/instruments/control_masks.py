"""What is given when motion control is measured: which joints, at which frames, as explicit boolean masks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ... import unknown_name
from ...pipelines.inputs import require
from ...pipelines.motion.skeleton import CONTROL_JOINTS, FEET, FRAMES_PER_SECOND, JOINTS

SHORTEST = 20  # frames
LONGEST = 196

DENSITIES = MappingProxyType({"1": 1, "2": 2, "5": 5, "25%": 0.25, "100%": 1.0})
"""How many frames are given: a whole number of them, or a share of the clip's own, rounded down. Papers average the
five; they write 49 and 196 for the last two, of 196 frames."""

COMBINATIONS = tuple(joints for count in range(1, 7) for joints in combinations(CONTROL_JOINTS, count))
"""The 63 sets of one to six control joints."""

ALL_JOINTS = tuple(range(len(JOINTS)))
WRISTS = (JOINTS.index("left_wrist"), JOINTS.index("right_wrist"))
TOES = tuple(toes for _, toes in FEET.values())

KEY_FRAME_EVERY = 18  # frames: 25 of Motius' 30 a second
KEY_FRAMES_APART = 8  # frames, at least: 12 of 30 a second
MOST_KEY_FRAMES = 12

Frames = Callable[[int, np.random.Generator], Sequence[int]]
"""The frames that are given of a clip with so many."""


@dataclass(frozen=True)
class ControlCondition:
    """A way to control motion.

    Attributes:
        name: such as "pelvis at 25%".
        frames: draws the frames that are given.
        joint_sets: one of these sets of joints is given at those frames, drawn where there are several.
    """

    name: str
    frames: Frames
    joint_sets: tuple[tuple[int, ...], ...]

    def masks(
        self, lengths: Sequence[int], clips: Sequence[int], frames: int = LONGEST, seed: int = 0
    ) -> Bool[Tensor, "batch frames 22"]:
        """Masks of clips, True where a joint is given.

        What is drawn depends on the seed and the number of the clip alone, so that it is the same in any batch. All
        conditions of one density give the same frames of a clip, which makes them comparable joint by joint.

        Args:
            lengths: frames of each clip, from 20 to `frames`.
            clips: numbers of the clips in their data set, at least 0.
            frames: to which clips are padded; a padded frame is never given.
            seed: of the draws.

        Raises:
            ValueError: a length or a number out of range, or not as many of one as of the other.
        """
        require(len(lengths) == len(clips) > 0, "clips", list(clips), f"as many as the {len(lengths)} lengths")
        masks = torch.zeros(len(lengths), frames, len(JOINTS), dtype=torch.bool)
        for mask, length, clip in zip(masks, lengths, clips, strict=True):
            require(SHORTEST <= length <= frames, "a length", int(length), f"from {SHORTEST} to {frames} frames")
            require(clip >= 0, "the number of a clip", int(clip), "at least 0")
            rng = np.random.default_rng([seed, int(clip)])
            given = self.frames(int(length), rng)
            joints = self.joint_sets[rng.integers(len(self.joint_sets))]
            mask[torch.tensor(given)[:, None], torch.tensor(joints)] = True
        return masks


def joint_condition(joint: int, density: str) -> ControlCondition:
    """One joint at random frames (OmniControl, arXiv 2310.08580; ControlMM, arXiv 2410.10780).

    Args:
        joint: its number.
        density: a key of `DENSITIES`.

    Raises:
        ValueError: an unknown density or joint.
    """
    require(0 <= joint < len(JOINTS), "joint", joint, f"from 0 to {len(JOINTS) - 1}")
    return ControlCondition(f"{JOINTS[joint]} at {density}", _random_frames(density), ((joint,),))


def cross_condition(density: str) -> ControlCondition:
    """One of the 63 sets of control joints for each clip, at random frames; all joints of the set at the same ones.

    Published code draws one set for each batch of 32; here each clip has its own, whatever the batch.

    Raises:
        ValueError: an unknown density.
    """
    return ControlCondition(f"any joints at {density}", _random_frames(density), COMBINATIONS)


def _random_frames(density: str) -> Frames:
    if density not in DENSITIES:
        raise unknown_name("density", density, DENSITIES)
    amount = DENSITIES[density]

    def draw(length: int, rng: np.random.Generator) -> Sequence[int]:
        count = amount if isinstance(amount, int) else int(amount * length)
        return sorted(rng.choice(length, count, replace=False).tolist())

    return draw


def _key_frames(length: int, rng: np.random.Generator) -> Sequence[int]:
    """The first, the last and random ones between, about 1.1 a second and none closer than 0.4 s to another."""
    between = min(math.ceil(length / KEY_FRAME_EVERY) + 1, MOST_KEY_FRAMES) - 2
    slack = length - 1 - (between + 1) * KEY_FRAMES_APART
    drawn = sorted(rng.choice(slack + between, between, replace=False).tolist())
    return [0, *(KEY_FRAMES_APART * (i + 1) + place - i for i, place in enumerate(drawn)), length - 1]


def _each_second(length: int, rng: np.random.Generator) -> Sequence[int]:
    return range(0, length, FRAMES_PER_SECOND)


def _each_frame(length: int, rng: np.random.Generator) -> Sequence[int]:
    return range(length)


MOTIUS_CONDITIONS = (
    ControlCondition("first frame", lambda length, rng: [0], (ALL_JOINTS,)),
    ControlCondition("first 20%", lambda length, rng: range(length // 5), (ALL_JOINTS,)),
    ControlCondition("first and last frame", lambda length, rng: [0, length - 1], (ALL_JOINTS,)),
    ControlCondition("key frames", _key_frames, (ALL_JOINTS,)),
    ControlCondition("wrists sparse", _each_second, (WRISTS,)),
    ControlCondition("wrists dense", _each_frame, (WRISTS,)),
    ControlCondition("feet sparse", _each_second, (TOES,)),
    ControlCondition("feet dense", _each_frame, (TOES,)),
)
"""The conditions of Motius' boards (github.com/ZeyuLing/Motius at 50cf750), at 20 frames a second where it has 30.

Sparse is one frame a second, from the first on. Motius stores the key frames of each clip, by a rule that it does not
publish; these are about as many and as far apart, but random. A model that takes fewer joints gets those it takes.
"""
