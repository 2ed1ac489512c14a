"""Pictures with captions: PocketWorld's in memory, anybody's row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from .pocketworld import load_pocketworld
from .pocketworld.loading import import_datasets
from .pocketworld.scene import ALL_PAIRS
from .rows import center_crop, picture, value


@dataclass(frozen=True)
class CaptionedImages:
    """N square pictures held in memory.

    Attributes:
        pixels: of the pictures.
        captions: N texts.
        metadata: N GenEval records as JSON, what each caption claims.
        pair_maps: 0 where no object is, else 1 + the number of its (color, shape) in `ALL_PAIRS`; None where it is
            not known.
    """

    pixels: UInt8[Tensor, "count 3 size size"]
    captions: Sequence[str]
    metadata: Sequence[str]
    pair_maps: UInt8[Tensor, "count size size"] | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def images(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in [-1, 1]."""
        return self.pixels[indices].float().div_(127.5).sub_(1.0)

    def objects(self, indices: Int[Tensor, " batch"]) -> Bool[Tensor, "batch 1 size size"]:
        """Where an object is seen."""
        return self.pair_maps[indices, None] > 0


def pocketworld_images(split: str, size: int, count: int, seed: int = 0) -> CaptionedImages:
    """The first `count` image records of a split of PocketWorld, made once and cached by `datasets`.

    "one+other" is `count` records of each of two splits, one after the other.
    """
    datasets = import_datasets()
    rows = datasets.concatenate_datasets(
        [load_pocketworld("image", name, size, count, seed) for name in split.split("+")]
    )
    pixels = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    pair_maps = torch.empty((len(rows), size, size), dtype=torch.uint8)
    for i, row in enumerate(rows.select_columns(["image", "mask", "objects"])):
        pixels[i] = torch.from_numpy(np.array(row["image"])).permute(2, 0, 1)
        pair_maps[i] = torch.from_numpy(pair_table(row["objects"])[np.array(row["mask"])])
    return CaptionedImages(pixels, rows["caption"][:], rows["metadata"][:], pair_maps)


def pair_table(objects: Sequence[dict]) -> UInt8[np.ndarray, " objects_and_background"]:
    """Lookup from a mask's values (0, then one per object) to 0 or 1 + the object's number in `ALL_PAIRS`."""
    return np.array([0] + [1 + ALL_PAIRS.index((o["color"], o["shape"])) for o in objects], np.uint8)


def captioned_picture(
    row: dict[str, Any], size: int, image_column: str = "image", caption_column: str = "text"
) -> tuple[Float[Tensor, "3 size size"], str]:
    """A row's picture in [-1, 1], scaled and cropped in the middle, and its caption.

    Args:
        row: of `streams.streamed_batches`.
        size: pixels a side.
        image_column, caption_column: of the source; "image" and "text" also find their `rows.ALIASES`.

    Raises:
        ValueError: without picture or caption, or with a caption that is no text.
        OSError: a picture that is none.
    """
    caption = value(row, caption_column)
    if not isinstance(caption, str):
        raise ValueError(f"column {caption_column!r} holds {type(caption).__name__}s; captions are texts")
    return center_crop(picture(row, image_column), size), caption
