"""Pictures with a class for every pixel, as in ADE20K."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from .rows import center_crop, crop_classes, picture


def segmented_picture(
    row: dict[str, Any], size: int, image_column: str = "image", mask_column: str = "annotation", first_class: int = 1
) -> tuple[Float[Tensor, "3 size size"], Int[Tensor, "size size"]]:
    """A row's picture in [-1, 1], scaled and cropped in the middle, and the classes of its pixels.

    Args:
        row: of `streams.streamed_batches`.
        size: pixels a side.
        image_column, mask_column: of the source.
        first_class: value in a mask that is class 0; lower values become `UNKNOWN` (ADE20K: 1, with 0 for "other").

    Raises:
        ValueError: without picture or mask, or where they differ in size.
        OSError: a picture that is none.
    """
    image, mask = picture(row, image_column), picture(row, mask_column)
    if image.size != mask.size:
        raise ValueError(f"a picture is {image.size} pixels and its mask {mask.size}; they must be of one size.")
    return center_crop(image, size), crop_classes(mask, size, first_class)
