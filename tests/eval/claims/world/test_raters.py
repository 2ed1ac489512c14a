"""The rows of a label file of our own making, and the sentence where there is none."""

import csv
import json

import pytest

from pocket_diffusers.eval.claims.world.benchmark import BENCHMARK

PROMPT = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}], "prompt": "a photo of a red cat"}


def answer(picture, color, quality):
    return {
        "Input.index": picture, "Input.prompt_id": "0", "Input.caption": PROMPT["prompt"],
        "Input.object_0_name": "cat", "Input.object_1_name": "", "Answer.task-count-0": "1", "Answer.task-count-1": "",
        "Answer.task-color-0": color, "Answer.task-color-1": "", "Answer.task-position-x": "",
        "Answer.task-position-y": "", "Answer.task-quality": quality,
    }  # fmt: skip


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """Two pictures with two raters each; one saw no red cat and was content nevertheless."""
    answers = [
        answer("0_0", "red", "4"),
        answer("0_0", "red", "4"),
        answer("0_1", "gray", "4"),
        answer("0_1", "gray", "1"),
    ]
    folder = tmp_path / "evaluation" / "geneval"
    folder.mkdir(parents=True)
    with (folder / "annotations_clip.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, answers[0])
        writer.writeheader()
        writer.writerows(answers)
    (folder / "evaluation_metadata.jsonl").write_text(json.dumps(PROMPT) + "\n")
    monkeypatch.setenv("POCKET_DATA", str(tmp_path))
    return folder


def test_rows_are_shares_of_agreement(labels, tmp_path):
    ratings, pictures = BENCHMARK.measure("raters", tmp_path)
    assert (ratings.id, ratings.measured, ratings.n) == ("geneval-rules-ratings", 3 / 4, 4)
    assert ratings.rival_measured == 1 / 2, "two raters agree, two do not"
    assert ratings.interval == (0.5, 1), "either picture may be drawn twice"
    assert (pictures.id, pictures.measured, pictures.n) == ("geneval-rules-pictures", 1, 2)


@pytest.mark.parametrize("missing", ["annotations_clip.csv", "evaluation_metadata.jsonl"])
def test_labels_that_are_not_here_are_asked_for(labels, tmp_path, missing):
    (labels / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing} is missing: set POCKET_DATA to a folder with"):
        BENCHMARK.run(["raters"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_prompts_are_named(labels, tmp_path):
    (labels / "evaluation_metadata.jsonl").write_text("{")
    with pytest.raises(ValueError, match="evaluation_metadata.jsonl is truncated or no file of JSON lines"):
        BENCHMARK.measure("raters", tmp_path)
