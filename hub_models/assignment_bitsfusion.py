"""Which layers of a model take how many bits: BitsFusion's mixed precision (arXiv 2406.04333, section 3.2)."""

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from torch import nn

from .layers.low_bit import LOW_BIT
from .layers.low_bit_levels import Levels
from .layers.time_embedding_cache import EMBEDDING, PROJECTION
from .quantizer_bitsfusion import FIRST_AND_LAST, FIXED_BITS, average_bits

MEASURED_BITS = (1, 2, 3)
MOST_BITS = 4  # of a layer before refinement
REFINED_BITS = 3  # at which the drop of the CLIP score is looked at
PERCENTILES = (90, 95, 98)
SIZE_EXPONENT = 0.3
PUBLISHED_AVERAGE = 1.99
NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Sensitivity:
    """What a model's pictures lose when one layer alone is of few bits.

    Args:
        layer: its name in the model.
        bits: nominal bits, 1 to 8.
        mse: mean squared difference of the pictures from those of full precision, of pixels in 0..255.
        clip_drop: by how much their mean CLIP score falls; None where it was not measured.

    Raises:
        ValueError: a value that cannot be.
    """

    layer: str
    bits: int
    mse: float
    clip_drop: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str) or not self.layer:
            raise ValueError(f"layer must be a name, not {self.layer!r}.")
        Levels(self.bits)
        if not _is_number(self.mse) or self.mse < 0:
            raise ValueError(f"mse must be a finite number of at least 0, not {self.mse!r}.")
        if self.clip_drop is not None and not _is_number(self.clip_drop):
            raise ValueError(f"clip_drop must be a finite number or None, not {self.clip_drop!r}.")

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """What `to_json` made.

        Raises:
            ValueError: it is no such object.
        """
        names = list(cls.__dataclass_fields__)
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ValueError(f"a sensitivity must be an object of {', '.join(names)}, not {content!r}.")
        return cls(**content)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the fields' names."""
        return asdict(self)


def weight_counts(model: nn.Module) -> dict[str, int]:
    """How many weights each Linear and Conv2d layer of a model has."""
    return {name: layer.weight.numel() for name, layer in model.named_modules() if type(layer) in LOW_BIT}


def layers_of_time(names: Iterable[str]) -> list[str]:
    """Those of the layers' names that make or project a UNet's time embedding."""
    return [name for name in names if {EMBEDDING, PROJECTION} & set(name.split("."))]


def measured_layers(names: Iterable[str]) -> list[str]:
    """Those whose bits sensitivity decides: all but the layers of time and the first and last convolution."""
    names = list(names)
    others = {*layers_of_time(names), *FIRST_AND_LAST}
    return [name for name in names if name not in others]


def assign_bits(
    sensitivities: Collection[Sensitivity],
    weights: Mapping[str, int],
    target: float = PUBLISHED_AVERAGE,
    *,
    fixed: Mapping[str, int] = NOTHING,
    cached: Collection[str] = (),
    cached_values: int = 0,
    size_exponent: float = SIZE_EXPONENT,
) -> dict[str, int]:
    """Bits of each layer (algorithm 1): as near to an average as the method comes without exceeding it.

    The threshold of the scores is found by bisection, as the paper does not give it. Averages that the method's 1 to 4
    bits do not reach are reached with as many bits more for every layer, up to 8.

    Args:
        sensitivities: of each layer at 1, 2 and 3 bits. With CLIP drops the most sensitive layers get 1 to 3 bits more;
            without, none does.
        weights: how many each Linear and Conv2d layer of the model has, as `average_bits` takes them.
        target: average of bits a weight, as `average_bits` counts them.
        fixed: bits of layers that are not measured. What is neither measured, fixed nor cached stays in full precision.
        cached: names of layers that a cache of time embeddings replaces.
        cached_values: numbers in the cache.
        size_exponent: eta in S = M * N^-eta: how much more a large layer may cost.

    Returns:
        Bits by the names of `weights` that are measured or fixed, in their order.

    Raises:
        ValueError: sensitivities that are not each layer's at 1, 2 and 3 bits, or a target below the least possible
            average, naming that.
    """
    scores, drops = _by_layer(sensitivities, weights, size_exponent)
    more = clip_refinement(drops)

    def assigned(threshold: float, raised: int) -> dict[str, int]:
        chosen = bits_under(scores, threshold)
        own = {layer: min(b + more.get(layer, 0) + raised, FIXED_BITS) for layer, b in chosen.items()}
        both = {**own, **fixed}
        return {layer: both[layer] for layer in weights if layer in both}

    def average(threshold: float, raised: int) -> float:
        return average_bits(weights, assigned(threshold, raised), cached, cached_values)

    most = FIXED_BITS - MOST_BITS
    raised = next((raised for raised in range(most) if average(-math.inf, raised) >= target), most)
    # Bits change only where the threshold passes a score, and fall as it rises.
    thresholds = [*sorted({score for own in scores.values() for score in own.values()}), math.inf]
    found = bisect_left(thresholds, True, key=lambda threshold: average(threshold, raised) <= target)
    if found == len(thresholds):
        least = average(math.inf, raised)
        raise ValueError(f"the average must be at least {least:.4f} bits for these layers, not {target!r}.")
    return assigned(thresholds[found], raised)


def bits_under(scores: Mapping[str, Mapping[int, float]], threshold: float) -> dict[str, int]:
    """The fewest bits at which each layer's score is below the threshold S_o, and 4 where none is."""
    return {
        layer: min((bits for bits, score in own.items() if score < threshold), default=MOST_BITS)
        for layer, own in scores.items()
    }


def clip_refinement(drops: Mapping[str, float]) -> dict[str, int]:
    """Bits that layers get besides, by how much the CLIP score drops at 3 bits.

    One above each of the 90th, 95th and 98th percentile (interpolated linearly between drops), so up to 3; none where
    there are no drops.
    """
    if not drops:
        return {}
    limits = np.percentile(list(drops.values()), PERCENTILES)
    return {layer: int((drop > limits).sum()) for layer, drop in drops.items()}


def _by_layer(
    sensitivities: Collection[Sensitivity], weights: Mapping[str, int], size_exponent: float
) -> tuple[dict[str, dict[int, float]], dict[str, float]]:
    """Scores S = M * N^-eta by layer and bits, and drops of the CLIP score at 3 bits by layer where measured."""
    scores: dict[str, dict[int, float]] = {}
    for each in sensitivities:
        if each.layer not in weights:
            raise ValueError(f"sensitivities must be of the model's layers, not of {each.layer!r}.")
        own = scores.setdefault(each.layer, {})
        if each.bits in own:
            raise ValueError(f"sensitivities must hold {each.layer} at {each.bits} bits once, not twice.")
        own[each.bits] = each.mse * weights[each.layer] ** -size_exponent
    for layer, own in scores.items():
        if sorted(own) != list(MEASURED_BITS):
            raise ValueError(f"sensitivities must hold {layer} at 1, 2 and 3 bits, not at {sorted(own)}.")
    if not scores:
        raise ValueError("sensitivities must be of at least one layer, not of none.")
    drops = {each.layer: each.clip_drop for each in sensitivities if each.bits == REFINED_BITS}
    measured = {layer: drop for layer, drop in drops.items() if drop is not None}
    if measured and len(measured) < len(drops):
        raise ValueError(f"clip_drop must be measured of all layers or of none, not of {len(measured)}.")
    return scores, measured


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
