"""GenEval on pictures of PocketWorld itself: what a judge makes of the truth, and of captions that do not belong."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from ...pipelines.outputs import Detections
from ...training.datasets.pocketworld.records import Picture
from .detectors import Detector
from .replay import SeenPicture
from .rules import judge_picture
from .score import GenEvalScore, pocketworld_protocol, score_pictures

PROTOCOL = "geneval_pocketworld_pictures"

Metadata = Mapping[str, Any]


def own_metadata(record: Picture) -> dict[str, Any]:
    """GenEval's record of what a picture shows; its number makes the picture a prompt of its own."""
    return record.description.to_metadata(f"{record.index}: {record.caption}")


def to_image(record: Picture) -> Image.Image:
    """The picture of a record."""
    return Image.fromarray(record.rgb)


def detect_records(records: Sequence[Picture], detector: Detector) -> list[Detections]:
    """What a detector finds in each picture."""
    return detector([to_image(record) for record in records])


def score_found(metadata: Sequence[Metadata], found: Sequence[Detections], detector: Detector) -> GenEvalScore:
    """Score pictures, each with a prompt of its own: tags are means over their pictures, overall over the tags."""
    protocol = pocketworld_protocol([{**one, "n_images": 1} for one in metadata], PROTOCOL)
    seen = [
        SeenPicture(one, other, detector.name, detector.weights) for one, other in zip(metadata, found, strict=True)
    ]
    return score_pictures(seen, protocol)


def shuffled(metadata: Sequence[Metadata], seed: int) -> list[Metadata]:
    """The same metadata, none in its place.

    Raises:
        ValueError: for fewer than two.
    """
    if len(metadata) < 2:
        raise ValueError(f"metadata has {len(metadata)} entries; at least two are needed to change places.")
    order = np.random.default_rng(seed).permutation(len(metadata))
    moved: list[Metadata] = [{}] * len(metadata)
    for place, origin in zip(order, np.roll(order, 1), strict=True):
        moved[place] = metadata[origin]
    return moved


def chance_level(metadata: Sequence[Metadata], found: Sequence[Detections]) -> float:
    """The overall score that wrong captions have on average: every picture is held against every other's metadata."""
    by_tag: dict[str, list[float]] = defaultdict(list)
    for number, asked in enumerate(metadata):
        others = (one for index, one in enumerate(found) if index != number)
        by_tag[asked["tag"]].append(fmean(_correct(asked, other) for other in others))
    return fmean(fmean(shares) for shares in by_tag.values())


def _correct(asked: Metadata, found: Detections) -> bool:
    return judge_picture(asked, found).correct


def of_few(records: Iterable[Picture], most: int) -> Iterable[Picture]:
    """Records without those that count more than `most` objects."""
    return (record for record in records if record.description.include[0].count <= most)
