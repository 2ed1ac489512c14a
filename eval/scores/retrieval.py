"""Retrieval R@1: does a picture find its own caption among a group of others, and a caption its own picture?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...training.datasets.pocketworld.records import Picture, pictures
from ...training.datasets.pocketworld.truth import describes
from ..instruments.clip import Encoder

MAX_OF_TAG = {"single_object": 0, "two_object": 3}
"""Captions in a group that name shapes alone: true of so many pictures that a few of them keep all others out."""

_BLOCK = 128  # pictures that PocketWorld renders together


@dataclass(frozen=True)
class Recall:
    """Right answers in first place, over all groups: of `queries` pictures and of as many captions."""

    image_to_text: int
    text_to_image: int
    queries: int


def world_records(split: str, size: int) -> Iterator[Picture]:
    """A split of PocketWorld, record after record without end; pictures of `size` pixels a side."""
    start = 0
    while True:
        yield from pictures(split, size, range(start, start + _BLOCK))
        start += _BLOCK


def unambiguous_groups(
    records: Iterable[Picture], groups: int = 5, size: int = 100, limit: int = 20_000
) -> list[list[Picture]]:
    """Groups in which each caption is true of its own picture alone, so that R@1 has one right answer a query.

    Every record goes, in the order given, to the first group that has room and in which it makes no caption true
    twice (GenEval's rules on true objects and boxes); `MAX_OF_TAG` limits the captions that claim least.

    Args:
        records: pictures with captions; no more of them are drawn than needed.
        groups: how many, at least 1.
        size: pictures in each, at least 2.
        limit: records that are tried.

    Raises:
        ValueError: a number out of range, or too few records.
    """
    if groups < 1 or size < 2:
        raise ValueError(f"groups is {groups} and size is {size}; needed are at least 1 group of at least 2.")
    found: list[list[Picture]] = [[] for _ in range(groups)]
    for record in islice(records, limit):
        open_groups = (group for group in found if len(group) < size)
        home = next((group for group in open_groups if _fits(record, group)), None)
        if home is not None:
            home.append(record)
        if all(len(group) == size for group in found):
            return found
    raise ValueError(f"the records fill {sum(map(len, found))} of {groups * size} places; give more of them.")


def _fits(record: Picture, group: Sequence[Picture]) -> bool:
    tag, objects = record.description.tag, true_objects(record)
    if sum(other.description.tag == tag for other in group) >= MAX_OF_TAG.get(tag, len(group) + 1):
        return False
    return not any(
        describes(record.description, true_objects(other)) or describes(other.description, objects) for other in group
    )


def true_objects(record: Picture) -> list[tuple[str, str, Any]]:
    """(shape, color, box) of every object of a picture, as `truth.describes` takes them."""
    return [(o.shape, o.color, box) for o, box in zip(record.scene.objects, record.boxes.tolist(), strict=True)]


def to_pictures(records: Sequence[Picture]) -> Float[Tensor, "count 3 size size"]:
    """The pictures of records in [0, 1]."""
    return torch.stack([torch.from_numpy(record.rgb) for record in records]).permute(0, 3, 1, 2).float() / 255


def recall_at_1(images: Float[Tensor, "count dim"], texts: Float[Tensor, "count dim"]) -> tuple[int, int]:
    """How many pictures have their own caption nearest, and how many captions their own picture.

    Args:
        images, texts: unit vectors; row i of one belongs to row i of the other. A tie counts as wrong.

    Raises:
        ValueError: shapes that differ.
    """
    if images.ndim != 2 or images.shape != texts.shape:
        raise ValueError(f"images is {list(images.shape)} and texts is {list(texts.shape)}; both must be [count, dim].")
    similarity = images @ texts.T  # [count images, count texts]
    own = similarity.diagonal()
    others = similarity.masked_fill(torch.eye(len(similarity), dtype=torch.bool), -torch.inf)
    return int((own > others.amax(dim=1)).sum()), int((own > others.amax(dim=0)).sum())


def measure_retrieval(encoder: Encoder, groups: Sequence[Sequence[Picture]]) -> Recall:
    """R@1 of an encoder over groups of records, each group for itself."""
    right = [
        recall_at_1(encoder.encode_images(to_pictures(group)), encoder.encode_texts([r.caption for r in group]))
        for group in groups
    ]
    found_texts, found_images = map(sum, zip(*right, strict=True))
    return Recall(found_texts, found_images, sum(map(len, groups)))
