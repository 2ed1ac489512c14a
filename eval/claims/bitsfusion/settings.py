"""How much is measured of BitsFusion."""

from dataclasses import dataclass
from pathlib import Path

from ...benchmark import CHECKPOINTS
from ...exported import RUNTIMES


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with both bitsfusion-nano, snapgen-nano, clip-nano-judge and ascan-nano-judge.
        picture_size: side of PocketWorld's pictures in pixels.
        shape: preset of `BitsFusionUNet2DConditionModel` whose costs are measured.
        latent_size: side of the latents that it gets.
        repeats: timed calls of each contender.
        threads: of each contender.
        probes: noisy latents of PocketWorld's test pictures on which the output of quantised UNets is compared.
        geneval_images: pictures of each of PocketWorld's prompts at most; None takes as many as their list asks for.
        ladder_steps: of each stage of training that a rung of the ladder takes.
        ladder_pictures: of PocketWorld's split `train` that the rungs learn from.
        ladder_images: pictures of each prompt at most by which a rung is rated.
        separable_bits: at which a UNet of separable convolutions is packed.
        back_ends: whose bundles draw.
        exported_pictures_a_pair: drawn of each pair seen in training, by the model and by each of its bundles.
    """

    checkpoints: Path = CHECKPOINTS
    picture_size: int = 64
    shape: str = "sd15"
    latent_size: int = 64
    repeats: int = 5
    threads: int = 2
    probes: int = 64
    geneval_images: int | None = None
    ladder_steps: int = 200
    ladder_pictures: int = 72_000
    ladder_images: int | None = 1
    separable_bits: tuple[int, ...] = (8, 6, 4, 3, 2)
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
    exported_pictures_a_pair: int = 3
