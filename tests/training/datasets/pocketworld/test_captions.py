"""Captions: said, read back, and held against ground truth by an independent reading of GenEval's rules."""

import json
import math
import os
import re
from collections import Counter
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.pocketworld.captions import (
    COUNTS,
    MOTIONS,
    RELATIONS,
    TAGS,
    Clause,
    Description,
    all_captions,
    caption,
    color_attr,
    colors,
    counting,
    describes,
    exact_relation,
    parse,
    parse_with_motions,
    position,
    relations,
    sample_plan,
    single_object,
    two_object,
)
from pocket_diffusers.training.datasets.pocketworld.motion import PROGRAMS
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, HELD_OUT_PAIRS, SHAPES

REPOSITORY = Path(__file__).resolve().parents[4]
GENEVAL = Path("evaluation", "geneval", "evaluation_metadata.jsonl")
ALL_PAIRS = frozenset(product(COLORS, SHAPES))
TRAIN_PAIRS = ALL_PAIRS - HELD_OUT_PAIRS
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
    assert description.to_metadata()["prompt"] == said


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
        (lambda: caption(single_object("cube"), None, ("fly",), False), "motion is 'fly'"),
        (lambda: caption(single_object("cube"), None, ("hop", "hop"), False), "2 entries"),
        (lambda: Description("colour", (Clause("cube"),)), "tag is 'colour'"),
        (lambda: Description("colors", ()), "include is empty"),
        (lambda: Description("colors", (Clause("cube", 0),)), "at least 1"),
        (lambda: position("cube", "near", "cone"), "relation is 'near'"),
        (lambda: Description("position", (Clause("a", position=("above", 0)),)), "earlier one"),
        (lambda: Description.from_metadata({"tag": "colors"}), "no include"),
        (lambda: Clause.from_metadata({"class": "cube"}), "class, count"),
        (lambda: Clause.from_metadata({"class": "cube", "count": 1, "size": 2}), "'size'"),
        (lambda: sample_plan(np.random.default_rng(0), "colour", ALL_PAIRS), "tag is 'colour'"),
        (lambda: sample_plan(np.random.default_rng(0), "colors", set()), "too few"),
        (lambda: sample_plan(np.random.default_rng(0), "colors", {("cube", "red")}), r"\(color, shape\)"),
        (lambda: sample_plan(np.random.default_rng(0), "two_object", {("red", "cube")}), "too few"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- metadata -----------------------------------------------------------------------------------------------


@given(st.sampled_from(SPACE))
def test_metadata_round_trip(description):
    record = json.loads(json.dumps(description.to_metadata()))
    assert Description.from_metadata(record) == description
    assert parse(record["prompt"]) == description
    assert ("exclude" in record) == (description.tag == "counting")


def test_metadata_by_hand():
    prompt = "a photo of a dog right of a teddy bear"
    assert position("dog", "right of", "teddy bear").to_metadata(prompt) == {
        "tag": "position",
        "include": [
            {"class": "teddy bear", "count": 1},
            {"class": "dog", "count": 1, "position": ["right of", 0]},
        ],
        "prompt": prompt,
    }
    assert counting("cube", 2).to_metadata()["exclude"] == [{"class": "cube", "count": 3}]


def test_geneval_records_pass_through_unchanged():
    file = Path(os.environ.get("POCKET_DATA", REPOSITORY / ".." / "shared" / "data"), GENEVAL)
    if not file.is_file():
        pytest.skip(f"GenEval's metadata is not here: set POCKET_DATA to the folder that holds {GENEVAL}")
    lines = file.read_text().splitlines()
    assert len(lines) == 553
    for line in lines:
        record = json.loads(line)
        again = Description.from_metadata(record).to_metadata(record["prompt"])
        assert json.dumps(again) == json.dumps(record)


# --- truth --------------------------------------------------------------------------------------------------


def geneval_relations(box_a, box_b):
    """An independent reading of GenEval's `relative_position`, in numpy."""
    corners = np.array([box_a, box_b], dtype=np.float64).reshape(2, 2, 2)
    (center_a, center_b), (size_a, size_b) = corners.mean(axis=1), np.abs(np.diff(corners, axis=1))[:, 0]
    offset = center_a - center_b
    revised = np.maximum(np.abs(offset) - 0.1 * (size_a + size_b), 0) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return set()
    x, y = revised / np.linalg.norm(offset)
    names = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in names.items() if holds}


@pytest.mark.parametrize(
    ("box_a", "held"),
    [
        ((0, 40, 20, 60), {"left of"}),
        ((80, 40, 100, 60), {"right of"}),
        ((40, 0, 60, 20), {"above"}),
        ((40, 80, 60, 100), {"below"}),
        ((0, 0, 20, 20), {"left of", "above"}),
        ((80, 80, 100, 100), {"right of", "below"}),
        ((40, 40, 60, 60), set()),
        ((44, 40, 64, 60), set()),  # offset 4 = 0.1 (20 + 20): shortened to nothing
        ((45, 40, 65, 60), set()),  # (5 - 4) / 5 = 0.2 of the offset is left
        ((47.9, 40, 67.9, 60), set()),  # (7.9 - 4) / 7.9 < 0.5; by the shortened norm it would be 1
        ((48.1, 40, 68.1, 60), {"right of"}),  # (8.1 - 4) / 8.1 > 0.5
        ((0, 25, 20, 45), {"left of"}),  # 36 and 11 of 42.7: left only
        ((20, 30, 40, 50), {"left of"}),
        ((30, 30, 50, 50), set()),  # diagonal and near: 6 / 14.1 each
    ],
)
def test_relations_by_hand(box_a, held):
    target = (40, 40, 60, 60)
    assert relations(box_a, target) == geneval_relations(box_a, target) == held
    assert exact_relation(box_a, target) == (next(iter(held)) if len(held) == 1 else None)


coordinates = st.one_of(st.integers(0, 64), st.floats(0, 64, allow_nan=False, width=32))
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)


@given(boxes, boxes)
@settings(max_examples=500, deadline=None)
def test_relations_against_twin(box_a, box_b):
    held = relations(box_a, box_b)
    assert held == geneval_relations(box_a, box_b)
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert relations(box_b, box_a) == {opposite[relation] for relation in held}
    assert not {"left of", "right of"} <= held and not {"above", "below"} <= held


def test_relations_need_half_of_the_offset():
    for degrees in range(0, 360, 5):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        far = (1e4 * x - 1, 1e4 * y - 1, 1e4 * x + 1, 1e4 * y + 1)
        if min(abs(abs(x) - 0.5), abs(abs(y) - 0.5)) > 1e-2:
            expected = {"left of"} if x < -0.5 else {"right of"} if x > 0.5 else set()
            expected |= {"above"} if y < -0.5 else {"below"} if y > 0.5 else set()
            assert relations(far, (-1, -1, 1, 1)) == expected


LEFT, MIDDLE, RIGHT, CORNER = (0, 40, 20, 60), (40, 40, 60, 60), (80, 40, 100, 60), (0, 0, 20, 20)
RED_CUBE, BLUE_CUBE = ("cube", "red", LEFT), ("cube", "blue", RIGHT)
RED_CONE, GREEN_CONE = ("cone", "red", MIDDLE), ("cone", "green", CORNER)


@pytest.mark.parametrize(
    ("description", "objects", "true"),
    [
        (single_object("cube"), [], False),
        (single_object("cube"), [RED_CONE], False),
        (single_object("cube"), [RED_CUBE], True),
        (single_object("cube"), [RED_CUBE, BLUE_CUBE, RED_CONE], True),
        (counting("cube", 2), [RED_CUBE], False),
        (counting("cube", 2), [RED_CUBE, BLUE_CUBE], True),
        (counting("cube", 2), [RED_CUBE, BLUE_CUBE, RED_CONE], True),
        (counting("cube", 2), [RED_CUBE, BLUE_CUBE, RED_CUBE], False),
        (colors("red", "cube"), [RED_CUBE], True),
        (colors("red", "cube"), [BLUE_CUBE, RED_CONE], False),
        (colors("red", "cube"), [RED_CUBE, BLUE_CUBE], True),
        (colors("red", "cube"), [BLUE_CUBE, RED_CUBE], False),  # GenEval looks at the first cube only
        (two_object("cube", "cone"), [RED_CONE, RED_CUBE], True),
        (two_object("cube", "cone"), [RED_CUBE, BLUE_CUBE], False),
        (color_attr(("red", "cube"), ("green", "cone")), [RED_CUBE, GREEN_CONE], True),
        (color_attr(("green", "cube"), ("red", "cone")), [RED_CUBE, GREEN_CONE], False),
        (position("cube", "left of", "cone"), [RED_CUBE, RED_CONE], True),
        (position("cone", "right of", "cube"), [RED_CUBE, RED_CONE], True),
        (position("cone", "left of", "cube"), [RED_CUBE, RED_CONE], False),
        (position("cube", "above", "cone"), [RED_CUBE, RED_CONE], False),
        (position("cube", "left of", "cone"), [RED_CUBE], False),
        (position("cube", "left of", "cone"), [RED_CONE], False),
    ],
)
def test_describes_by_hand(description, objects, true):
    assert describes(description, objects) is true


def test_describes_exactly():
    corner_cone = [("cone", "red", MIDDLE), ("cube", "red", CORNER)]
    for relation in ("left of", "above"):
        assert describes(position("cube", relation, "cone"), corner_cone)
        assert not describes(position("cube", relation, "cone"), corner_cone, exact=True)
    assert describes(position("cube", "left of", "cone"), [RED_CUBE, RED_CONE], exact=True)


def test_describes_every_pair_of_a_plural_position():
    both_left = Description("position", (Clause("cone"), Clause("cube", 2, position=("left of", 0))))
    assert not describes(both_left, [RED_CUBE, BLUE_CUBE, RED_CONE])
    assert describes(both_left, [RED_CUBE, ("cube", "blue", (1, 40, 21, 60)), RED_CONE])
    assert not describes(both_left, [RED_CUBE, RED_CONE])


# --- plans --------------------------------------------------------------------------------------------------

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
