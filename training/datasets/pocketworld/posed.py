"""Rows of PocketWorld as the posed pictures that a `fit` takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ....pipelines.inputs import PosedImages

_NEEDED = ("images", "masks", "viewmats", "Ks")


def posed_images(row: Mapping[str, Any]) -> PosedImages:
    """The pictures and cameras of one record.

    Args:
        row: of kind "multiview", "lightfield", "rgbd_video" or "video", as the dataset gives it without a format.

    Returns:
        `PosedImages`; its masks are the pixels of any object, and depths and times are those that the row has.

    Raises:
        ValueError: a row without cameras, such as one of kind "image".
    """
    missing = [name for name in _NEEDED if name not in row]
    if missing:
        raise ValueError(f"row has no {', '.join(missing)}; posed_images takes a row with several views.")
    pictures = torch.from_numpy(_stack(row["images"])).movedim(-1, 1).float() / 255
    optional = {name: _numbers(row[name]) for name in ("depths", "times") if row.get(name) is not None}
    return PosedImages(
        pictures.contiguous(),
        _numbers(row["viewmats"]),
        _numbers(row["Ks"]),
        masks=torch.from_numpy(_stack(row["masks"]) > 0),
        **optional,
    )


def _stack(pictures: Sequence[Any]) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pictures])


def _numbers(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32))
