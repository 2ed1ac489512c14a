"""What an export keeps of AsCAN: its bundles read digits, find objects and draw classes, beside the originals."""

from collections.abc import Iterator
from itertools import islice

from ....pipelines.pipeline_ascan import AsCANPipeline
from ....pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from ....pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from ....training.datasets.pocketworld.records import Picture
from ....training.datasets.pocketworld.scene import ALL_PAIRS
from ...benchmark import Run
from ...exported import ExportedTask, Score, measure_bundles
from ...instruments.judge import JUDGE, JudgeDetector
from ...results import Row
from ...scores.instance_f1 import InstanceCounts, count_all, ground_truth
from ...scores.retrieval import to_pictures, world_records
from .pictures import NANO, count_named, draw_classes
from .recognition import DIGITS, count_read, counts_interval
from .settings import Settings


def measure_exported(settings: Settings, run: Run) -> Iterator[Row]:
    """The task of each of the three nano models, done by its bundles, and the bytes of their networks."""
    records = list(islice(world_records("test", settings.picture_size), settings.exported_judged_pictures))
    judge = JudgeDetector(settings.checkpoints / JUDGE)
    tasks = [
        ExportedTask(
            "digits", DIGITS, "the nano classifier reads handwritten digits that it never saw in training.", read_digits
        ),
        ExportedTask(
            "judge-f1", JUDGE, "the judge finds every object with its mask in test pictures (instance F1).",
            lambda pipeline: find_objects(pipeline, records),
        ),
        ExportedTask(
            "named", NANO, "the nano generator draws the colour and shape asked for, as the judge names them.",
            lambda pipeline: draw_named(pipeline, judge, settings.exported_pictures_a_class),
        ),
    ]  # fmt: skip
    return measure_bundles(run, tasks, settings.checkpoints, settings.back_ends)


def read_digits(pipeline: AsCANImageClassificationPipeline) -> Score:
    """Share of held-out digits that are read."""
    return Score.of(*count_read(pipeline))


def find_objects(pipeline: AsCANDetectionPipeline, records: list[Picture]) -> Score:
    """Instance F1 on pictures of PocketWorld."""
    counts = count_all(pipeline.detect(to_pictures(records)), list(map(ground_truth, records)))
    return Score(sum(counts, InstanceCounts(0, 0, 0, 0)).f1, counts_interval(counts, "f1"), len(counts))


def draw_named(pipeline: AsCANPipeline, judge: JudgeDetector, count: int) -> Score:
    """Share of pictures in which the judge finds the class asked for, `count` of each class."""
    drawn = sum(draw_classes(pipeline, count), [])
    named = count_named(judge(drawn), ALL_PAIRS * count)
    return Score.of(named.named, named.pictures)
