"""Motions that are measured: those of the motion world's test split, and what a pipeline makes of its captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ....pipelines.motion.motion_controls import MotionControls
from ....pipelines.motion.motion_features import joints_of_features
from ....pipelines.pipeline_controlmm import ControlMMPipeline
from ....training.datasets.motion_clips import FRAMES_PER_TOKEN, MotionClips
from ....training.datasets.motionworld import load_motionworld

SPLIT = "test"


@dataclass(frozen=True)
class Motions:
    """Clips of different lengths.

    Attributes:
        features: of each, not normalised [frames, 263].
        joints: of each, in metres [frames, 22, 3].
    """

    features: list[Float[Tensor, "frames 263"]]
    joints: list[Float[Tensor, "frames 22 3"]]

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, some: slice) -> Self:
        return type(self)(self.features[some], self.joints[some])

    @property
    def lengths(self) -> list[int]:
        """Frames of each clip."""
        return [len(one) for one in self.joints]

    @cached_property
    def padded_joints(self) -> Float[Tensor, "clips frames 22 3"]:
        """Joints with 0 behind the end of the shorter clips."""
        return pad_sequence(self.joints, batch_first=True)

    @cached_property
    def padded_features(self) -> Float[Tensor, "clips frames 263"]:
        """Features with 0 behind the end of the shorter clips."""
        return pad_sequence(self.features, batch_first=True)


@dataclass(frozen=True)
class CaptionedClips:
    """True motions, and what each is called."""

    motions: Motions
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, some: slice) -> Self:
        return type(self)(self.motions[some], self.captions[some])


def world_clips(count: int) -> CaptionedClips:
    """The first clips of the motion world's test split, each without the frames that fill no token."""
    clips = MotionClips.of(load_motionworld(SPLIT, count, 0))
    features = [
        own[: len(own) // FRAMES_PER_TOKEN * FRAMES_PER_TOKEN] for own in clips.frames.split(clips.lengths.tolist())
    ]
    return CaptionedClips(Motions(features, [joints_of_features(own) for own in features]), list(clips.every_caption()))


def make_motions(
    pipeline: ControlMMPipeline,
    clips: CaptionedClips,
    batch: int,
    controls: Sequence[MotionControls] | None = None,
    seed: int = 0,
    **options: Any,
) -> Motions:
    """A motion of each clip's caption, as long as the clip.

    Args:
        pipeline: that makes them.
        clips: whose captions and lengths are asked for.
        batch: clips at once, which no clip depends on.
        controls: of each clip; None leaves all free.
        seed: clip i gets the noise of seed + i, so the same under every control.
        options: of the call, such as `optimization`.
    """
    made: dict[int, tuple[Tensor, Tensor]] = {}
    by_length = sorted(range(len(clips)), key=clips.motions.lengths.__getitem__)  # so that little is padding
    for start in range(0, len(clips), batch):
        rows = by_length[start : start + batch]
        output = pipeline(
            [clips.captions[row] for row in rows], length=[clips.motions.lengths[row] for row in rows],
            controls=None if controls is None else [controls[row] for row in rows],
            generator=[torch.Generator().manual_seed(seed + row) for row in rows],
            output_type="pt", **options,
        )  # fmt: skip
        made |= zip(rows, zip(output.features, output.joints, strict=True), strict=True)
    features, joints = zip(*(made[row] for row in range(len(clips))), strict=True)
    return Motions(list(features), list(joints))
