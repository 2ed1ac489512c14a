"""PocketWorld's prompt list for GenEval-style scoring, kept in `prompts.jsonl` beside this file.

Each record is one of GenEval's metadata (tag, include, exclude, prompt) with two keys more: `n_images`, how
many pictures to make of the prompt so that every tag gets about as many, and `seen`, False where a pair of
colour and shape is asked for that the split "train" never shows.  The file is written anew, byte for byte the
same, by `python -m pocket_diffusers.training.datasets.pocketworld.prompts`.
"""

import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

from ....pipelines.files import write_text
from .captions import caption
from .descriptions import (
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
from .scene import COLORS, HELD_OUT_PAIRS, SHAPES

PROMPTS_FILE = Path(__file__).with_name("prompts.jsonl")
GENEVAL_COUNTS = (2, 3, 4)
IMAGES_PER_TAG = 200
PAIR_USES = 2  # of each (color, shape) on each side of the color_attr prompts: 100 prompts, as GenEval has
SEED = 20231017


def build_prompts() -> list[dict[str, Any]]:
    """Make the list: every prompt of a tag, and of color_attr an even, seeded sample of 100 out of 1,800.

    Returns:
        Records with keys tag, include, exclude (counting only), prompt, n_images, seen; by tag.
    """
    by_tag = {
        "single_object": [single_object(shape) for shape in SHAPES],
        "two_object": [two_object(*shapes) for shapes in permutations(SHAPES, 2)],
        "counting": [counting(shape, count) for shape in SHAPES for count in GENEVAL_COUNTS],
        "colors": [colors(color, shape) for color in COLORS for shape in SHAPES],
        "position": [
            position(subject, relation, target) for subject, target in permutations(SHAPES, 2) for relation in RELATIONS
        ],
        "color_attr": list(_even_color_attrs(Random(SEED))),
    }
    return [_record(description, len(by_tag[tag])) for tag in TAGS for description in by_tag[tag]]


def load_prompts() -> list[dict[str, Any]]:
    """Read the committed list.

    Raises:
        FileNotFoundError: `prompts.jsonl` is missing.
    """
    if not PROMPTS_FILE.is_file():
        raise FileNotFoundError(f"{PROMPTS_FILE} is missing; write it with python -m {__spec__.name}.")
    return [json.loads(line) for line in PROMPTS_FILE.read_text(encoding="utf-8").splitlines()]


def write_prompts(path: Path = PROMPTS_FILE) -> None:
    """Write the list as JSON lines, atomically."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in build_prompts()))


def is_seen(description: Description) -> bool:
    """Whether the split "train" shows every coloured shape that the description asks for."""
    return not any((clause.color, clause.cls) in HELD_OUT_PAIRS for clause in description.include)


def _record(description: Description, prompts_of_tag: int) -> dict[str, Any]:
    images = max(1, int(IMAGES_PER_TAG / prompts_of_tag + 0.5))
    return {
        **description.to_metadata(caption(description, paraphrase=False)),
        "n_images": images,
        "seen": is_seen(description),
    }


def _even_color_attrs(rng: Random) -> Iterator[Description]:
    """Every ordered pair of shapes equally often, every coloured shape `PAIR_USES` times on either side."""
    firsts = {shape: _deck(rng) for shape in SHAPES}
    seconds = {shape: _deck(rng) for shape in SHAPES}
    each = len(COLORS) * PAIR_USES // (len(SHAPES) - 1)
    for first, second in permutations(SHAPES, 2):
        left = [firsts[first].pop() for _ in range(each)]
        right = [seconds[second].pop() for _ in range(each)]
        for one, other in _distinct_pairs(left, right):
            yield color_attr((one, first), (other, second))


def _deck(rng: Random) -> list[str]:
    deck = list(COLORS) * PAIR_USES
    rng.shuffle(deck)
    return deck


def _distinct_pairs(left: list[str], right: list[str]) -> list[tuple[str, str]]:
    """Pair the colours so that no pair has one colour twice and no pair comes twice."""
    for order in permutations(right):
        pairs = list(zip(left, order, strict=True))
        if len(set(pairs)) == len(pairs) and all(one != other for one, other in pairs):
            return pairs
    raise AssertionError(f"no pairing of {left} with {right}")


if __name__ == "__main__":
    write_prompts()
    print(f"wrote {len(load_prompts())} prompts to {PROMPTS_FILE}")
