"""GenEval's rules against hand-made cases and a naive twin."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pocket_diffusers.eval.geneval.rules import GenEvalSettings, judge_picture, kept_objects, overlap
from pocket_diffusers.pipelines.outputs import Detections

BOX = (0, 0, 10, 10)


def found(*objects):
    """Detections of (label, score, box, color); what is left out is 0.95, `BOX` and None."""
    full = [(*each, *("", 0.95, BOX, None)[len(each) :]) for each in objects]
    labels, scores, boxes, colors = zip(*full, strict=True) if full else ((), (), (), ())
    return Detections(labels, scores, boxes, None, colors)


def record(tag, *include, exclude=()):
    return {"tag": tag, "include": list(include), "exclude": list(exclude), "prompt": "a photo"}


def clause(label, count=1, **more):
    return {"class": label, "count": count, **more}


ONE = record("single_object", clause("cat"))
TWO = record("two_object", clause("cat"), clause("dog"))
THREE = record("counting", clause("cat", 3), exclude=[clause("cat", 4)])
LEFT = record("position", clause("dog"), clause("cat", position=["left of", 0]))
COLORS = record("color_attr", clause("cat", color="red"), clause("dog", color="blue"))


@pytest.mark.parametrize(
    ("metadata", "objects", "correct"),
    [
        (ONE, [("cat",)], True),
        (ONE, [("dog",)], False),
        (ONE, [], False),
        (ONE, [("cat",), ("cat",), ("dog",)], True),  # nothing is excluded
        (TWO, [("cat",), ("dog",)], True),
        (TWO, [("cat",), ("cat",)], False),
        (THREE, [("cat",)] * 3, True),
        (THREE, [("cat",)] * 2, False),
        (THREE, [("cat",)] * 4, False),  # one too many
        (THREE, [("cat",)] * 3 + [("cat", 0.9)], True),  # 0.9 is not above 0.9: the fourth does not count
        (THREE, [("cat",)] * 3 + [("cat", 0.5)], True),
        (THREE, [("cat",)] * 2 + [("cat", 0.89)], False),
        (ONE, [("cat", 0.3)], False),  # 0.3 is not above 0.3
        (ONE, [("cat", 0.301)], True),
        (TWO, [("cat", 0.4), ("dog", 0.4)], True),  # 0.9 is for counting only
    ],
)
def test_include_count_and_exclude(metadata, objects, correct):
    verdict = judge_picture(metadata, found(*objects))
    assert verdict.correct is correct and bool(verdict.reason) is not correct


def test_thresholds_are_float32_as_detectors_give_them():
    """0.3 in float32 is 0.300000012, above 0.3 in float64, and still not above the threshold."""
    assert not judge_picture(ONE, found(("cat", 0.30000001192092896))).correct


@pytest.mark.parametrize(
    ("cat", "dog", "correct"),
    [
        ("red", "blue", True),
        ("blue", "red", False),
        ("red", "red", False),
        ("red", None, False),
    ],
)
def test_each_clause_has_its_own_color(cat, dog, correct):
    assert judge_picture(COLORS, found(("cat", 0.9, BOX, cat), ("dog", 0.9, BOX, dog))).correct is correct


def test_color_is_read_of_the_best_objects_only():
    """A red cat with a lower score does not save a picture whose best cat is blue."""
    red = record("colors", clause("cat", color="red"))
    assert not judge_picture(red, found(("cat", 0.8, BOX, "red"), ("cat", 0.9, BOX, "blue"))).correct
    assert judge_picture(red, found(("cat", 0.8, BOX, "blue"), ("cat", 0.9, BOX, "red"))).correct
    both = record("colors", clause("cat", 2, color="red"))
    verdict = judge_picture(both, found(("cat", 0.8, BOX, "blue"), ("cat", 0.9, BOX, "red")))
    assert verdict == (False, "expected red cat>=2, found 1; and 1 red, 1 blue")


def test_colors_must_have_been_read_where_they_are_asked_for():
    blind = Detections(("cat",), (0.9,), (BOX,))
    assert judge_picture(ONE, blind).correct
    with pytest.raises(ValueError, match="no colors, but a clause asks for one"):
        judge_picture(COLORS, blind)


def at(x, y, width=10, height=10):
    """A box around a centre."""
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


@pytest.mark.parametrize(
    ("cat", "holds"),
    [
        (at(-100, 0), {"left of"}),
        (at(100, 0), {"right of"}),
        (at(0, -100), {"above"}),  # y runs down
        (at(0, 100), {"below"}),
        (at(-100, -100), {"left of", "above"}),  # two at once: 0.69 of the offset either way
        (at(100, 100), {"right of", "below"}),
        (at(0, 0), set()),  # exactly on top of each other
        (at(2, 2), set()),  # within a tenth of the summed sizes
        (at(2, 0), set()),
        (at(4, 0), set()),  # 4 less 2, of 4, is exactly one half
        (at(4.01, 0), {"right of"}),
        (at(100, 60), {"right of"}),  # 58 of 116.6 is less than one half
        (at(100, 0, 1000, 1000), set()),  # sizes count, not only offsets
    ],
)
def test_position(cat, holds):
    for relation in ("left of", "right of", "above", "below"):
        metadata = record("position", clause("dog"), clause("cat", position=[relation, 0]))
        verdict = judge_picture(metadata, found(("dog", 0.9, at(0, 0)), ("cat", 0.9, cat)))
        assert verdict.correct is (relation in holds), (relation, verdict.reason)


def test_position_needs_every_pair_and_its_target():
    dogs = [("dog", 0.9, at(0, 0)), ("dog", 0.8, at(-200, 0))]
    assert judge_picture(LEFT, found(*dogs, ("cat", 0.9, at(-100, 0)))).correct  # the best dog is the target
    both = record("position", clause("dog", 2), clause("cat", position=["left of", 0]))
    assert not judge_picture(both, found(*dogs, ("cat", 0.9, at(-100, 0)))).correct
    assert judge_picture(both, found(*dogs, ("cat", 0.9, at(-300, 0)))).correct
    verdict = judge_picture(LEFT, found(("cat", 0.9, at(-100, 0))))
    assert verdict.reason == "expected dog>=1, found 0\nno target for cat to be left of"


def test_position_is_not_asked_of_the_wrong_color():
    metadata = record("position", clause("dog"), clause("cat", color="red", position=["left of", 0]))
    verdict = judge_picture(metadata, found(("dog", 0.9, BOX, "red"), ("cat", 0.9, at(-100, 0), "blue")))
    assert verdict.reason == "expected red cat>=1, found 0; and 1 blue"


def test_sixteen_of_a_class_are_kept():
    many = record("counting", clause("cat", 17))
    assert not judge_picture(many, found(*[("cat",)] * 20)).correct
    assert judge_picture(many, found(*[("cat",)] * 20), GenEvalSettings(max_objects=17)).correct
    objects = found(*[("cat", 0.9 + index / 1000) for index in range(20)])
    boxes = kept_objects(objects, "single_object", GenEvalSettings(max_objects=2))
    assert len(boxes["cat"]) == 2


def test_best_come_first_and_later_of_equals():
    objects = found(("cat", 0.5, at(1, 0)), ("cat", 0.9, at(2, 0)), ("cat", 0.9, at(3, 0)))
    kept = kept_objects(objects, "single_object", GenEvalSettings())["cat"]
    assert [thing.box for thing in kept] == [at(3, 0), at(2, 0), at(1, 0)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("cat", "dog")), st.integers(8, 31)), unique_by=lambda one: one[1]))
def test_scores_that_differ_come_in_the_official_order(drawn):
    """Of each class by itself, as the official code sorts it: numpy's default, reversed, cut to the best sixteen."""
    objects = found(*[(label, score / 32, at(index, 0)) for index, (label, score) in enumerate(drawn)])
    kept = kept_objects(objects, "single_object", GenEvalSettings())
    for label in {label for label, _ in drawn}:
        scores = np.array([score / 32 for name, score in drawn if name == label], np.float32)
        boxes = [at(index, 0) for index, (name, _) in enumerate(drawn) if name == label]
        order = np.argsort(scores)[::-1]
        order = order[scores[order] > 0.3][:16]
        assert [thing.box for thing in kept.get(label, ())] == [boxes[index] for index in order]


@pytest.mark.parametrize("count", [2, 16, 17, 300])
def test_of_equal_scores_the_later_comes_first_however_many_there_are(count):
    """Scores that differ in float64 alone are equal."""
    near = [("cat", 0.5 + index * 1e-12, at(index, 0)) for index in range(count)]
    kept = kept_objects(found(*near), "single_object", GenEvalSettings(max_objects=count))["cat"]
    assert [thing.box for thing in kept] == [at(index, 0) for index in reversed(range(count))]


def test_a_choice_among_equals_is_all_that_their_order_decides():
    red = record("colors", clause("cat", color="red"))
    pair = [("cat", 0.9, BOX, "red"), ("cat", 0.9, BOX, "blue")]
    assert [judge_picture(red, found(*order)).correct for order in (pair, pair[::-1])] == [False, True]
    both = record("colors", clause("cat", 2))
    assert all(judge_picture(both, found(*order)).correct for order in (pair, pair[::-1]))


def test_overlapping_objects_are_dropped_only_when_asked():
    objects = found(("cat", 0.95, (0, 0, 9, 9)), ("cat", 0.94, (0, 0, 9, 9)), ("cat", 0.93, (50, 0, 59, 9)))
    assert judge_picture(THREE, objects).correct
    assert not judge_picture(THREE, objects, GenEvalSettings(max_overlap=0.9)).correct
    assert overlap((0, 0, 9, 9), (5, 0, 14, 9)) == pytest.approx(50 / 150)  # 10 pixels a side
    assert overlap((0, 0, 9, 9), (20, 0, 29, 9)) == 0


@pytest.mark.parametrize(
    ("setting", "value"), [("threshold", 1.5), ("counting_threshold", -0.1), ("max_objects", 0), ("max_overlap", 0)]
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must .*not {value}"):
        GenEvalSettings(**{setting: value})


# A naive twin, in exact fractions


def twin_relations(a, b):
    """A part of the offset counts when twice of what is left of it exceeds the whole offset's length."""
    middle = [[Fraction(box[axis] + box[axis + 2]) / 2 for axis in (0, 1)] for box in (a, b)]
    size = [[Fraction(box[axis + 2] - box[axis]) for axis in (0, 1)] for box in (a, b)]
    offset = [middle[0][axis] - middle[1][axis] for axis in (0, 1)]
    left_over = [max(abs(offset[axis]) - (size[0][axis] + size[1][axis]) / 10, 0) for axis in (0, 1)]
    if max(left_over) < Fraction(1, 1000):
        return set()
    square = offset[0] ** 2 + offset[1] ** 2
    assume(all(abs(4 * part**2 - square) > Fraction(1, 10**6) for part in left_over))  # rounding decides there
    names = (("left of", "right of"), ("above", "below"))
    return {names[axis][offset[axis] > 0] for axis in (0, 1) if 4 * left_over[axis] ** 2 > square}


def twin_verdict(metadata, detections):
    bar = 0.9 if metadata["tag"] == "counting" else 0.3
    things = list(zip(detections.labels, detections.scores, detections.boxes, detections.colors, strict=True))
    best = sorted((thing for thing in things if thing[1] > bar), key=lambda thing: -thing[1])
    groups, good = [], True
    for clause in metadata["include"]:
        mine = [thing for thing in best if thing[0] == clause["class"]][: clause["count"]]
        right = len(mine) == clause["count"]
        right = right and all(thing[3] == clause["color"] for thing in mine if "color" in clause)
        if right and "position" in clause:
            relation, target = clause["position"]
            others = groups[target]
            right = others is not None and all(
                relation in twin_relations(thing[2], other[2]) for thing in mine for other in others
            )
        groups.append(mine if right else None)
        good = good and right
    for clause in metadata["exclude"]:
        good = good and sum(thing[0] == clause["class"] for thing in best) < clause["count"]
    return good


sides = st.integers(-40, 40)
boxes = st.tuples(sides, sides, st.integers(0, 30), st.integers(0, 30)).map(
    lambda box: (box[0] / 4, box[1] / 4, box[0] / 4 + box[2], box[1] / 4 + box[3])
)
labels = st.sampled_from(("cat", "dog"))
things = st.lists(st.tuples(labels, boxes, st.sampled_from(("red", "blue", None))), max_size=6)
clauses = st.fixed_dictionaries(
    {"class": labels, "count": st.integers(1, 3)}, optional={"color": st.sampled_from(("red", "blue"))}
)
relation = st.sampled_from(("left of", "right of", "above", "below"))


@settings(deadline=None)
@given(boxes, boxes, relation)
def test_position_rule_equals_its_twin(a, b, relation):
    metadata = record("position", clause("dog"), clause("cat", position=[relation, 0]))
    verdict = judge_picture(metadata, found(("cat", 0.9, a), ("dog", 0.9, b)))
    assert verdict.correct is (relation in twin_relations(a, b))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(("counting", "color_attr")),
    clauses,
    st.tuples(clauses, st.none() | relation),
    st.none() | clauses,
    things,
    st.permutations([0.1, 0.35, 0.5, 0.8, 0.92, 0.97]),
)
def test_verdict_equals_its_twin(tag, first, second, exclude, things, scores):
    clause, relation = second
    placed = clause if relation is None else {**clause, "position": [relation, 0]}
    metadata = record(tag, first, placed, exclude=[] if exclude is None else [exclude])
    objects = found(*[(label, score, box, color) for (label, box, color), score in zip(things, scores, strict=False)])
    assert judge_picture(metadata, objects).correct is twin_verdict(metadata, objects)
