"""What an export keeps of SnapGen's pictures: those of its bundles, named by a CLIP beside the original's."""

from collections.abc import Iterator

from ....pipelines.pipeline_snapgen import SnapGenPipeline
from ....training.datasets.pocketworld.scene import SEEN_PAIRS
from ...benchmark import Run
from ...exported import ExportedTask, Score, measure_bundles
from ...results import Row
from ...scores.naming import PairNamer, count_right
from .pictures import NAMER, NANO, draw_pairs, load_namer
from .settings import Settings


def measure_exported(settings: Settings, run: Run) -> Iterator[Row]:
    """How often clip-nano-judge names what bundles draw as asked, and the bytes of their networks."""
    namer = load_namer(settings)
    task = ExportedTask(
        "seen-pairs", NANO,
        f"the nano model draws the colour and shape asked for, as {NAMER} names them among all fifty, pairs seen in "
        "training.",
        lambda pipeline: named_right(namer, pipeline, settings.exported_pictures_a_pair),
    )  # fmt: skip
    return measure_bundles(run, [task], settings.checkpoints, settings.back_ends)


def named_right(namer: PairNamer, pipeline: SnapGenPipeline, count: int) -> Score:
    """Share of pictures that are named as asked, `count` of each seen pair."""
    drawn = draw_pairs(pipeline, SEEN_PAIRS, count)
    return Score.of(*count_right(namer.name(drawn.flatten(0, 1)), list(SEEN_PAIRS) * count))
