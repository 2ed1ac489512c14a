"""GenEval's rules held against people: raters' answers as detections, raters' own verdicts as truth.

Five people looked at each picture of GenEval's label files: they counted the objects, named their colours and places,
and at last said how well the picture fits its caption, from 1 to 4, where 4 is "fully captures the meaning of the
caption".  Answers made into detections let the rules be judged without any detector.

Source: annotations/*.csv and annotations/mturk_hit_template.html of djghosh13/geneval at af4902f.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from ...pipelines.outputs import Detections
from ...training.datasets.pocketworld.descriptions import Description
from ..intervals import bootstrap_interval
from .rules import judge_picture

FULL_FIT = 4
_COLUMNS = ("Input.index", "Input.prompt_id", "Input.caption", "Input.object_0_name", "Input.object_1_name")
_ANSWERS = ("count-0", "count-1", "color-0", "color-1", "position-x", "position-y", "quality")
_SHIFTS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
_SIDE, _STEP = 10.0, 100.0  # of a pseudo-detection's box, and between boxes that stand in a relation


@dataclass(frozen=True)
class Rating:
    """One person's answers about one picture.

    Attributes:
        picture: such as "220_2": prompt and image.
        metadata: GenEval's record of the prompt.
        names: of the one or two classes that were asked for.
        counts: objects seen of each; 5 stands for 5 or more.
        colors: that the objects of each class have, as a set.
        place: where the second object stands from the first, out of left, right, above, below.
        fits: whether the picture fully captures the caption.
    """

    picture: str
    metadata: Mapping[str, Any]
    names: tuple[str, ...]
    counts: tuple[int, ...]
    colors: tuple[tuple[str, ...], ...]
    place: frozenset[str]
    fits: bool


@dataclass(frozen=True)
class HumanAgreement:
    """How often the rules say what people say.

    Attributes:
        ratings: share of ratings in which the rules, on the rater's answers, give the rater's own verdict.
        interval: 95 % interval of `ratings`, by a bootstrap over pictures; None for a single picture.
        pictures: share of pictures in which the majorities of both agree.
        raters: share of pairs of raters of one picture with the same verdict: what an agreement can reach.
        by_tag: `ratings` of every tag.
        n_ratings, n_pictures: counts.
    """

    ratings: float
    interval: tuple[float, float] | None
    pictures: float
    raters: float
    by_tag: dict[str, float]
    n_ratings: int
    n_pictures: int


def human_agreement(ratings: Sequence[Rating]) -> HumanAgreement:
    """Judge every rating by the rules and compare.

    Raises:
        ValueError: for no ratings.
    """
    if not ratings:
        raise ValueError("ratings is empty; read them from a label file first.")
    judged = [(rating, rating_verdict(rating)) for rating in ratings]
    same_by_tag, by_picture = defaultdict(list), defaultdict(list)
    for rating, correct in judged:
        same_by_tag[rating.metadata["tag"]].append(correct == rating.fits)
        by_picture[rating.picture].append((correct, rating.fits))
    pairs = [one == other for votes in by_picture.values() for (_, one), (_, other) in combinations(votes, 2)]
    return HumanAgreement(
        ratings=mean(correct == rating.fits for rating, correct in judged),
        interval=_interval([[correct == fits for correct, fits in votes] for votes in by_picture.values()]),
        pictures=mean(_majority(votes, 0) == _majority(votes, 1) for votes in by_picture.values()),
        raters=mean(pairs) if pairs else 1.0,
        by_tag={tag: mean(same) for tag, same in same_by_tag.items()},
        n_ratings=len(ratings),
        n_pictures=len(by_picture),
    )


def rating_verdict(rating: Rating) -> bool:
    """What the rules say of a rater's answers.

    An object can have several colours for a person but one for a detector: the picture is correct when it is with
    one of the readings.
    """
    return any(judge_picture(rating.metadata, detections).correct for detections in pseudo_detections(rating))


def pseudo_detections(rating: Rating) -> Iterator[Detections]:
    """A rater's answers as a sure detector would give them, once for every choice of one colour a class.

    All objects of the first class lie in one place, those of the second a step away where they are said to be, on
    top of them where no relation was given.
    """
    right, down = (sum(_SHIFTS[side][axis] for side in rating.place) for axis in (0, 1))
    places = [(0.0, 0.0), (right * _STEP, down * _STEP)]
    boxes, labels = [], []
    for name, count, (x, y) in zip(rating.names, rating.counts, places, strict=False):
        labels += [name] * count
        boxes += [(x, y, x + _SIDE, y + _SIDE)] * count
    for chosen in product(*(colors or (None,) for colors in rating.colors)):
        colors = [color for color, count in zip(chosen, rating.counts, strict=True) for _ in range(count)]
        yield Detections(labels, (1.0,) * len(labels), boxes, None, colors)


def read_prompts(path: str | Path) -> list[dict[str, Any]]:
    """The records of GenEval's evaluation_metadata.jsonl, in order.

    Raises:
        ValueError: a line is no JSON.
    """
    try:
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise ValueError(f"{path} is truncated or no file of JSON lines.") from None


def read_ratings(path: str | Path, prompts: Sequence[Mapping[str, Any]]) -> list[Rating]:
    """Read one of GenEval's label files.

    Args:
        path: annotations_clip.csv, annotations_if-xl.csv or annotations_sdv2.csv.
        prompts: the records of evaluation_metadata.jsonl, in order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a caption is not its prompt's, or an answer is none of the form's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; it comes with djghosh13/geneval, folder annotations.")
    with path.open(newline="", encoding="utf-8") as file:  # cells hold bare carriage returns
        reader = csv.DictReader(file)
        missing = {*_COLUMNS, *(f"Answer.task-{name}" for name in _ANSWERS)} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path.name} has no column {', '.join(sorted(missing))}.")
        return [_rating(row, prompts, f"row {number} of {path.name}") for number, row in enumerate(reader, 1)]


def _rating(row: Mapping[str, str], prompts: Sequence[Mapping[str, Any]], place: str) -> Rating:
    answers = {name: row[f"Answer.task-{name}"] for name in _ANSWERS}
    try:
        metadata = prompts[int(row["Input.prompt_id"])]
        count_0, count_1 = (int(float(answers[name] or 0)) for name in ("count-0", "count-1"))
        quality = int(answers["quality"])
    except (ValueError, IndexError):
        raise ValueError(f"{place} has a prompt or an answer that the form does not know.") from None
    if metadata["prompt"] != row["Input.caption"]:
        raise ValueError(f"{place} is about {row['Input.caption']!r}, but its prompt is {metadata['prompt']!r}.")
    names = tuple(filter(None, (row["Input.object_0_name"], row["Input.object_1_name"])))
    if set(names) != {clause.cls for clause in Description.from_metadata(metadata).include}:
        raise ValueError(f"{place} asks about {', '.join(names)}, which is not what its prompt names.")
    colors = tuple(tuple(filter(None, answers[f"color-{index}"].split("|"))) for index in range(len(names)))
    sides = frozenset((answers["position-x"], answers["position-y"])) & _SHIFTS.keys()
    return Rating(
        row["Input.index"], metadata, names, (count_0, count_1)[: len(names)], colors, sides, quality == FULL_FIT
    )


def _majority(votes: Sequence[tuple[bool, bool]], side: int) -> bool:
    return sum(vote[side] for vote in votes) * 2 > len(votes)


def _interval(agreed: Sequence[Sequence[bool]]) -> tuple[float, float] | None:
    if len(agreed) < 2:
        return None
    counts = np.array([(sum(votes), len(votes)) for votes in agreed])

    def share(drawn: np.ndarray) -> float:
        same, all_of = counts[drawn.astype(int)].sum(axis=0)
        return same / all_of

    return bootstrap_interval(range(len(counts)), statistic=share)
