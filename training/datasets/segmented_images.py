"""Pictures with a class for every pixel, streamed from a Hub id such as ADE20K's, or a folder."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from .captioned_images import center_crop, endless, open_stream
from .pocketworld.loading import import_datasets

UNKNOWN = 255


def stream_segmented_images(
    source: str,
    size: int,
    batch_size: int,
    seed: int,
    image_column: str = "image",
    mask_column: str = "annotation",
    split: str = "train",
    first_class: int = 1,
    micro_steps: int = 1,
) -> Callable[[int, int, int], Iterator[tuple[Float[Tensor, "batch 3 size size"], Int[Tensor, "batch size size"]]]]:
    """`Batches` of (pictures in [-1, 1], classes of their pixels) from a source that does not fit in memory.

    Pictures are scaled on the short side and cropped in the middle, masks with them (nearest). See
    `stream_captioned_images` for sources, order and resumption.

    Args:
        first_class: value in a mask that is class 0; lower values become `UNKNOWN` (ADE20K: 1, with 0 for "other").

    Raises:
        FileNotFoundError: a local source that is not there, at once.
        ValueError: a source without rows, a row without picture or mask, or a pair of two sizes, when it is read.
        OSError: a picture that is none, when it is read.
    """
    rows = open_stream(source, split)
    decode = partial(_decode, size=size, image_column=image_column, mask_column=mask_column, first_class=first_class)

    def batches(start: int, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        unseen = islice(endless(rows, source, seed, rank, world), start * micro_steps * batch_size, None)
        with ThreadPoolExecutor() as threads:
            decoded = threads.map(decode, islice(unseen, batch_size))
            while True:
                following = threads.map(decode, islice(unseen, batch_size))
                pictures, masks = zip(*decoded, strict=True)
                yield torch.stack(pictures), torch.stack(masks)
                decoded = following

    return batches


def _decode(
    row: dict[str, Any], size: int, image_column: str, mask_column: str, first_class: int
) -> tuple[Tensor, Tensor]:
    picture, mask = (_picture(row, column) for column in (image_column, mask_column))
    if picture.size != mask.size:
        raise ValueError(f"a picture is {picture.size} pixels and its mask {mask.size}; they must be of one size.")
    return center_crop(picture, size), crop_classes(mask, size, first_class)


def crop_classes(mask: Image.Image, size: int, first_class: int) -> Int[Tensor, "size size"]:
    """Classes of the pixels that `center_crop` keeps of the picture; `UNKNOWN` below `first_class`."""
    scale = size / min(mask.size)
    width, height = (max(size, round(side * scale)) for side in mask.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = mask.resize((width, height), Image.Resampling.NEAREST)
    values = torch.from_numpy(np.array(resized.crop((left, top, left + size, top + size)))).long()
    return torch.where(values < first_class, UNKNOWN, values - first_class)


def _picture(row: dict[str, Any], column: str) -> Image.Image:
    encoded = row.get(column)
    if encoded is None:
        raise ValueError(f"a row of the source has no {column!r}; its columns are {', '.join(row)}")
    try:
        return import_datasets().Image().decode_example(encoded)
    except OSError as error:
        raise OSError(f"picture {encoded.get('path')!r} of the source cannot be read ({error})") from error
