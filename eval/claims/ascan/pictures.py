"""What AsCAN's judge makes of pictures: PocketWorld's own, wrong captions, and what the generator draws."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from PIL import Image

from ....pipelines.outputs import Detections
from ....pipelines.pipeline_ascan import AsCANPipeline
from ....training.datasets.pocketworld.descriptions import colors
from ....training.datasets.pocketworld.records import Picture
from ....training.datasets.pocketworld.scene import ALL_PAIRS
from ...benchmark import Run, share
from ...drawing import draw_rounds, load_committed
from ...figures.pairs import draw_pair_sheet
from ...geneval.rules import judge_picture
from ...geneval.score_rows import counted, tag_rows
from ...geneval.world import chance_level, detect_records, own_metadata, score_found, shuffled, to_image
from ...instruments.features import clip_features
from ...instruments.judge import JUDGE, JudgeDetector
from ...results import Row
from ...scores.fid import fid
from ...scores.instance_f1 import SCORE, ground_truth
from ...scores.kid import kid
from ...scores.naming import Pair
from ...scores.retrieval import world_records
from .settings import Settings

NANO, FEATURES = "ascan-nano", "clip-nano-judge"
NOTHING: Pair = ("no", "object")


# --- the judge ------------------------------------------------------------------------------------------------


def measure_geneval(settings: Settings, run: Run) -> Iterator[Row]:
    """The judge as GenEval's detector on test pictures: with their own metadata, and with those of others."""
    detector = JudgeDetector(settings.checkpoints / JUDGE)
    records = list(islice(world_records("test", settings.picture_size), settings.true_pictures))
    metadata, found = list(map(own_metadata, records)), detect_records(records, detector)
    score = score_found(metadata, found, detector)
    claim = "With the judge, GenEval finds that PocketWorld's own pictures show what they show"
    yield run.row(
        "geneval-truth", f"{claim}.", measured=score.overall, target=0.97, interval=score.interval, **counted(score)
    )
    yield from tag_rows(run, "geneval-truth", f"{claim}, tag {{}}.", score)
    yield from _shuffled_rows(settings, run, records, metadata, found, detector)


def _shuffled_rows(
    settings: Settings,
    run: Run,
    records: Sequence[Picture],
    metadata: Sequence[dict[str, Any]],
    found: Sequence[Detections],
    detector: JudgeDetector,
) -> Iterator[Row]:
    few = settings.chance_pictures
    chance = chance_level(metadata[:few], list(map(ground_truth, records[:few])))
    scores = [score_found(shuffled(metadata, seed), found, detector) for seed in range(settings.shuffles)]
    measured = sum(score.overall for score in scores) / len(scores)
    yield run.row(
        "geneval-shuffled", "With the captions of other pictures, GenEval's score falls to chance.",
        measured=measured, better="lower", **counted(scores[0]),
        rival=f"chance: {few} pictures without error, each with the captions of all the others", rival_measured=chance,
    )  # fmt: skip
    yield run.row(
        "geneval-shuffled-distance",
        "With the captions of other pictures, GenEval's score lies within 0.03 of chance.",
        measured=abs(measured - chance), better="lower", target=0.03, **counted(scores[0]),
    )  # fmt: skip


# --- the generator --------------------------------------------------------------------------------------------


class Named(NamedTuple):
    """Pictures that show what was asked for: by GenEval's rule, and as their only object; and all pictures."""

    named: int
    alone: int
    pictures: int


def measure_generation(settings: Settings, run: Run) -> Iterator[Row]:
    """How often the judge finds the class that was asked for, and distances to real pictures of one object.

    Draws `output`/ascan.png, a picture of every class.
    """
    detector, count = JudgeDetector(settings.checkpoints / JUDGE), settings.pictures_a_class
    rounds = draw_classes(load_committed("ascan", settings.checkpoints / NANO), count)
    drawn = sum(rounds, [])
    found = detector(drawn)
    ours = count_named(found, ALL_PAIRS * count)
    draw_pair_sheet(run.picture_path(), rounds[0], list(map(best_pair, found[: len(ALL_PAIRS)])), framed=())

    real = list(islice(single_objects(settings.picture_size), 2 * len(drawn)))
    truth = count_named(detect_records(real[: len(drawn)], detector), list(map(shown_pair, real[: len(drawn)])))
    for name, claim, target in (
        ("named", "The judge finds the colour and shape of the class asked for (GenEval's rule for colors).", 0.95),
        ("alone", "The judge finds one object only, of the colour and shape of the class asked for.", None),
    ):
        right, of_truth = getattr(ours, name), getattr(truth, name)
        yield run.row(
            f"generation-{name}", claim, target=target, **share(right, ours.pictures),
            rival="the judge on PocketWorld's own pictures", rival_measured=of_truth / truth.pictures,
        )  # fmt: skip
    images = list(map(to_image, real))
    yield from _distance_rows(settings, run, drawn, images[: len(drawn)], images[len(drawn) :])


def draw_classes(pipeline: AsCANPipeline, count: int) -> list[list[Image.Image]]:
    """`count` rounds of pictures, one of each of the fifty classes; every picture of round i has seed i."""
    return draw_rounds(pipeline, list(map(" ".join, ALL_PAIRS)), count)


def _distance_rows(
    settings: Settings, run: Run, drawn: list[Image.Image], real: list[Image.Image], others: list[Image.Image]
) -> Iterator[Row]:
    """Distances of generated to real pictures; beside them those of other real pictures, which nothing can beat."""
    extractor = clip_features(settings.checkpoints / FEATURES)
    features = [extractor(pictures) for pictures in (drawn, real, others)]
    for name, measure in (("fid", fid), ("kid", kid)):
        ours, floor = (measure(one, features[1], extractor.name) for one in (features[0], features[2]))
        yield run.row(
            f"generation-{name}",
            f"Pictures of the fifty classes lie near real test pictures of one object: {ours.metric}.",
            measured=ours.value, unit=ours.metric, better="lower", n=ours.n, seed=0,
            rival="other real test pictures", rival_measured=floor.value,
        )  # fmt: skip


def count_named(found: Sequence[Detections], asked: Sequence[Pair]) -> Named:
    """Of pictures that should each show a (color, shape), how many do."""
    named = alone = 0
    for detections, pair in zip(found, asked, strict=True):
        named += judge_picture(colors(*pair).to_metadata(" ".join(pair)), detections).correct
        alone += only_pair(detections) == pair
    return Named(named, alone, len(asked))


def only_pair(found: Detections) -> Pair | None:
    """(color, shape) of the only object whose score is at least GenEval's threshold; None for none or several."""
    found = found.above(SCORE)
    return (found.colors[0], found.labels[0]) if len(found) == 1 else None


def best_pair(found: Detections) -> Pair:
    """(color, shape) of the object with the highest score; `NOTHING` where there is none above the threshold."""
    found = found.above(SCORE)
    best = max(range(len(found)), key=lambda index: found.scores[index], default=None)
    return NOTHING if best is None else (found.colors[best], found.labels[best])


def single_objects(size: int) -> Iterator[Picture]:
    """Test records that show one object, without end."""
    return (record for record in world_records("test", size) if len(record.scene.objects) == 1)


def shown_pair(record: Picture) -> Pair:
    """(color, shape) of a record's only object."""
    (thing,) = record.scene.objects
    return thing.color, thing.shape
