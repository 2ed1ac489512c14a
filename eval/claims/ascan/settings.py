"""How much is measured of AsCAN."""

from dataclasses import dataclass
from pathlib import Path

from ...benchmark import CHECKPOINTS
from ...exported import RUNTIMES
from ...timing.network_work import WORDS, Mode
from .contenders import PIXELS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with ascan-nano, ascan-nano-judge, ascan-nano-digits and clip-nano-judge.
        picture_size: side of PocketWorld's pictures in pixels.
        judged_pictures: test pictures of PocketWorld in which the judge finds objects.
        true_pictures: of PocketWorld that GenEval scores with the judge.
        shuffles: times that their captions change places.
        chance_pictures: of them, each held against the captions of all the others.
        pictures_a_class: drawn of each of the fifty classes, with the seeds 0, 1, 2...
        back_ends: whose bundles do the tasks of the nano models.
        exported_judged_pictures: test pictures in which the judge and its bundles find objects.
        exported_pictures_a_class: drawn of each class, by the generator and by each of its bundles.
        modes: how classifiers run: eager, compiled, onnx.
        batches: pictures that are classified at once.
        pixels: side of those pictures.
        resolutions: sides of the pictures whose cost is compared.
        repeats: timed calls of each contender.
        threads: of each contender.
        ablation_steps: training steps after which a design's accuracy is taken, rising.
        ablation_seeds: runs of each design.
        ablation_pictures, ablation_test_pictures: of one object, to learn from and to be measured on.
        ablation_batch: pictures of a step.
    """

    checkpoints: Path = CHECKPOINTS
    picture_size: int = 64
    judged_pictures: int = 1000
    true_pictures: int = 1200
    shuffles: int = 10
    chance_pictures: int = 300
    pictures_a_class: int = 10
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
    exported_judged_pictures: int = 300
    exported_pictures_a_class: int = 4
    modes: tuple[Mode, ...] = tuple(WORDS)
    batches: tuple[int, ...] = (1, 16, 64)
    pixels: int = PIXELS
    resolutions: tuple[int, ...] = (128, 192, 256, 384, 512)
    repeats: int = 5
    threads: int = 2
    ablation_steps: tuple[int, ...] = (150, 300, 600)
    ablation_seeds: int = 3
    ablation_pictures: int = 4000
    ablation_test_pictures: int = 2000
    ablation_batch: int = 64
