"""What the project claims of AsCAN, measured: sizes and speed at full size, what nano models see, judge and draw."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from .... import _CHECKPOINTS as CHECKPOINTS
from ...benchmark import run_measurements
from ...exported import RUNTIMES
from ...results import Row
from .ablation import measure_ablation
from .contenders import PIXELS, Mode
from .costs import measure_operations, measure_parameters, measure_resolution, measure_throughput
from .exported import measure_exported
from .geneval import measure_generation, measure_geneval
from .recognition import measure_digits, measure_judge

COMMAND = "pocket eval ascan"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with ascan-nano, ascan-nano-judge, ascan-nano-digits and clip-nano-judge.
        judged_pictures: test pictures of PocketWorld in which the judge finds objects.
        true_pictures: of PocketWorld that GenEval scores with the judge.
        shuffles: times that their captions change places.
        chance_pictures: of them, each held against the captions of all the others.
        pictures_a_class: drawn of each of the fifty classes, with the seeds 0, 1, 2...
        back_ends: whose bundles do the tasks of the nano models.
        exported_judged_pictures: test pictures in which the judge and its bundles find objects.
        exported_pictures_a_class: drawn of each class, by the generator and by each of its bundles.
        world_size: side of PocketWorld's pictures in pixels.
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
    judged_pictures: int = 1000
    true_pictures: int = 1200
    shuffles: int = 10
    chance_pictures: int = 300
    pictures_a_class: int = 10
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
    exported_judged_pictures: int = 300
    exported_pictures_a_class: int = 4
    world_size: int = 64
    modes: tuple[Mode, ...] = get_args(Mode)
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


def run(only: Sequence[str] | None, output: Path, settings: Settings | None = None) -> list[Row]:
    """Measure and write the rows to `output`/ascan.json, each measurement's as soon as they are known.

    Rows that are there already and are not measured again stay, except after a whole run. Measurement `generation` also
    draws `output`/ascan.png, a picture of every class; others draw `output`/ascan-NAME.png.

    Args:
        only: measurements out of `MEASUREMENTS`; None or nothing takes all.
        output: folder; made if need be.
        settings: how much is measured.

    Returns:
        The rows that were measured.

    Raises:
        ValueError: an unknown measurement, or a damaged checkpoint or results file.
        FileNotFoundError: a checkpoint that is missing.
        OSError: results that cannot be written.
    """
    return run_measurements("ascan", MEASUREMENTS, only, output, settings or Settings())


MEASUREMENTS: dict[str, Callable[[Settings, Path], Iterator[Row]]] = {
    "throughput": measure_throughput,
    "resolution": measure_resolution,
    "parameters": measure_parameters,
    "operations": measure_operations,
    "digits": measure_digits,
    "judge": measure_judge,
    "geneval": measure_geneval,
    "generation": measure_generation,
    "exported": measure_exported,
    "ablation": measure_ablation,
}
"""What `only` may name, in the order of measurement: speeds first, before caches and threads of the others."""
