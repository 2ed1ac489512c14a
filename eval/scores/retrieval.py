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
"""Captions in an unambiguous group that name shapes alone: true of so many pictures that a few keep all others out."""

UNAMBIGUOUS = (
    "chosen so that each caption is true of its own picture alone (none that names a single shape and nothing else, "
    f"at most {MAX_OF_TAG['two_object']} that name two shapes and nothing else)"
)
PLAIN = "as they come, identical captions merged"
"""The pictures of a group in words, as claims say them."""

_BLOCK = 128  # pictures that PocketWorld renders together


@dataclass(frozen=True)
class Recall:
    """Right answers in first place, over all groups.

    Attributes:
        image_to_text: of `pictures`, those whose own caption is nearest.
        text_to_image: of `captions`, those whose nearest picture is one of their own.
        pictures, captions: that were asked; identical captions of a group are one.
    """

    image_to_text: int
    text_to_image: int
    pictures: int
    captions: int


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
    _check_numbers(groups, size)
    found: list[list[Picture]] = [[] for _ in range(groups)]
    for record in islice(records, limit):
        open_groups = (group for group in found if len(group) < size)
        home = next((group for group in open_groups if _fits(record, group)), None)
        if home is not None:
            home.append(record)
        if all(len(group) == size for group in found):
            return found
    raise ValueError(f"the records fill {sum(map(len, found))} of {groups * size} places; give more of them.")


def plain_groups(records: Iterable[Picture], groups: int = 5, size: int = 100) -> list[list[Picture]]:
    """Groups of records as they come, whatever their captions say: several may be true of one picture.

    Args:
        records: pictures with captions.
        groups: how many, at least 1.
        size: pictures in each, at least 2.

    Raises:
        ValueError: a number out of range, or too few records.
    """
    _check_numbers(groups, size)
    found = list(islice(records, groups * size))
    if len(found) < groups * size:
        raise ValueError(f"the records fill {len(found)} of {groups * size} places; give more of them.")
    return [found[start : start + size] for start in range(0, len(found), size)]


def _check_numbers(groups: int, size: int) -> None:
    if groups < 1 or size < 2:
        raise ValueError(f"groups is {groups} and size is {size}; needed are at least 1 group of at least 2.")


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


def recall_at_1(
    images: Float[Tensor, "pictures dim"], texts: Float[Tensor, "captions dim"], caption_of: Sequence[int]
) -> tuple[int, int]:
    """How many pictures have their own caption nearest, and how many captions a picture of their own.

    Args:
        images, texts: unit vectors.
        caption_of: row in `texts` of the caption of each picture; several pictures may share one. A tie with what is
            not one's own counts as wrong.

    Raises:
        ValueError: shapes that do not fit, or a caption that is not there.
    """
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or len(caption_of) != len(images):
        raise ValueError(
            f"images is {list(images.shape)}, texts is {list(texts.shape)} and caption_of names {len(caption_of)}; "
            "they must be [pictures, dim], [captions, dim] and as many as there are pictures."
        )
    if not set(caption_of) <= set(range(len(texts))):
        raise ValueError(f"caption_of must name rows of the {len(texts)} texts, not {sorted(set(caption_of))}.")
    similarity = images @ texts.T  # [pictures, captions]
    own = torch.tensor(caption_of)[:, None] == torch.arange(len(texts))
    best_own, best_other = similarity.masked_fill(~own, -torch.inf), similarity.masked_fill(own, -torch.inf)
    found_texts, found_images = ((best_own.amax(dim) > best_other.amax(dim)).sum() for dim in (1, 0))
    return int(found_texts), int(found_images)


def measure_retrieval(encoder: Encoder, groups: Sequence[Sequence[Picture]]) -> Recall:
    """R@1 of an encoder over groups of records, each group for itself; identical captions of a group are one."""
    measured = []
    for group in groups:
        captions = list(dict.fromkeys(record.caption for record in group))
        images, texts = encoder.encode_images(to_pictures(group)), encoder.encode_texts(captions)
        right = recall_at_1(images, texts, [captions.index(record.caption) for record in group])
        measured.append((*right, len(group), len(captions)))
    return Recall(*map(sum, zip(*measured, strict=True)))
