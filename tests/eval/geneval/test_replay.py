"""Stored detections: they come back as they were, and what is wrong in a file is named."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.eval.geneval.replay import SeenPicture, read_seen, write_seen
from pocket_diffusers.pipelines.outputs import Detections, MaskRLE

METADATA = {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a cat", "n_images": 4}
MASK = MaskRLE.encode(np.eye(4, dtype=bool))
CAT = Detections(("cat",), (0.1 + 0.2,), ((0.1, 1, 2.5, 3),), (MASK,), (None,))


def test_what_is_written_is_read_back(tmp_path):
    pictures = [
        SeenPicture(METADATA, CAT, "hf", "some/model"),
        SeenPicture({**METADATA, "prompt": "ein Kätzchen"}, Detections((), (), ()), "hf", "some/model"),
        SeenPicture(METADATA, None, "hf", "some/model"),
    ]
    path = tmp_path / "seen.jsonl"
    write_seen(path, pictures)
    assert read_seen(path) == pictures
    assert [file.name for file in tmp_path.iterdir()] == ["seen.jsonl"]


def test_nothing_half_written_stays(tmp_path):
    path = tmp_path / "seen.jsonl"
    path.write_text("as it was\n")

    def broken():
        yield SeenPicture(METADATA, CAT, "hf")
        raise RuntimeError("no more pictures")

    with pytest.raises(RuntimeError, match="no more"):
        write_seen(path, broken())
    assert path.read_text() == "as it was\n" and len(list(tmp_path.iterdir())) == 1


def test_pictures_of_one_prompt_share_a_key():
    other = {"exclude": [], **dict(reversed(METADATA.items()))}
    assert SeenPicture(METADATA, CAT, "hf").prompt_key == SeenPicture(other, None, "hf").prompt_key
    assert SeenPicture(METADATA, CAT, "hf").prompt_key != SeenPicture({**METADATA, "prompt": "x"}, CAT, "hf").prompt_key


def line(**changes):
    stored = SeenPicture(METADATA, CAT, "hf").to_dict()
    for key, value in changes.items():
        place = stored["detections"] if key in stored["detections"] else stored
        place[key] = value
    return json.dumps(stored)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "line 2 of seen.jsonl: Expecting property name"),
        ("[]", "line 2 of seen.jsonl: a picture has the keys detections, detector, metadata, weights, not list"),
        (line(more=1), "a picture has the keys"),
        (line(detector=1), "detector must be a text"),
        (line(metadata={"tag": "single_object"}), "must be a GenEval record with a prompt"),
        (line(metadata={**METADATA, "tag": "shape"}), "tag must be one of.*not 'shape'"),
        (line(metadata={**METADATA, "include": {}}), "include must be a list of clauses"),
        (line(metadata={**METADATA, "include": []}), "include is empty"),
        (line(metadata={**METADATA, "include": [{"class": "cat", "count": True}]}), "a clause needs class"),
        (line(metadata={**METADATA, "include": [{"class": "cat", "count": 1, "color": 3}]}), "color of a clause"),
        (
            line(metadata={**METADATA, "include": [{"class": "cat", "count": 1, "position": "above"}]}),
            "position of a clause must be a relation and the number of a clause, not 'above'",
        ),
        (line(detections={}), "detections must have the keys labels, scores, boxes, masks, colors"),
        (line(labels="cat"), "labels must be a list of str"),
        (line(scores=["0.5"]), "scores must be a list of float"),
        (line(scores=[True]), "scores must be a list of float"),
        (line(scores=[1.5]), "scores must lie in .0, 1., but one is 1.5"),
        (line(scores=[float("nan")]), "NaN is no number"),
        (line(boxes=[[0, 0, 1]]), "boxes must be finite"),
        (line(boxes=[[3, 0, 1, 1]]), "boxes must be finite"),
        (line(boxes=[]), "one entry an object"),
        (line(masks=[{"size": [2, 2], "counts": [1]}]), "counts add up to 1"),
        (line(masks=[{"size": [2, 2], "counts": "abc"}]), "masks must be a list of dict"),
        (line(colors=[3]), "colors must be a list of str"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, complaint):
    path = tmp_path / "seen.jsonl"
    path.write_text(f"{line()}\n{text}\n")
    with pytest.raises(ValueError, match=complaint) as caught:
        read_seen(path)
    assert str(caught.value).startswith("line 2 of seen.jsonl: ")


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl is missing"):
        read_seen(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="empty.jsonl holds no pictures"):
        read_seen(tmp_path / "empty.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=3) | st.sampled_from(("cat", "red", 0.5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(tuple(METADATA)), inner, max_size=4),
    max_leaves=8,
)


keys = st.sampled_from(("metadata", "detector", "weights", "detections", "labels", "boxes", "masks", "colors"))


@settings(deadline=None)
@given(keys, json_values)
def test_any_json_is_read_or_refused_with_a_sentence(key, value):
    try:
        picture = SeenPicture.from_dict(json.loads(line(**{key: value})))
    except ValueError as error:
        assert str(error).endswith((".", "...")), error
    else:
        assert SeenPicture.from_dict(json.loads(json.dumps(picture.to_dict()))) == picture
