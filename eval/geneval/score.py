"""GenEval: the share of pictures that show the objects, counts, colours and places their prompts ask for.

Stored detections go in, with or without a detector at hand; see `rules` for the verdict on one picture,
`replay` for the files, `detectors` and `colors` for what looks at pictures.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ...training.datasets.pocketworld.descriptions import TAGS, Description
from ...training.datasets.pocketworld.prompts import load_prompts
from ...training.datasets.pocketworld.scene import COLORS, SHAPES
from ...training.datasets.pocketworld.truth import MIN_COMPONENT, POSITION_THRESHOLD
from ..protocol import protocol_hash
from .classes import GENEVAL_CLASSES, GENEVAL_COLORS
from .replay import SeenPicture
from .rules import GenEvalSettings, Verdict, judge_picture

Compat = Literal["fixed", "official"]
RESAMPLES = 4000
CONFIDENCE = 0.95


class TagSize(NamedTuple):
    """How many prompts a tag has, and how many pictures are made of each."""

    prompts: int
    images: int


@dataclass(frozen=True)
class Protocol:
    """What a complete run consists of, and how it is judged.

    Attributes:
        name: of the metric when `detector` looks at the pictures.
        detector: name of the detector the protocol is defined with; another one becomes part of the metric's name.
        tags: the size of every tag.
        classes: names that prompts and detectors use.
        colors: names that prompts and colour readers use.
        settings: which detections are kept.
    """

    name: str
    detector: str
    tags: Mapping[str, TagSize]
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    settings: GenEvalSettings = GenEvalSettings()

    @property
    def pictures(self) -> int:
        """Pictures of a complete run."""
        return sum(size.prompts * size.images for size in self.tags.values())

    def metric(self, detector: str) -> str:
        """The metric's name with a detector: a substitute is another metric."""
        return self.name if detector == self.detector else f"{self.name}_{detector}"

    def to_dict(self) -> dict[str, Any]:
        """Every setting, ready for JSON."""
        return {
            "name": self.name,
            "tags": {tag: size._asdict() for tag, size in self.tags.items()},
            "classes": list(self.classes),
            "colors": list(self.colors),
            **asdict(self.settings),
            "position_threshold": POSITION_THRESHOLD,
            "min_component": MIN_COMPONENT,
        }


OFFICIAL = Protocol(
    name="geneval",
    detector="mmdet",  # mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco with ViT-L-14 of open_clip
    tags={
        "single_object": TagSize(80, 4),
        "two_object": TagSize(99, 4),
        "counting": TagSize(80, 4),
        "colors": TagSize(94, 4),
        "position": TagSize(100, 4),
        "color_attr": TagSize(100, 4),
    },
    classes=GENEVAL_CLASSES,
    colors=GENEVAL_COLORS,
)
"""The published protocol: 553 prompts over COCO's 80 classes, 4 pictures each."""


def pocketworld_protocol(
    prompts: Sequence[Mapping[str, Any]] | None = None, name: str = "geneval_pocketworld"
) -> Protocol:
    """The protocol of a list of PocketWorld prompts, the committed one by default.

    Args:
        prompts: records with `n_images`, the same for all prompts of a tag.
        name: must say which list it is, when it is not the committed one.

    Raises:
        ValueError: prompts of one tag ask for different numbers of images.
    """
    images, counts = {}, defaultdict(int)
    for record in load_prompts() if prompts is None else prompts:
        tag, wanted = record["tag"], record["n_images"]
        counts[tag] += 1
        if images.setdefault(tag, wanted) != wanted:
            raise ValueError(f"n_images of tag {tag} is {images[tag]} and {wanted}; it must be the same within a tag.")
    tags = {tag: TagSize(counts[tag], images[tag]) for tag in TAGS if tag in counts}
    return Protocol(name, "ascan-nano-judge", tags, SHAPES, tuple(COLORS))


@dataclass(frozen=True)
class TagScore:
    """Of one tag: the share of correct pictures, its interval (None for a single prompt), and the counts behind."""

    score: float
    interval: tuple[float, float] | None
    correct: int
    pictures: int
    prompts: int


@dataclass(frozen=True)
class GenEvalScore:
    """A GenEval score with what it means.

    Attributes:
        metric: name, with the detector's where it is a substitute.
        overall: unweighted mean of the tags' scores, in [0, 1].
        interval: 95 % interval of `overall` by a bootstrap over prompts within their tags; None where a tag has a
            single prompt.
        tags: score of each tag that was scored.
        images_correct: share of pictures that are correct.
        prompts_correct: share of prompts with at least one correct picture.
        compat: "fixed" or "official".
        protocol: settings, with `protocol_hash`.
        prompts_hash: sha256 of the prompts that were scored.
        detector, weights: what looked at the pictures.
        asked, scored, failed: pictures of a complete run, of this score, and those missing or unreadable.
        seed: of the bootstrap.
    """

    metric: str
    overall: float
    interval: tuple[float, float] | None
    tags: dict[str, TagScore]
    images_correct: float
    prompts_correct: float
    compat: Compat
    protocol: dict[str, Any]
    protocol_hash: str
    prompts_hash: str
    detector: str
    weights: str | None
    asked: int
    scored: int
    failed: int
    seed: int

    def to_record(self) -> dict[str, Any]:
        """The score as a JSON object, with `overall` as `value`."""
        record = asdict(self)
        return {"metric": record.pop("metric"), "value": record.pop("overall"), **record}


def score_pictures(
    pictures: Sequence[SeenPicture],
    protocol: Protocol = OFFICIAL,
    compat: Compat = "fixed",
    allow_failures: bool = False,
    seed: int = 0,
) -> GenEvalScore:
    """Score a run of one detector.

    Args:
        pictures: what the detector found in each picture; those of one prompt share their metadata.
        protocol: `OFFICIAL`, or that of `pocketworld_protocol`.
        compat: "official" is summary_scores.py at af4902f: the mean over the tags that happen to be present, of the
            pictures that happen to be there, and names that no class has are never found. "fixed" raises instead.
        allow_failures: with "fixed", score a run in which pictures are missing or could not be read, and count them.
        seed: of the bootstrap.

    Raises:
        ValueError: no pictures, several detectors, or with "fixed" an incomplete run or an unknown name.
    """
    if compat not in get_args(Compat):
        raise ValueError(f"compat must be one of {', '.join(get_args(Compat))}, not {compat!r}.")
    detector, weights = _one_detector(pictures)
    seen = [picture for picture in pictures if picture.detections is not None]
    if compat == "fixed":
        _check_names(pictures, protocol)
        _check_complete(pictures, protocol, allow_failures)
    if not seen:
        raise ValueError(f"none of the {len(pictures)} pictures could be read; there is nothing to score.")
    verdicts = verdicts_of(seen, protocol.settings)
    table = _table(seen, verdicts)
    intervals = _intervals(table, seed)
    tags = {tag: _tag_score(rows, intervals[tag]) for tag, rows in table.items()}
    settings = {**protocol.to_dict(), "compat": compat}
    correct = [verdict.correct for verdict in verdicts]
    return GenEvalScore(
        metric=protocol.metric(detector),
        overall=float(np.mean([tag.score for tag in tags.values()])),
        interval=intervals["overall"],
        tags=tags,
        images_correct=float(np.mean(correct)),
        prompts_correct=float(np.mean([row[0] > 0 for rows in table.values() for row in rows])),
        compat=compat,
        protocol=settings,
        protocol_hash=protocol_hash(settings),
        prompts_hash=protocol_hash({"prompts": sorted({picture.prompt_key for picture in pictures})}),
        detector=detector,
        weights=weights,
        asked=protocol.pictures,
        scored=len(seen),
        failed=max(protocol.pictures, len(pictures)) - len(seen),
        seed=seed,
    )


def verdicts_of(pictures: Sequence[SeenPicture], settings: GenEvalSettings | None = None) -> list[Verdict]:
    """The verdict on each picture that could be read, in order."""
    return [judge_picture(picture.metadata, picture.detections, settings) for picture in pictures]


def _one_detector(pictures: Sequence[SeenPicture]) -> tuple[str, str | None]:
    found = {(picture.detector, picture.weights) for picture in pictures}
    if len(found) != 1:
        listing = ", ".join(f"{name} ({weights})" for name, weights in sorted(found, key=str)) or "none"
        raise ValueError(f"a score is of one detector, but the pictures were seen by {listing}.")
    return found.pop()


def _check_names(pictures: Sequence[SeenPicture], protocol: Protocol) -> None:
    classes, colors = set(protocol.classes), {*protocol.colors, None}
    for picture in pictures:
        description = Description.from_metadata(picture.metadata)
        clauses = (*description.include, *description.exclude)
        _check_known({clause.cls for clause in clauses}, classes, "a prompt asks for", protocol)
        _check_known({clause.color for clause in clauses}, colors, "a prompt asks for", protocol)
        if picture.detections is not None:
            _check_known(set(picture.detections.labels), classes, "the detector says", protocol)
            _check_known(set(picture.detections.colors or ()), colors, "the detector says", protocol)


def _check_known(names: set[str | None], known: set[str | None], who: str, protocol: Protocol) -> None:
    unknown = sorted(str(name) for name in names - known)
    if unknown:
        raise ValueError(f"{who} {unknown[0]!r}, a name that {protocol.name} does not know.")


def _check_complete(pictures: Sequence[SeenPicture], protocol: Protocol, allow_failures: bool) -> None:
    prompts: dict[str, dict[str, list[SeenPicture]]] = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        prompts[picture.tag][picture.prompt_key].append(picture)
    problems = [f"{len(prompts[tag])} prompts of unknown tag {tag}" for tag in prompts if tag not in protocol.tags]
    missing = 0
    for tag, size in protocol.tags.items():
        of_tag = prompts.get(tag, {})
        seen = [[picture for picture in each if picture.detections is not None] for each in of_tag.values()]
        missing += size.prompts * size.images - sum(map(len, seen))
        if not any(seen):
            problems.append(f"no picture of tag {tag}")
        if len(of_tag) > size.prompts:
            problems.append(f"{len(of_tag)} prompts of tag {tag}, not {size.prompts}")
        most = max(map(len, of_tag.values()), default=0)
        if most > size.images:
            problems.append(f"{most} pictures of one prompt of tag {tag}, not {size.images}")
    if missing > 0 and not allow_failures:
        problems.append(f"{missing} of {protocol.pictures} pictures are missing or unreadable (see allow_failures)")
    if problems:
        raise ValueError(f"this is no complete run of {protocol.name}: {'; '.join(problems)}.")


def _table(pictures: Sequence[SeenPicture], verdicts: Sequence[Verdict]) -> dict[str, np.ndarray]:
    """Correct pictures and pictures of every prompt, [prompts, 2], by tag in the order of the pictures."""
    counts: dict[str, dict[str, list[int]]] = {}
    for picture, verdict in zip(pictures, verdicts, strict=True):
        row = counts.setdefault(picture.tag, {}).setdefault(picture.prompt_key, [0, 0])
        row[0] += verdict.correct
        row[1] += 1
    return {tag: np.array(list(rows.values())) for tag, rows in counts.items()}


def _intervals(table: Mapping[str, np.ndarray], seed: int) -> dict[str, tuple[float, float] | None]:
    """Percentile intervals of every tag and of "overall": prompts, with all their pictures, are drawn anew."""
    rng, drawn = np.random.default_rng(seed), {}
    for tag, rows in table.items():
        picks = rng.integers(len(rows), size=(RESAMPLES, len(rows)))
        correct, images = rows[picks].sum(axis=1).T
        drawn[tag] = correct / images
    intervals = {tag: _quantiles(drawn[tag]) if len(rows) > 1 else None for tag, rows in table.items()}
    single = any(interval is None for interval in intervals.values())
    return {**intervals, "overall": None if single else _quantiles(np.mean(list(drawn.values()), axis=0))}


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def _tag_score(rows: np.ndarray, interval: tuple[float, float] | None) -> TagScore:
    correct, images = rows.sum(axis=0).tolist()
    return TagScore(correct / images, interval, correct, images, len(rows))
