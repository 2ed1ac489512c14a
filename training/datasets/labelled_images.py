"""Pictures of classes: in memory, or row by row."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from .rows import center_crop, picture, value
from .streams import open_stream


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


def labelled_picture(
    row: dict[str, Any], size: int, image_column: str = "image", label_column: str = "label"
) -> tuple[Float[Tensor, "3 size size"], int]:
    """A row's picture in [-1, 1], scaled and cropped in the middle, and its class.

    Args:
        row: of `streams.streamed_batches`.
        size: pixels a side.
        image_column, label_column: of the source; "image" and "label" also find their `rows.ALIASES`.

    Raises:
        ValueError: without picture or label, or with a label that is no whole number.
        OSError: a picture that is none.
    """
    label = value(row, label_column)
    if isinstance(label, bool) or not isinstance(label, int):
        raise ValueError(f"column {label_column!r} holds {type(label).__name__}s; labels are whole numbers.")
    return center_crop(picture(row, image_column), size), label
