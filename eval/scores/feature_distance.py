"""What FID and KID share: a distance between the features of two sets of pictures, named after what made them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ..instruments.features import INCEPTION, FeatureExtractor, checked_features
from ..protocol import protocol_hash


@dataclass(frozen=True, kw_only=True)
class FeatureDistance:
    """A distance with what it means.

    Attributes:
        metric: name with extractor and number of pictures, such as "fid_clip-nano-judge_400".
        value: the distance.
        n, n_reference: pictures of either set.
        extractor: name of the feature extractor.
    """

    metric: str
    value: float
    n: int
    n_reference: int
    extractor: str

    def settings(self) -> dict[str, Any]:
        """What two distances must have in common to be compared."""
        return {key: getattr(self, key) for key in ("extractor", "n", "n_reference")}

    def to_record(self) -> dict[str, Any]:
        """The distance as a JSON object."""
        protocol = self.settings()
        return {**asdict(self), "protocol": protocol, "protocol_hash": protocol_hash(protocol)}


Distance = TypeVar("Distance", bound=FeatureDistance)


def distance_of_pictures(
    distance: Callable[..., Distance],
    generated: Sequence[Image.Image],
    reference: Sequence[Image.Image],
    extractor: FeatureExtractor,
    **options: Any,
) -> Distance:
    """`fid` or `kid` between two sets of pictures, at least two each, by the extractor's features."""
    return distance(extractor(generated), extractor(reference), extractor.name, **options)


def checked_pair(generated: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64 [count, dim] of one dim.

    Raises:
        ValueError: see `checked_features`, or for sets of different dim.
    """
    first, second = checked_features(generated, "generated"), checked_features(reference, "reference")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"generated has {first.shape[1]} features a picture, but reference {second.shape[1]}.")
    return first, second


def distance_name(distance: str, extractor: str, count: int) -> str:
    """The name of a distance with what it depends on: "fid_30k" of the published features, else as
    "fid_clip-nano-judge_400"."""
    thousands, rest = divmod(count, 1000)
    size = str(count) if rest or not thousands else f"{thousands}k"
    return f"{distance}_{size}" if extractor == INCEPTION else f"{distance}_{extractor}_{size}"
