"""What a scene of PocketWorld shall show: a description and the objects of which it is true."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .descriptions import (
    COUNTS,
    RELATIONS,
    TAGS,
    Description,
    color_attr,
    colors,
    counting,
    position,
    single_object,
    two_object,
)
from .scene import COLORS, SHAPES

if TYPE_CHECKING:
    import numpy as np


def sample_plan(
    rng: "np.random.Generator", tag: str, allowed_pairs: Collection[tuple[str, str]]
) -> tuple[Description, tuple[tuple[str, str], ...]]:
    """Draw a description of a tag, then the objects of a scene of which it is true and complete.

    Shapes, counts and relations are drawn evenly and colours evenly among those allowed.  The objects of a
    count all have one colour in half of the plans and are coloured independently in the other half.

    Args:
        rng: numpy Generator.
        tag: one of `TAGS`.
        allowed_pairs: the (color, shape) pairs that objects may have.

    Returns:
        The description, and (shape, color) of every object of the scene in the order of the include clauses;
        nothing else may stand in the scene.

    Raises:
        ValueError: an unknown tag, or allowed pairs from which the tag cannot be made.
    """
    if tag not in TAGS:
        raise ValueError(f"tag must be one of {', '.join(TAGS)}, not {tag!r}.")
    singles, pairs = _palettes(frozenset(allowed_pairs), tag == "color_attr")
    palettes = singles if tag in ("single_object", "colors", "counting") else pairs
    if not palettes:
        raise ValueError(f"allowed_pairs has {len(allowed_pairs)} pairs, too few for a scene of tag {tag}.")
    shapes, choices = _pick(rng, palettes)
    if tag == "counting":
        return _counting_plan(rng, shapes[0], choices)
    tints = _pick(rng, choices)
    things = tuple(zip(shapes, tints, strict=True))
    if tag == "single_object":
        return single_object(*shapes), things
    if tag == "colors":
        return colors(tints[0], shapes[0]), things
    if tag == "two_object":
        return two_object(*shapes), things
    if tag == "color_attr":
        return color_attr(*zip(tints, shapes, strict=True)), things
    return position(shapes[1], _pick(rng, RELATIONS), shapes[0]), things


def _counting_plan(rng: "np.random.Generator", shape: str, choices: Any) -> tuple[Description, Any]:
    count = _pick(rng, COUNTS)
    if rng.random() < 0.5:
        things = ((shape, _pick(rng, choices)[0]),) * count
    else:
        things = tuple((shape, _pick(rng, choices)[0]) for _ in range(count))
    return counting(shape, count), things


def _pick(rng: "np.random.Generator", options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


@lru_cache(maxsize=64)
def _palettes(allowed: frozenset[tuple[str, str]], two_colors: bool) -> tuple[Any, Any]:
    """For single shapes and for ordered pairs of shapes: (shapes, colour choices) where there is a choice."""
    unknown = sorted(allowed - {(color, shape) for color in COLORS for shape in SHAPES})
    if unknown:
        raise ValueError(f"allowed_pairs holds {unknown[0]!r}; a pair is (color, shape) of PocketWorld.")
    tints = {shape: [color for color in COLORS if (color, shape) in allowed] for shape in SHAPES}
    singles = tuple(((shape,), tuple((color,) for color in tints[shape])) for shape in SHAPES if tints[shape])
    pairs = []
    for first in SHAPES:
        for second in SHAPES:
            choices = tuple((a, b) for a in tints[first] for b in tints[second] if not two_colors or a != b)
            if first != second and choices:
                pairs.append(((first, second), choices))
    return singles, tuple(pairs)
