"""Features of pictures for distances between sets of pictures, each extractor with its name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from PIL import Image

from .clip import ClipPictures

INCEPTION = "inception-2015-12-05"
"""Name of the published features of FID: 2048 numbers of pt_inception-2015-12-05-6726825d."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A function of pictures and the name under which its distances are reported.

    Attributes:
        name: such as "clip-nano-judge"; `INCEPTION` only for the published Inception features.
        extract: pictures -> [count, dim], a row a picture.
    """

    name: str
    extract: Callable[[Sequence[Image.Image]], ArrayLike]

    def __call__(self, pictures: Sequence[Image.Image]) -> Float[np.ndarray, "count dim"]:
        """Features in float64.

        Raises:
            ValueError: no pictures, another number of rows than pictures, or numbers that are not finite.
        """
        if not len(pictures):
            raise ValueError("pictures is empty; give at least two.")
        features = checked_features(self.extract(pictures), f"the features of {self.name}")
        if len(features) != len(pictures):
            raise ValueError(f"{self.name} made {len(features)} rows of features of {len(pictures)} pictures.")
        return features


def clip_features(model: str | Path = "clip-nano-judge") -> FeatureExtractor:
    """The projected image embeddings, not normalised, of a CLIP model.

    Args:
        model: folder, checkpoint or Hub id of a `transformers.CLIPModel`.
    """
    clip = ClipPictures(model)
    return FeatureExtractor(clip.name, lambda pictures: clip.encode_pictures(pictures).double().numpy())


def checked_features(features: ArrayLike, name: str) -> Float[np.ndarray, "count dim"]:
    """Features as float64.

    Raises:
        ValueError: not [count, dim], fewer than two rows, or a number that is not finite.
    """
    array = np.asarray(features, np.float64)
    if array.ndim != 2 or len(array) < 2 or array.shape[1] < 1:
        raise ValueError(f"{name} must be [count, dim] with at least 2 rows, not {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite.")
    return array
