"""What an export keeps of SnapGen's pictures: those of its bundles, named by the judge beside the original's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ....pipelines.pipeline_snapgen import SnapGenPipeline
from ....training.datasets.pocketworld.scene import SEEN_PAIRS
from ...exported import ExportedTask, Score, measure_bundles
from ...instruments.clip import ImageTextEncoder
from ...intervals import wilson_interval
from ...results import Row
from ...scores.naming import PairNamer, count_right
from .drawing import NANO, draw_pairs


class ExportSettings(Protocol):
    """What the measurement reads of the benchmark's settings.

    Attributes:
        checkpoints: folder with snapgen-nano and clip-nano-judge.
        back_ends: whose bundles draw, of `exported.RUNTIMES`.
        exported_pictures_a_pair: drawn of each (color, shape) pair seen in training, with the seeds 0, 1, 2...
    """

    checkpoints: Path
    back_ends: tuple[str, ...]
    exported_pictures_a_pair: int


def measure_exported(settings: ExportSettings, output: Path) -> Iterator[Row]:
    """How often the judge names what bundles draw, and the bytes of their networks."""
    judge = PairNamer(ImageTextEncoder.from_folder(settings.checkpoints / "clip-nano-judge"))
    task = ExportedTask(
        "seen-pairs", NANO,
        "the nano model draws the colour and shape asked for, as the judge names them among all fifty, pairs seen in "
        "training.",
        lambda pipeline: named_right(judge, pipeline, settings.exported_pictures_a_pair),
    )  # fmt: skip
    return measure_bundles("snapgen", [task], settings.checkpoints, settings.back_ends)


def named_right(judge: PairNamer, pipeline: SnapGenPipeline, count: int) -> Score:
    """Share of pictures that are named as asked, `count` of each seen pair."""
    drawn = draw_pairs(pipeline, SEEN_PAIRS, count)
    right, pictures = count_right(judge.name(drawn.flatten(0, 1)), list(SEEN_PAIRS) * count)
    return Score(right / pictures, wilson_interval(right, pictures), pictures)
