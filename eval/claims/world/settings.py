"""How much is measured of the world."""

from dataclasses import dataclass
from pathlib import Path

from ...benchmark import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with clip-nano and clip-nano-judge.
        picture_size: side of PocketWorld's pictures in pixels.
        pictures, repeats: of each of the speed measurements.
        groups, group_size: of retrieval.
    """

    checkpoints: Path = CHECKPOINTS
    picture_size: int = 64
    pictures: int = 1024
    repeats: int = 5
    groups: int = 5
    group_size: int = 100
