"""Captioned motions in memory, as HumanML3D describes them, and the pieces of them that networks are shown."""

from collections.abc import Iterable, Iterator, Mapping
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
    """Pieces of clips, padded to one length.

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
    """Clips with their captions, one after the other in one tensor.

    Attributes:
        frames: features of every frame of every clip, not normalised [frames, 263].
        lengths: frames of each clip [clips].
        captions: of each clip, at least one.
    """

    frames: Float[Tensor, "frames 263"]
    lengths: Int[Tensor, " clips"]
    captions: list[tuple[str, ...]]

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """Of records with "features" [frames, 263] or "joints" [frames, 22, 3], and "captions" or one "caption".

        At most 196 frames of a clip are kept.

        Raises:
            ValueError: there is none.
        """
        pieces, captions = [], []
        for record in records:
            own = record.get("features")
            own = features_of(torch.as_tensor(record["joints"])) if own is None else torch.as_tensor(own)
            pieces.append(own[:LONGEST].float())
            captions.append(tuple(record.get("captions") or (record["caption"],)))
        require(len(pieces) > 0, "clips", 0, "at least one")
        return cls(torch.cat(pieces), torch.tensor([len(piece) for piece in pieces]), captions)

    def __len__(self) -> int:
        return len(self.lengths)

    def at_least(self, frames: int) -> Int[Tensor, " some"]:
        """Numbers of the clips that have so many frames.

        Raises:
            ValueError: there is none.
        """
        longest = int(self.lengths.max())
        require(frames <= longest, "frames", frames, f"at most {longest}, those of the longest clip")
        return (self.lengths >= frames).nonzero()[:, 0]

    def windows(
        self, batch: Int[Tensor, " batch"], frames: int, generator: torch.Generator
    ) -> Float[Tensor, "batch frames 263"]:
        """A piece of `frames` frames of each clip, from anywhere in it."""
        starts = _starts(self.lengths[batch] - frames, generator)
        return self._pieces(batch, starts, frames)

    def crops(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> Crops:
        """A piece of each clip, from anywhere in it, whose length is whole tokens.

        One time in three it lacks another token (arXiv 2312.00063's code), and it never has none.
        """
        whole = self.lengths[batch] // FRAMES_PER_TOKEN
        shorter = torch.rand(len(batch), generator=generator) < 1 / 3
        tokens = (whole - shorter.long()).clamp(min=1)
        starts = _starts(self.lengths[batch] - tokens * FRAMES_PER_TOKEN, generator)
        most = int(tokens.max())
        taken = self._pieces(batch, starts, most * FRAMES_PER_TOKEN)
        inside = torch.arange(most * FRAMES_PER_TOKEN) < tokens[:, None] * FRAMES_PER_TOKEN
        return Crops(taken * inside[..., None], torch.arange(most) >= tokens[:, None], tokens)

    def _pieces(self, batch: Tensor, starts: Tensor, frames: int) -> Float[Tensor, "batch frames 263"]:
        firsts = (self.lengths.cumsum(0) - self.lengths)[batch] + starts
        rows = firsts[:, None] + torch.arange(frames)
        return self.frames[rows.clamp(max=len(self.frames) - 1)]

    def every_caption(self) -> Iterator[str]:
        """All captions of all clips."""
        return (text for texts in self.captions for text in texts)

    def texts(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> list[str]:
        """One of the captions of each clip."""
        drawn = torch.rand(len(batch), generator=generator).tolist()
        own = (self.captions[clip] for clip in batch.tolist())
        return [texts[int(part * len(texts))] for texts, part in zip(own, drawn, strict=True)]


def _starts(room: Int[Tensor, " batch"], generator: torch.Generator) -> Int[Tensor, " batch"]:
    """A first frame for each piece, 0 to `room`."""
    return (torch.rand(len(room), generator=generator) * (room + 1)).long()
