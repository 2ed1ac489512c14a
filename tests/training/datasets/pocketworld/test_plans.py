"""Plans of scenes: true, complete, even and seeded."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from pocket_diffusers.training.datasets.pocketworld.captions import caption
from pocket_diffusers.training.datasets.pocketworld.descriptions import COUNTS, TAGS
from pocket_diffusers.training.datasets.pocketworld.plans import sample_plan
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, HELD_OUT_PAIRS, SHAPES
from pocket_diffusers.training.datasets.pocketworld.truth import describes

ALL_PAIRS = frozenset(product(COLORS, SHAPES))
TRAIN_PAIRS = ALL_PAIRS - HELD_OUT_PAIRS

LEFT, MIDDLE, RIGHT = (0, 40, 20, 60), (40, 40, 60, 60), (80, 40, 100, 60)
PLACES = {"left of": LEFT, "right of": RIGHT, "above": (40, 0, 60, 20), "below": (40, 80, 60, 100)}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("allowed", [ALL_PAIRS, TRAIN_PAIRS], ids=["all", "train"])
def test_plans_are_true_complete_and_even(tag, allowed):
    rng, shown, drawn = np.random.default_rng(7), Counter(), Counter()
    for _ in range(2000):
        description, things = sample_plan(rng, tag, allowed)
        assert description.tag == tag and len(things) == sum(clause.count for clause in description.include)
        shown.update((color, shape) for shape, color in things)
        drawn[description.include[-1].cls] += 1
        place = description.include[-1].position
        spots = [MIDDLE] * len(things) if place is None else [MIDDLE, PLACES[place[0]]]
        scene = [(*thing, spot) for thing, spot in zip(things, spots, strict=True)]
        assert describes(description, scene, exact=True)
        caption(description, paraphrase=False)
    assert set(shown) == allowed
    assert max(drawn.values()) < 1.35 * min(drawn.values())


def test_counting_plans_mix_colors_half_of_the_time():
    rng = np.random.default_rng(3)
    plans = [sample_plan(rng, "counting", ALL_PAIRS)[1] for _ in range(2000)]
    assert 0.45 < np.mean([len(set(things)) == 1 for things in plans]) < 0.6
    assert Counter(len(things) for things in plans).keys() == set(COUNTS)


def test_plans_are_seeded():
    def draws(allowed):
        rng = np.random.default_rng(11)
        return [sample_plan(rng, tag, allowed) for tag in TAGS * 20]

    assert draws(ALL_PAIRS) == draws(sorted(ALL_PAIRS, reverse=True))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sample_plan(np.random.default_rng(0), "colour", ALL_PAIRS), "tag must be one of .*not 'colour'"),
        (lambda: sample_plan(np.random.default_rng(0), "colors", set()), "too few"),
        (lambda: sample_plan(np.random.default_rng(0), "colors", {("cube", "red")}), r"\(color, shape\)"),
        (lambda: sample_plan(np.random.default_rng(0), "two_object", {("red", "cube")}), "too few"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
