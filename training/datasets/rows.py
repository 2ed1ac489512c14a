"""What a row of a streamed source holds: values by column, pictures and class maps cropped to a square."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ...pipelines.recognition.picture_input import rgb_picture
from .pocketworld.loading import import_datasets

ALIASES = {
    "image": ("image", "jpg", "jpeg", "png", "webp"),
    "text": ("text", "txt"),
    "label": ("label", "labels", "cls", "fine_label"),
}
"""Names that these columns may have: those of image folders, of webdataset shards and of well-known data sets."""

UNKNOWN = 255
"""Class of pixels that count for nothing."""


def value(row: dict[str, Any], column: str) -> Any:
    """What a column, or one of its `ALIASES`, holds.

    Raises:
        ValueError: when there is none, naming those there are.
    """
    for name in ALIASES.get(column, (column,)):
        if row.get(name) is not None:
            return row[name]
    raise ValueError(f"a row of the source has no {column!r}; its columns are {', '.join(row)}")


def picture(row: dict[str, Any], column: str) -> Image.Image:
    """The decoded picture of a column.

    Raises:
        ValueError: when there is none.
        OSError: when it is no picture.
    """
    encoded = value(row, column)
    try:
        return import_datasets().Image().decode_example(encoded)
    except Exception as error:  # each of PIL's readers has exceptions of its own for a damaged file
        name = encoded.get("path") if isinstance(encoded, dict) else None
        raise OSError(f"picture {name!r} of the source cannot be read ({error})") from error


def center_crop(image: Image.Image, size: int) -> Float[Tensor, "3 size size"]:
    """A picture scaled on its short side, cropped in the middle to size x size, in [-1, 1].

    Raises:
        ValueError: for a picture that `rgb_picture` refuses.
    """
    pixels = _middle(rgb_picture(image), size, Image.Resampling.LANCZOS)
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def crop_classes(mask: Image.Image, size: int, first_class: int) -> Int[Tensor, "size size"]:
    """Classes of the pixels that `center_crop` keeps of the picture; `UNKNOWN` below `first_class`.

    Raises:
        ValueError: for a mask of several channels.
    """
    if len(mask.getbands()) != 1:
        raise ValueError(f"a mask is of mode {mask.mode}; it must have one channel, which holds the classes.")
    values = torch.from_numpy(_middle(mask, size, Image.Resampling.NEAREST)).long()
    return torch.where(values < first_class, UNKNOWN, values - first_class)


def _middle(image: Image.Image, size: int, resampling: Image.Resampling) -> np.ndarray:
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return np.array(image.resize((width, height), resampling).crop((left, top, left + size, top + size)))
