"""How much is measured of BitsFusion."""

from dataclasses import dataclass
from pathlib import Path

from ...benchmark import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with bitsfusion-nano-full.
        picture_size: side of PocketWorld's pictures in pixels.
        shape: preset of `BitsFusionUNet2DConditionModel` whose costs are measured.
        latent_size: side of the latents that it gets.
        repeats: timed calls of each contender.
        threads: of each contender.
        probes: noisy latents of PocketWorld's test pictures on which the output of quantised UNets is compared.
    """

    checkpoints: Path = CHECKPOINTS
    picture_size: int = 64
    shape: str = "sd15"
    latent_size: int = 64
    repeats: int = 5
    threads: int = 2
    probes: int = 64
