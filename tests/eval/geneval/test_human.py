"""GenEval's rules against people: hand-made answers, and the published label file where it is there."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pocket_diffusers.eval.geneval.classes import GENEVAL_CLASSES
from pocket_diffusers.eval.geneval.human import Rating, human_agreement, rating_verdict, read_prompts, read_ratings

REPOSITORY = Path(__file__).resolve().parents[3]
GENEVAL = "evaluation/geneval"
CAT = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}], "prompt": "a photo of a red cat"}
LEFT = {
    "tag": "position",
    "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}],
    "prompt": "a photo of a cat left of a dog",
}
THREE = {
    "tag": "counting",
    "include": [{"class": "cat", "count": 3}],
    "exclude": [{"class": "cat", "count": 4}],
    "prompt": "a photo of three cats",
}


def rating(metadata, counts, colors=None, place=(), fits=True):
    names = tuple(clause["class"] for clause in metadata["include"])
    return Rating("0_0", metadata, names, counts, colors or (("white",),) * len(names), frozenset(place), fits)


@pytest.mark.parametrize(
    ("answers", "correct"),
    [
        (rating(CAT, (1,), (("red",),)), True),
        (rating(CAT, (1,), (("black", "red"),)), True),
        (rating(CAT, (1,), (("gray",),)), False),
        (rating(CAT, (0,), ((),)), False),
        (rating(LEFT, (1, 1), place={"left"}), True),
        (rating(LEFT, (1, 1), place={"left", "below"}), True),
        (rating(LEFT, (1, 1), place={"below"}), False),
        (rating(LEFT, (1, 1)), False),
        (rating(LEFT, (0, 1)), False),
        (rating(THREE, (3,)), True),
        (rating(THREE, (2,)), False),
        (rating(THREE, (5,)), False),
    ],
)
def test_verdict_on_answers(answers, correct):
    assert rating_verdict(answers) is correct


def test_agreement_is_counted():
    """One picture with three raters, of whom two like it, and one of them saw no red cat."""
    red, gray = (("red",),), (("gray",),)
    votes = [rating(CAT, (1,), red), rating(CAT, (1,), gray), rating(CAT, (1,), gray, fits=False)]
    found = human_agreement(votes)
    assert found.ratings == pytest.approx(2 / 3) == found.by_tag["colors"]
    assert found.pictures == 0.0  # most raters like it, most of the verdicts do not
    assert found.raters == pytest.approx(1 / 3)
    assert found.interval is None, "of a single picture"
    assert (found.n_ratings, found.n_pictures) == (3, 1)
    with pytest.raises(ValueError, match="ratings is empty"):
        human_agreement([])


COLUMNS = {
    "Input.index": "0_1",
    "Input.prompt_id": "0",
    "Input.caption": "a photo of a red cat",
    "Input.object_0_name": "cat",
    "Input.object_1_name": "",
    "Answer.task-count-0": "2",
    "Answer.task-count-1": "",
    "Answer.task-color-0": "red|white",
    "Answer.task-color-1": "",
    "Answer.task-position-x": "",
    "Answer.task-position-y": "",
    "Answer.task-quality": "4",
    "Answer.task-objects": "cat\rcarpet",
}


def write(path, **changes):
    row = {**COLUMNS, **changes}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerows([row, row])
    return path


def test_a_label_file_is_read_with_its_carriage_returns(tmp_path):
    ratings = read_ratings(write(tmp_path / "labels.csv"), [CAT])
    assert ratings == [Rating("0_1", CAT, ("cat",), (2,), (("red", "white"),), frozenset(), True)] * 2


@pytest.mark.parametrize(
    ("column", "cell", "complaint"),
    [
        ("Input.prompt_id", "7", "row 1 of labels.csv has a prompt or an answer that the form does not know"),
        ("Answer.task-quality", "good", "row 1 of labels.csv has a prompt or an answer"),
        ("Input.caption", "a dog", "row 1 of labels.csv is about 'a dog'"),
        ("Input.object_0_name", "dog", "asks about dog, which is not what its prompt names"),
    ],
)
def test_bad_label_files(tmp_path, column, cell, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_ratings(write(tmp_path / "labels.csv", **{column: cell}), [CAT])


def test_a_missing_column_or_file(tmp_path):
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="labels.csv has no column Answer.task-color-0"):
        read_ratings(tmp_path / "labels.csv", [CAT])
    with pytest.raises(FileNotFoundError, match="none.csv is missing"):
        read_ratings(tmp_path / "none.csv", [CAT])


# The published labels


@pytest.fixture(scope="module")
def folder():
    folder = Path(os.environ.get("POCKET_DATA", REPOSITORY / ".." / "shared" / "data"), GENEVAL)
    if not (folder / "annotations_clip.csv").is_file():
        pytest.skip(f"GenEval's labels are not here: set POCKET_DATA to the folder that holds {GENEVAL}")
    return folder


@pytest.fixture(scope="module")
def ratings(folder):
    return read_ratings(folder / "annotations_clip.csv", read_prompts(folder / "evaluation_metadata.jsonl"))


def test_the_rules_agree_with_people_more_than_people_with_each_other(ratings):
    found = human_agreement(ratings)
    assert (found.n_ratings, found.n_pictures) == (2000, 400)
    assert found.ratings == pytest.approx(0.8295) and found.pictures == pytest.approx(0.9125)
    assert found.interval == pytest.approx((0.8295 - 1.96 * 0.0096, 0.8295 + 1.96 * 0.0096), abs=0.003)
    assert found.raters == pytest.approx(0.7105, abs=1e-4) and found.ratings > found.raters
    assert set(found.by_tag) == {"single_object", "two_object", "counting", "colors", "position", "color_attr"}
    assert min(found.by_tag.values()) > 0.75


def test_wrong_rules_agree_less(ratings):
    """Mirrored places and a count that is off by one show in the agreement."""
    mirror = {"left": "right", "right": "left", "above": "below", "below": "above"}
    right = human_agreement(ratings).by_tag
    mirrored = [replace(each, place=frozenset(map(mirror.get, each.place))) for each in ratings]
    assert human_agreement(mirrored).by_tag["position"] < right["position"] - 0.05
    fewer = [replace(each, counts=tuple(max(0, count - 1) for count in each.counts)) for each in ratings]
    assert human_agreement(fewer).by_tag["counting"] < right["counting"] - 0.2


def test_the_names_are_those_of_the_published_list(folder):
    names = (folder / "object_names.txt").read_text().split("\n")
    assert tuple(filter(None, names)) == GENEVAL_CLASSES
