"""Captions: said and read back."""

import re
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.pocketworld.caption_parsing import parse, parse_with_motions
from pocket_diffusers.training.datasets.pocketworld.captions import all_captions, caption
from pocket_diffusers.training.datasets.pocketworld.descriptions import (
    COUNTS,
    RELATIONS,
    TAGS,
    Clause,
    Description,
    color_attr,
    colors,
    counting,
    position,
    single_object,
    two_object,
)
from pocket_diffusers.training.datasets.pocketworld.motion import PROGRAMS
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, SHAPES
from pocket_diffusers.training.datasets.pocketworld.vocabulary import MOTIONS

UNCOLORED_PAIRS = tuple(permutations(SHAPES, 2))
SOME_COLORS = ("red", "orange", "white")

SPACE = (
    *(single_object(shape) for shape in SHAPES),
    *(two_object(*shapes) for shapes in UNCOLORED_PAIRS),
    *(counting(shape, count) for shape in SHAPES for count in COUNTS),
    *(colors(color, shape) for color in COLORS for shape in SHAPES),
    *(position(a, relation, b) for a, b in UNCOLORED_PAIRS for relation in RELATIONS),
    *(color_attr((c, a), (d, b)) for a, b in UNCOLORED_PAIRS for c, d in permutations(COLORS, 2)),
)


def moves(description):
    return st.tuples(*[st.sampled_from((None, *MOTIONS)) for _ in description.include])


moving_descriptions = st.sampled_from(SPACE).flatmap(lambda d: st.tuples(st.just(d), moves(d)))


# --- wording ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (single_object("cube"), "a photo of a cube"),
        (colors("red", "cube"), "a photo of a red cube"),
        (colors("orange", "torus"), "a photo of an orange torus"),
        (counting("cube", 3), "a photo of three cubes"),
        (counting("torus", 2), "a photo of two toruses"),
        (two_object("cube", "cone"), "a photo of a cube and a cone"),
        (position("cube", "left of", "sphere"), "a photo of a cube left of a sphere"),
        (color_attr(("red", "cube"), ("blue", "sphere")), "a photo of a red cube and a blue sphere"),
    ],
)
def test_geneval_wording(description, said):
    assert caption(description, paraphrase=False) == said
    assert next(all_captions(description)) == said
    assert description.to_metadata(caption(description, paraphrase=False))["prompt"] == said


@pytest.mark.parametrize(
    ("said", "description", "motions"),
    [
        ("the cube is red", colors("red", "cube"), (None,)),
        ("one red-colored ball", colors("red", "sphere"), (None,)),
        ("there is a single donut", single_object("torus"), (None,)),
        ("there are 3 cubes", counting("cube", 3), (None,)),
        ("a cube to the left of a sphere", position("cube", "left of", "sphere"), (None, None)),
        ("beneath a cone there is a ring", position("torus", "below", "cone"), (None, None)),
        ("the cube is over the cone", position("cube", "above", "cone"), (None, None)),
        ("a red cube that bounces", colors("red", "cube"), ("bounce",)),
        ("an image of an orbiting orange cube", colors("orange", "cube"), ("orbit",)),
        ("exactly four cones sliding", counting("cone", 4), ("slide",)),
        ("6 cubes hop", counting("cube", 6), ("hop",)),
        ("a cube spins and an orange cone hops", None, None),
        ("a cube spins and a cone hops", two_object("cube", "cone"), ("spin", "hop")),
        ("a cone and a cube that spins", two_object("cone", "cube"), (None, "spin")),
        ("a hopping cone over a cube", position("cone", "above", "cube"), (None, "hop")),
    ],
)
def test_paraphrases_by_hand(said, description, motions):
    if description is None:
        with pytest.raises(ValueError, match="PocketWorld caption"):
            parse(said)
        return
    assert parse_with_motions(said) == (description, motions)
    assert said in set(all_captions(description, motions))


def test_space_is_the_six_tasks():
    counts = Counter(description.tag for description in SPACE)
    assert [counts[tag] for tag in TAGS] == [5, 20, 25, 50, 80, 1800]
    assert len(set(SPACE)) == 1980


def test_every_sentence_is_read_back_and_means_one_thing():
    meaning_of = {}
    for description in SPACE:
        tints = {clause.color for clause in description.include}
        if description.tag != "color_attr" or tints <= set(SOME_COLORS):
            for said in all_captions(description):
                assert parse(said) == description
                assert meaning_of.setdefault(said, description) == description
    assert len(meaning_of) > 40_000


def test_every_pair_of_colored_shapes_is_read_back():
    rng = np.random.default_rng(5)
    for description in SPACE:
        if description.tag == "color_attr":
            assert all(parse(caption(description, rng)) == description for _ in range(5))


def test_every_moving_sentence_is_read_back_and_means_one_thing():
    meaning_of = {}
    for description in (single_object("cube"), colors("orange", "torus"), counting("cube", 3)):
        for motion in (None, *MOTIONS):
            for said in all_captions(description, (motion,)):
                assert parse_with_motions(said) == (description, (motion,))
                assert meaning_of.setdefault(said, motion) == motion
    for description in (two_object("cube", "cone"), position("cube", "above", "cone")):
        for motions in product((None, "orbit", "hop"), repeat=2):
            for said in all_captions(description, motions):
                assert parse_with_motions(said) == (description, motions)
                assert meaning_of.setdefault(said, motions) == motions


@given(moving_descriptions, st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_drawn_captions_are_read_back(moving, seed):
    description, motions = moving
    said = caption(description, np.random.default_rng(seed), motions)
    assert parse_with_motions(said) == (description, motions)
    assert said == caption(description, np.random.default_rng(seed), motions)
    assert said in set(all_captions(description, motions))
    articles = re.findall(r"\b(an?) (\w)", said)
    assert all((article == "an") == (letter in "aeiou") for article, letter in articles)


WORDS = sorted({word for d in SPACE[:300] for said in all_captions(d) for word in said.split()} | {"bounces"})


@given(st.sampled_from(SPACE), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=300, deadline=None)
def test_only_sentences_that_can_be_said_are_read(description, seed, data):
    words = caption(description, np.random.default_rng(seed)).split()
    place = data.draw(st.integers(0, len(words) - 1))
    new = data.draw(st.lists(st.sampled_from(WORDS), max_size=2))
    changed = " ".join(words[:place] + new + words[place + 1 :])
    try:
        read, motions = parse_with_motions(changed)
    except ValueError:
        return
    assert changed in set(all_captions(read, motions))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cube",
        "a photo of a dog",
        "a photo of a orange cube",
        "a photo of an red cube",
        "a photo of a cube.",
        " a photo of a cube",
        "A photo of a cube",
        "a photo of a cube and a cube",
        "a photo of a red cube and a red cone",
        "a photo of a red cube and a cone",
        "a photo of one cube and a cone",
        "a photo of seven cubes",
        "a photo of one cubes",
        "a photo of three cube",
        "there are a cube",
        "a photo of a red cube left of a cone",
        "a photo of a cube left of a cube",
        "a bouncing cube that bounces",
        "a photo of a cube\n",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="PocketWorld caption") as error:
        parse(text)
    assert str(error.value).count("\n") == 0 and repr(text) in str(error.value)


def test_geneval_wording_is_common_and_nearly_all_others_occur():
    description, rng = colors("blue", "torus"), np.random.default_rng(0)
    said = Counter(caption(description, rng) for _ in range(4000))
    assert 0.05 < said["a photo of a blue torus"] / 4000 < 0.4
    assert len(said) > 0.8 * len(set(all_captions(description)))


def test_motion_words_are_those_of_the_motion_programs():
    assert tuple(MOTIONS) == tuple(PROGRAMS)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: caption(single_object("dog"), paraphrase=False), "class is 'dog'"),
        (lambda: caption(colors("mauve", "cube"), paraphrase=False), "color is 'mauve'"),
        (lambda: caption(counting("cube", 7), paraphrase=False), "do not fit its tag"),
        (lambda: caption(two_object("cube", "cube"), paraphrase=False), "do not fit its tag"),
        (lambda: caption(Description("counting", (Clause("cube", 2),)), paraphrase=False), "do not fit"),
        (lambda: caption(single_object("cube")), "rng is None"),
        (lambda: caption(single_object("cube"), None, ("fly",), False), "motion must be None or .*not 'fly'"),
        (lambda: caption(single_object("cube"), None, ("hop", "hop"), False), "2 entries"),
        (lambda: position("cube", "near", "cone"), "relation must be one of left of, .*not 'near'"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
