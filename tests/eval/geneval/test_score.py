"""GenEval's score: the means, the interval, complete runs, and PocketWorld's ground truth."""

import json
from itertools import product

import numpy as np
import pytest

from pocket_diffusers.eval.geneval.replay import SeenPicture
from pocket_diffusers.eval.geneval.score import (
    OFFICIAL,
    Protocol,
    TagSize,
    pocketworld_protocol,
    score_pictures,
    verdicts_of,
)
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS
from pocket_diffusers.training.datasets.pocketworld.prompts import load_prompts
from pocket_diffusers.training.datasets.pocketworld.records import pictures
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, SHAPES
from pocket_diffusers.training.datasets.pocketworld.truth import describes

NOTHING = Detections((), (), (), None, ())
CAT = Detections(("cat",), (0.9,), ((0, 0, 9, 9),), None, ("red",))
SMALL = Protocol("small", "eye", {"single_object": TagSize(2, 2), "colors": TagSize(1, 4)}, ("cat", "dog"), ("red",))


def seen(tag, prompt, correct, detector="eye", weights=None):
    metadata = {"tag": tag, "include": [{"class": "cat", "count": 1}], "prompt": prompt}
    return SeenPicture(metadata, CAT if correct else NOTHING, detector, weights)


def small_run():
    """single_object: 1 of 2 and 2 of 2 correct; colors: 1 of 4."""
    first = [seen("single_object", f"cat {number}", correct) for number, correct in ((0, 1), (0, 0), (1, 1), (1, 1))]
    return first + [seen("colors", "red cat", correct) for correct in (0, 1, 0, 0)]


def test_overall_is_the_mean_of_the_tags_not_of_the_pictures():
    score = score_pictures(small_run(), SMALL)
    assert score.overall == pytest.approx((3 / 4 + 1 / 4) / 2)
    single = score.tags["single_object"]
    assert (single.score, single.correct, single.pictures, single.prompts) == (3 / 4, 3, 4, 2)
    assert score.images_correct == 4 / 8
    assert score.prompts_correct == 1.0  # each of the three prompts has a correct picture
    assert (score.asked, score.scored, score.failed) == (8, 8, 0)
    assert score.tags["colors"].interval is None and score.interval is None  # one prompt has no spread
    json.dumps(score.to_record())
    assert score.to_record()["value"] == score.overall


def test_a_substitute_detector_is_another_metric():
    assert score_pictures(small_run(), SMALL).metric == "small"
    other = [SeenPicture(each.metadata, each.detections, "hf", "some/model") for each in small_run()]
    score = score_pictures(other, SMALL)
    assert (score.metric, score.detector, score.weights) == ("small_hf", "hf", "some/model")
    assert OFFICIAL.metric("hf") == "geneval_hf" and OFFICIAL.metric("mmdet") == "geneval"
    assert pocketworld_protocol().metric("ascan-nano-judge") == "geneval_pocketworld"
    with pytest.raises(ValueError, match="one detector, but the pictures were seen by eye .None., hf .some/model."):
        score_pictures(small_run() + other, SMALL)


def test_an_incomplete_run_is_an_error_unless_allowed_or_official():
    run = small_run()[1:]
    with pytest.raises(ValueError, match="no complete run of small: 1 of 8 pictures are missing"):
        score_pictures(run, SMALL)
    score = score_pictures(run, SMALL, allow_failures=True)
    assert (score.scored, score.failed, score.tags["single_object"].score) == (7, 1, 2 / 3)
    assert score_pictures(run, SMALL, "official").tags["single_object"].score == 2 / 3
    unreadable = [SeenPicture(run[0].metadata, None, "eye"), *run]
    with pytest.raises(ValueError, match="1 of 8 pictures are missing or unreadable"):
        score_pictures(unreadable, SMALL)
    assert score_pictures(unreadable, SMALL, allow_failures=True).failed == 1


def test_official_takes_the_mean_over_the_tags_that_are_there():
    colors = small_run()[4:]
    assert score_pictures(colors, SMALL, "official").overall == 1 / 4
    with pytest.raises(ValueError, match="no picture of tag single_object"):
        score_pictures(colors, SMALL, allow_failures=True)


def test_too_many_pictures_or_prompts_are_no_complete_run():
    with pytest.raises(ValueError, match="3 pictures of one prompt of tag single_object, not 2"):
        score_pictures([*small_run(), seen("single_object", "cat 0", True)], SMALL)
    with pytest.raises(ValueError, match="3 prompts of tag single_object, not 2"):
        score_pictures([*small_run(), seen("single_object", "cat 9", True)], SMALL, allow_failures=True)
    with pytest.raises(ValueError, match="unknown tag counting"):
        score_pictures([*small_run(), seen("counting", "cat 9", True)], SMALL, allow_failures=True)


def test_names_that_the_protocol_does_not_know_are_an_error():
    mouse = Detections(("mouse",), (0.9,), ((0, 0, 9, 9),), None, ("red",))
    run = [SeenPicture(small_run()[0].metadata, mouse, "eye"), *small_run()[1:]]
    with pytest.raises(ValueError, match="the detector says 'mouse', a name that small does not know"):
        score_pictures(run, SMALL)
    assert score_pictures(run, SMALL, "official").tags["single_object"].correct == 2
    bird = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "gray"}], "prompt": "a gray cat"}
    with pytest.raises(ValueError, match="a prompt asks for 'gray'"):
        score_pictures([SeenPicture(bird, CAT, "eye")], SMALL)


def test_bad_requests():
    with pytest.raises(ValueError, match="compat must be one of fixed, official.*not 'nice'"):
        score_pictures(small_run(), SMALL, "nice")
    with pytest.raises(ValueError, match="seen by none"):
        score_pictures([], SMALL)
    with pytest.raises(ValueError, match="none of the 1 pictures could be read"):
        score_pictures([SeenPicture(small_run()[0].metadata, None, "eye")], SMALL, "official")


@pytest.mark.parametrize("images", [1, 4])
def test_interval_is_of_prompts_not_of_pictures(images):
    """Four equal pictures of a prompt say no more than one: the normal interval of a share of 100 prompts."""
    protocol = Protocol("wide", "eye", {"single_object": TagSize(100, images)}, ("cat",), ("red",))
    run = [seen("single_object", f"cat {number}", number < 50) for number in range(100) for _ in range(images)]
    low, high = score_pictures(run, protocol).interval
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.01)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.25 / 100), rel=0.1)


def test_interval_of_the_mean_of_tags():
    """Independent tags of 100 and 25 prompts: the variance of the mean is a quarter of the summed variances."""
    sizes = {"single_object": 100, "colors": 25}
    protocol = Protocol("two", "eye", {tag: TagSize(size, 1) for tag, size in sizes.items()}, ("cat",), ("red",))
    run = [seen(tag, f"cat {number}", number % 5 == 0) for tag, size in sizes.items() for number in range(size)]
    low, high = score_pictures(run, protocol).interval
    expected = 1.96 * np.sqrt(0.2 * 0.8 * (1 / 100 + 1 / 25) / 4)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.12)
    assert score_pictures(run, protocol).interval == (low, high)


def test_the_official_protocol_is_the_published_one():
    assert OFFICIAL.pictures == 553 * 4 and sum(size.prompts for size in OFFICIAL.tags.values()) == 553
    assert tuple(OFFICIAL.tags) == TAGS and len(OFFICIAL.classes) == 80 and len(OFFICIAL.colors) == 10


def test_records_of_other_settings_have_another_protocol():
    one, worse, official = (
        score_pictures(run, SMALL, compat).to_record()
        for run, compat in (
            (small_run(), "fixed"),
            ([*small_run()[:7], seen("colors", "red cat", True)], "fixed"),
            (small_run(), "official"),
        )
    )
    assert worse["value"] - one["value"] == pytest.approx(1 / 8) and worse["protocol_hash"] == one["protocol_hash"]
    assert official["protocol_hash"] != one["protocol_hash"] and official["protocol"]["compat"] == "official"


# PocketWorld


def perfect(record):
    """Exactly what a prompt asks for, at places where its relation holds."""
    places = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
    labels, boxes, colors = [], [], []
    for clause in record["include"]:
        x, y = places[clause["position"][0]] if "position" in clause else (0, 0)
        labels += [clause["class"]] * clause["count"]
        boxes += [(60 * x, 60 * y, 60 * x + 9, 60 * y + 9)] * clause["count"]
        colors += [clause.get("color", "red")] * clause["count"]
    return Detections(labels, (0.99,) * len(labels), boxes, None, colors)


def test_a_perfect_run_of_pocketworld_s_prompts_scores_one():
    prompts = load_prompts()
    protocol = pocketworld_protocol()
    assert protocol.pictures == sum(record["n_images"] for record in prompts)
    assert sum(size.prompts for size in protocol.tags.values()) == len(prompts)
    run = [
        SeenPicture(record, perfect(record), "ascan-nano-judge")
        for record in prompts
        for _ in range(record["n_images"])
    ]
    score = score_pictures(run, protocol)
    assert (score.metric, score.overall, score.interval) == ("geneval_pocketworld", 1.0, (1.0, 1.0))
    assert list(score.tags) == list(TAGS) and score.scored == score.asked
    with pytest.raises(ValueError, match="1 of .* pictures are missing"):
        score_pictures(run[:-1], protocol)


def test_a_part_of_the_prompts_is_a_protocol_of_its_own():
    seen_only = [record for record in load_prompts() if record["seen"]]
    protocol = pocketworld_protocol(seen_only, "geneval_pocketworld_seen")
    assert 0 < protocol.pictures < pocketworld_protocol().pictures
    with pytest.raises(ValueError, match="n_images of tag colors is 4 and 5"):
        pocketworld_protocol([{"tag": "colors", "n_images": 4}, {"tag": "colors", "n_images": 5}])


@pytest.fixture(scope="module")
def world():
    return list(pictures("test", 64, range(120)))


def run_of(world, descriptions):
    captions = [description.to_metadata(str(number)) for number, description in enumerate(descriptions)]
    return [
        SeenPicture(caption, ground_truth(picture), "truth") for caption, picture in zip(captions, world, strict=True)
    ]


def test_ground_truth_shows_what_its_captions_say(world):
    run = run_of(world, [picture.description for picture in world])
    score = score_pictures(run, pocketworld_protocol(), "official")
    assert score.overall == 1.0 and set(score.tags) == set(TAGS)
    assert score.metric == "geneval_pocketworld_truth"


def test_shuffled_captions_are_near_chance_and_judged_as_the_captions_module_does(world):
    """The first objects in the scene are the last by equal scores: only sets of one object a class are held equal."""
    overall = []
    for shift in (7, 50):
        others = [world[(number + shift) % len(world)].description for number in range(len(world))]
        run = run_of(world, others)
        overall.append(score_pictures(run, pocketworld_protocol(), "official").overall)
        for picture, other, verdict in zip(world, others, verdicts_of(run), strict=True):
            shapes = [thing.shape for thing in picture.scene.objects]
            if len(set(shapes)) == len(shapes):
                things = zip(picture.scene.objects, picture.boxes.tolist(), strict=True)
                truth = describes(other, [(thing.shape, thing.color, box) for thing, box in things])
                assert verdict.correct is truth
    assert np.mean(overall) < 0.15


def test_truth_fits_its_masks(world):
    for picture in world[:20]:
        truth = ground_truth(picture)
        assert set(truth.labels) <= set(SHAPES) and set(truth.colors) <= set(COLORS)
        for mask, (x0, y0, x1, y1) in zip(truth.masks, truth.boxes, strict=True):
            rows, columns = np.nonzero(mask.decode())
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_every_color_and_shape_is_told_from_every_other():
    """The judge's fifty classes, each against each."""
    pairs = list(product(COLORS, SHAPES))
    for color, shape in pairs[::7]:
        metadata = {"tag": "colors", "include": [{"class": shape, "count": 1, "color": color}], "prompt": "x"}
        run = [
            SeenPicture(metadata, Detections((label,), (1.0,), ((0, 0, 9, 9),), None, (tint,)), "eye")
            for tint, label in pairs
        ]
        assert [verdict.correct for verdict in verdicts_of(run)] == [pair == (color, shape) for pair in pairs]
