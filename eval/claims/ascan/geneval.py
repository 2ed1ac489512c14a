"""GenEval with AsCAN's judge: on PocketWorld's own pictures, on captions that do not belong, on AsCAN's generator."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from ....pipelines.files import whole_file
from ....pipelines.outputs import Detections
from ....training.datasets.pocketworld.descriptions import TAGS, colors
from ....training.datasets.pocketworld.records import Picture
from ....training.datasets.pocketworld.scene import ALL_PAIRS
from ...benchmark import new_row
from ...figures.pairs import pair_sheet
from ...geneval.rules import judge_picture
from ...geneval.score import GenEvalScore
from ...geneval.world import chance_level, detect_records, own_metadata, score_found, shuffled, to_image
from ...instruments.features import FeatureExtractor, clip_features
from ...instruments.judge import JUDGE, JudgeDetector
from ...intervals import wilson_interval
from ...results import Row
from ...scores.fid import fid
from ...scores.instance_f1 import SCORE, ground_truth
from ...scores.kid import kid
from ...scores.naming import Pair
from ...scores.retrieval import world_records
from .drawing import draw_classes, load_nano

FEATURES = "clip-nano-judge"
NOTHING: Pair = ("no", "object")

row = partial(new_row, "ascan")


class GenEvalSettings(Protocol):
    """What the measurements read of the benchmark's settings.

    Attributes:
        checkpoints: folder with ascan-nano, ascan-nano-judge and clip-nano-judge.
        true_pictures: of PocketWorld's test split, with their own metadata.
        shuffles: times that the metadata change places.
        chance_pictures: of those pictures, each held against the metadata of every other one.
        pictures_a_class: drawn of each of the fifty classes, with the seeds 0, 1, 2...
        world_size: side of PocketWorld's pictures in pixels.
    """

    checkpoints: Path
    true_pictures: int
    shuffles: int
    chance_pictures: int
    pictures_a_class: int
    world_size: int


# --- the judge ------------------------------------------------------------------------------------------------


def measure_geneval(settings: GenEvalSettings, output: Path) -> Iterator[Row]:
    """The judge as GenEval's detector on test pictures: with their own metadata, and with those of others."""
    detector = JudgeDetector(settings.checkpoints / JUDGE)
    records = list(islice(world_records("test", settings.world_size), settings.true_pictures))
    metadata, found = list(map(own_metadata, records)), detect_records(records, detector)
    score = score_found(metadata, found, detector)
    yield row(
        "geneval", "geneval-truth",
        "With the judge, GenEval finds that PocketWorld's own pictures show what they show.",
        measured=score.overall, target=0.97, interval=score.interval, **_counted(score),
    )  # fmt: skip
    for tag in (tag for tag in TAGS if tag in score.tags):
        of_tag = score.tags[tag]
        claim = f"With the judge, GenEval finds that PocketWorld's own pictures show what they show, tag {tag}."
        yield row(
            "geneval", f"geneval-truth-{tag.replace('_', '-')}", claim, measured=of_tag.score,
            interval=of_tag.interval, **{**_counted(score), "n": of_tag.pictures},
        )  # fmt: skip
    yield from _shuffled_rows(settings, records, metadata, found, detector)


def _shuffled_rows(
    settings: GenEvalSettings,
    records: Sequence[Picture],
    metadata: Sequence[dict[str, Any]],
    found: Sequence[Detections],
    detector: JudgeDetector,
) -> Iterator[Row]:
    few = settings.chance_pictures
    chance = chance_level(metadata[:few], list(map(ground_truth, records[:few])))
    scores = [score_found(shuffled(metadata, seed), found, detector) for seed in range(settings.shuffles)]
    measured = sum(score.overall for score in scores) / len(scores)
    yield row(
        "geneval", "geneval-shuffled", "With the captions of other pictures, GenEval's score falls to chance.",
        measured=measured, better="lower", **_counted(scores[0]),
        rival=f"chance: {few} pictures without error, each with the captions of all the others", rival_measured=chance,
    )  # fmt: skip
    yield row(
        "geneval", "geneval-shuffled-distance",
        "With the captions of other pictures, GenEval's score lies within 0.03 of chance.",
        measured=abs(measured - chance), better="lower", target=0.03, **_counted(scores[0]),
    )  # fmt: skip


def _counted(score: GenEvalScore) -> dict[str, Any]:
    return {"unit": "share", "n": score.scored, "seed": score.seed}


# --- the generator --------------------------------------------------------------------------------------------


class Named(NamedTuple):
    """Pictures that show what was asked for: by GenEval's rule, and as their only object; and all pictures."""

    named: int
    alone: int
    pictures: int


def measure_generation(settings: GenEvalSettings, output: Path) -> Iterator[Row]:
    """How often the judge finds the class that was asked for, and distances to real pictures of one object.

    Draws `output`/ascan.png, a picture of every class.
    """
    detector, count = JudgeDetector(settings.checkpoints / JUDGE), settings.pictures_a_class
    rounds = list(draw_classes(load_nano(settings), ALL_PAIRS, count))
    drawn = [picture for pictures in rounds for picture in pictures]
    found = detector(drawn)
    ours = count_named(found, ALL_PAIRS * count)
    _save_sheet(output, rounds[0], list(map(best_pair, found[: len(ALL_PAIRS)])))

    real = list(islice(single_objects(settings.world_size), 2 * len(drawn)))
    truth = count_named(detect_records(real[: len(drawn)], detector), list(map(shown_pair, real[: len(drawn)])))
    for name, claim, target in (
        ("named", "The judge finds the colour and shape of the class asked for (GenEval's rule for colors).", 0.95),
        ("alone", "The judge finds one object only, of the colour and shape of the class asked for.", None),
    ):
        right, of_truth = getattr(ours, name), getattr(truth, name)
        yield row(
            "generation", f"generation-{name}", claim, measured=right / ours.pictures, unit="share", target=target,
            interval=wilson_interval(right, ours.pictures), n=ours.pictures, seed=0,
            rival="the judge on PocketWorld's own pictures", rival_measured=of_truth / truth.pictures,
        )  # fmt: skip
    images = list(map(to_image, real))
    yield from _distance_rows(settings, drawn, images[: len(drawn)], images[len(drawn) :])


def _save_sheet(output: Path, pictures: Sequence[Image.Image], named: Sequence[Pair]) -> None:
    pixels = (torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255 for picture in pictures)
    sheet = pair_sheet(dict(zip(ALL_PAIRS, pixels, strict=True)), dict(zip(ALL_PAIRS, named, strict=True)), framed=())
    with whole_file(output / "ascan.png") as draft:
        sheet.save(draft, format="PNG")


def _distance_rows(
    settings: GenEvalSettings, drawn: list[Image.Image], real: list[Image.Image], others: list[Image.Image]
) -> Iterator[Row]:
    """Distances of generated to real pictures; beside them those of other real pictures, which nothing can beat."""
    extractor: FeatureExtractor = clip_features(settings.checkpoints / FEATURES)
    features = [extractor(pictures) for pictures in (drawn, real, others)]
    for name, measure in (("fid", fid), ("kid", kid)):
        ours, floor = (measure(one, features[1], extractor.name) for one in (features[0], features[2]))
        yield row(
            "generation", f"generation-{name}",
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
