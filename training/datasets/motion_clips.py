"""Captioned motions in memory, as HumanML3D describes them, and the pieces of them that networks are shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...pipelines.inputs import require
from ...pipelines.motion.motion_features import features_of

FRAMES_PER_TOKEN = 4
LONGEST = 196


class Crops(NamedTuple):
    """Pieces of clips, each from its first frame on, padded to one length.

    Attributes:
        features: not normalised, 0 behind the end [batch, frames, 263].
        padding: True at tokens behind the end [batch, tokens].
        tokens: of each piece [batch].
    """

    features: Float[Tensor, "batch frames 263"]
    padding: Bool[Tensor, "batch tokens"]
    tokens: Int[Tensor, " batch"]


@dataclass(frozen=True)
class MotionClips:
    """Clips with their captions.

    Attributes:
        features: not normalised, 0 behind the end of a clip [clips, 196, 263].
        lengths: frames of each clip [clips].
        captions: of each clip, at least one.
    """

    features: Float[Tensor, "clips 196 263"]
    lengths: Int[Tensor, " clips"]
    captions: list[tuple[str, ...]]

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """Of records with "joints" [frames, 22, 3] or "features" [frames, 263], and "captions".

        Raises:
            ValueError: there is none.
        """
        features, lengths, captions = [], [], []
        for record in records:
            own = record.get("features")
            own = features_of(torch.as_tensor(record["joints"])) if own is None else torch.as_tensor(own)
            own = own[:LONGEST].float()
            lengths.append(len(own))
            features.append(torch.nn.functional.pad(own, (0, 0, 0, LONGEST - len(own))))
            captions.append(tuple(record["captions"]))
        require(len(features) > 0, "clips", 0, "at least one")
        return cls(torch.stack(features), torch.tensor(lengths), captions)

    def __len__(self) -> int:
        return len(self.lengths)

    def frames(self) -> Float[Tensor, "frames 263"]:
        """Every frame of every clip, one after the other."""
        return self.features[torch.arange(LONGEST) < self.lengths[:, None]]

    def at_least(self, frames: int) -> Int[Tensor, " some"]:
        """Numbers of the clips that have so many frames."""
        return (self.lengths >= frames).nonzero()[:, 0]

    def windows(
        self, batch: Int[Tensor, " batch"], frames: int, generator: torch.Generator
    ) -> Float[Tensor, "batch frames 263"]:
        """A piece of `frames` frames of each clip, from anywhere in it."""
        starts = _starts(self.lengths[batch] - frames, generator)
        return self.features[batch[:, None], starts[:, None] + torch.arange(frames)]

    def crops(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> Crops:
        """A piece of each clip whose length is whole tokens; one time in three it lacks another token (MoMask)."""
        whole = self.lengths[batch] // FRAMES_PER_TOKEN
        shorter = torch.rand(len(batch), generator=generator) < 1 / 3
        tokens = (whole - shorter.long()).clamp(min=1)
        starts = _starts(self.lengths[batch] - tokens * FRAMES_PER_TOKEN, generator)
        most = int(tokens.max())
        at = torch.arange(most * FRAMES_PER_TOKEN)
        taken = self.features[batch[:, None], (starts[:, None] + at).clamp(max=LONGEST - 1)]
        inside = at < tokens[:, None] * FRAMES_PER_TOKEN
        return Crops(taken * inside[..., None], torch.arange(most) >= tokens[:, None], tokens)

    def texts(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> list[str]:
        """One of the captions of each clip."""
        drawn = torch.rand(len(batch), generator=generator).tolist()
        own = (self.captions[clip] for clip in batch.tolist())
        return [texts[int(part * len(texts))] for texts, part in zip(own, drawn, strict=True)]


def _starts(room: Int[Tensor, " batch"], generator: torch.Generator) -> Int[Tensor, " batch"]:
    """A first frame for each piece, 0 to `room`."""
    return (torch.rand(len(room), generator=generator) * (room + 1)).long()
