"""Descriptions: GenEval's metadata, there and back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.pocketworld.caption_parsing import parse
from pocket_diffusers.training.datasets.pocketworld.captions import caption
from pocket_diffusers.training.datasets.pocketworld.descriptions import (
    TAGS,
    Clause,
    Description,
    counting,
    position,
)
from pocket_diffusers.training.datasets.pocketworld.plans import sample_plan
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS

REPOSITORY = Path(__file__).resolve().parents[4]
GENEVAL = Path("evaluation", "geneval", "evaluation_metadata.jsonl")


@given(st.sampled_from(TAGS), st.integers(0, 2**32 - 1))
def test_metadata_round_trip(tag, seed):
    description, _ = sample_plan(np.random.default_rng(seed), tag, ALL_PAIRS)
    record = json.loads(json.dumps(description.to_metadata(caption(description, paraphrase=False))))
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
    assert counting("cube", 2).to_metadata("two cubes")["exclude"] == [{"class": "cube", "count": 3}]


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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Description("colour", (Clause("cube"),)), "tag must be one of single_object, .*not 'colour'"),
        (lambda: Description("colors", ()), "include is empty"),
        (lambda: Description("colors", (Clause("cube", 0),)), "at least 1"),
        (lambda: Description("position", (Clause("a", position=("above", 0)),)), "earlier one"),
        (lambda: Description.from_metadata({"tag": "colors"}), "no include"),
        (lambda: Clause.from_metadata({"class": "cube"}), "class, count"),
        (lambda: Clause.from_metadata({"class": "cube", "count": 1, "size": 2}), "'size'"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
