"""How much is measured of SnapGen."""

from dataclasses import dataclass
from pathlib import Path

from ...benchmark import CHECKPOINTS
from ...exported import RUNTIMES
from .contenders import LATENT_SIZE, PIXELS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with snapgen-nano, clip-nano-judge and ascan-nano-judge.
        picture_size: side of PocketWorld's pictures in pixels.
        pictures_a_pair: drawn of each of the fifty (color, shape) pairs, with the seeds 0, 1, 2...
        true_pictures: of PocketWorld that are named beside them.
        reconstructions: test pictures that the autoencoder repeats.
        repeats: timed calls of each contender.
        threads: of each contender.
        latent_size: side of the latents that the UNets get.
        pixels: sides of the pictures that are decoded.
        back_ends: whose bundles draw.
        exported_pictures_a_pair: drawn of each pair seen in training, by the model and by each of its bundles.
        geneval_images: pictures of each of PocketWorld's prompts at most; None takes as many as their list asks for,
            about 200 a tag.
        geneval_truth: pictures of PocketWorld that the same detector sees beside them.
    """

    checkpoints: Path = CHECKPOINTS
    picture_size: int = 64
    pictures_a_pair: int = 10
    true_pictures: int = 400
    reconstructions: int = 500
    repeats: int = 5
    threads: int = 2
    latent_size: int = LATENT_SIZE
    pixels: tuple[int, ...] = PIXELS
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
    exported_pictures_a_pair: int = 3
    geneval_images: int | None = None
    geneval_truth: int = 1200
