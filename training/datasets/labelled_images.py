"""Pictures of classes: in memory, or streamed from a Hub id or a folder."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .captioned_images import center_crop, endless, open_stream
from .pocketworld.loading import import_datasets

LABEL_ALIASES = ("label", "labels", "cls", "fine_label")


@dataclass(frozen=True)
class LabelledImages:
    """N pictures held in memory, each of one class.

    Attributes:
        pictures: in [-1, 1].
        labels: their classes, from 0.
        names: of the classes.
    """

    pictures: Float[Tensor, "count channels size size"]
    labels: Int[Tensor, " count"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def class_names(source: str, split: str = "train", label_column: str = "label") -> tuple[str, ...]:
    """The names of a source's classes, in the order of their numbers.

    Raises:
        ValueError: when its label column does not know them.
    """
    features = open_stream(source, split).features or {}
    names = getattr(features.get(label_column), "names", None)
    if not names:
        raise ValueError(f"column {label_column!r} of source {source!r} names no classes; it must be a ClassLabel.")
    return tuple(names)


def stream_labelled_images(
    source: str,
    size: int,
    batch_size: int,
    seed: int,
    image_column: str = "image",
    label_column: str = "label",
    split: str = "train",
    micro_steps: int = 1,
) -> Callable[[int, int, int], Iterator[tuple[Float[Tensor, "batch 3 size size"], Int[Tensor, " batch"]]]]:
    """`Batches` of (pictures in [-1, 1], labels) from a source that does not fit in memory, such as ImageNet-1K.

    Pictures are scaled on the short side and cropped in the middle; see `stream_captioned_images` for sources, order
    and resumption.

    Raises:
        FileNotFoundError: a local source that is not there, at once.
        ValueError: a source without rows, or a row without picture or label, when it is read.
        OSError: a picture that is none, when it is read.
    """
    rows = open_stream(source, split)
    decode = partial(_decode, size=size, image_column=image_column, label_column=label_column)

    def batches(start: int, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        unseen = islice(endless(rows, source, seed, rank, world), start * micro_steps * batch_size, None)
        with ThreadPoolExecutor() as threads:
            decoded = threads.map(decode, islice(unseen, batch_size))
            while True:
                following = threads.map(decode, islice(unseen, batch_size))
                pictures, labels = zip(*decoded, strict=True)
                yield torch.stack(pictures), torch.tensor(labels)
                decoded = following

    return batches


def _decode(row: dict[str, Any], size: int, image_column: str, label_column: str) -> tuple[Tensor, int]:
    label = _first(row, (label_column, *LABEL_ALIASES))
    if isinstance(label, bool) or not isinstance(label, int):
        raise ValueError(f"column {label_column!r} holds {type(label).__name__}s; labels are whole numbers.")
    encoded = _first(row, (image_column,))
    try:
        picture = import_datasets().Image().decode_example(encoded)
    except OSError as error:
        raise OSError(f"picture {encoded.get('path')!r} of the source cannot be read ({error})") from error
    return center_crop(picture, size), label


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise ValueError(f"a row of the source has no {names[0]!r}; its columns are {', '.join(row)}")
