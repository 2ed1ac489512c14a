"""Outputs keep what they are given, and refuse what cannot be."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from pocket_diffusers.pipelines.outputs import (
    DetectionOutput,
    Detections,
    ImageClassificationOutput,
    ImageOutput,
    MaskRLE,
    file_name,
)

SIDES = st.integers(1, 9)
MASKS = st.tuples(SIDES, SIDES).flatmap(lambda shape: npst.arrays(np.bool_, shape))


@given(MASKS)
@settings(max_examples=150, deadline=None)
def test_masks_survive_run_lengths(mask):
    encoded = MaskRLE.encode(mask)
    assert np.array_equal(encoded.decode(), mask)
    assert encoded.area == mask.sum()
    assert MaskRLE.from_dict(json.loads(json.dumps(encoded.to_dict()))) == encoded
    assert all(count > 0 for count in encoded.counts[1:])  # shortest form


def test_run_lengths_are_cocos():
    mask = np.array([[0, 1, 1], [0, 1, 0]], dtype=bool)  # columns: 00, 11, 10
    assert MaskRLE.encode(mask).to_dict() == {"size": [2, 3], "counts": [2, 3, 1]}
    assert MaskRLE.encode(torch.ones(2, 2, dtype=torch.bool)).counts == (0, 4)
    assert MaskRLE(2, 2, (1, 0, 2, 1)).decode().tolist() == [[False, False], [False, True]]  # an empty run of ones


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskRLE(2, 2, (3,)), "add up to 3"),
        (lambda: MaskRLE(2, 2, (5, -1)), "negative"),
        (lambda: MaskRLE(0, 2, ()), "at least 1 x 1"),
        (lambda: MaskRLE.encode(np.zeros((2, 2))), "boolean"),
        (lambda: MaskRLE.encode(np.zeros((2, 2, 1), bool)), "boolean"),
        (lambda: MaskRLE.from_dict({"size": [2, 2]}), "must be"),
        (lambda: MaskRLE.from_dict({"size": [2, 2], "counts": "abc"}), "compressed"),
    ],
)
def test_bad_masks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SCORES = st.floats(0, 1)
BOXES = st.tuples(*[st.floats(-5, 300)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
OBJECTS = st.lists(
    st.tuples(
        st.sampled_from(["cube", "cone"]), SCORES, BOXES, npst.arrays(np.bool_, (4, 6)), st.sampled_from(["red", None])
    ),
    max_size=5,
)


@given(OBJECTS, SCORES)
@settings(max_examples=60, deadline=None)
def test_detections_replay_from_json(objects, threshold):
    labels, scores, boxes, masks, colors = zip(*objects, strict=True) if objects else [()] * 5
    found = Detections(labels, scores, boxes, tuple(map(MaskRLE.encode, masks)), colors)
    assert Detections.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    kept = found.above(threshold)
    assert kept.scores == tuple(score for score in scores if score >= threshold)
    assert len(kept) == len(kept.boxes) == len(kept.masks) == len(kept.colors)


def test_optional_fields_stay_absent():
    found = Detections(["cube"], [0.04], [(0, 0, 2, 2)])
    assert Detections.from_dict(found.to_dict()) == found
    assert found.above().masks is None
    assert len(found.above()) == 0


BOX = (0.0, 0.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((["cube"], [], [BOX]), "1 labels, 0 scores, 1 boxes"),
        ((["cube"], [1.2], [BOX]), r"\[0, 1\], but one is 1.2"),
        ((["cube"], [float("nan")], [BOX]), "one is nan"),
        ((["cube"], [0.5], [(3, 0, 2, 2)]), "x0 <= x1"),
        ((["cube"], [0.5], [(0, 0, float("inf"), 2)]), "finite"),
        ((["cube"], [0.5], [(0, 0, 2)]), "x0, y0, x1, y1"),
        ((["cube"], [0.5], [BOX], None, []), "0 colors"),
        ((["a", "b"], [0.5, 0.5], [BOX, BOX], [MaskRLE(2, 2, (4,)), MaskRLE(2, 3, (6,))]), "one size"),
    ],
)
def test_bad_detections(fields, message):
    with pytest.raises(ValueError, match=message):
        Detections(*fields)


def test_stored_detections_must_be_complete():
    with pytest.raises(ValueError, match="lack scores, boxes"):
        Detections.from_dict({"labels": []})


def test_image_output_is_a_diffusers_output():
    output = ImageOutput(images=torch.zeros(1, 3, 2, 2))
    assert output[0] is output["images"] is output.images


@pytest.mark.parametrize(
    ("caption", "name"),
    [("A red: Cube!", "007-a-red-cube.png"), ("红色", "007.png"), ("x" * 99, f"007-{'x' * 48}.png"),
     ("x" * 47 + " y", f"007-{'x' * 47}.png")],
)  # fmt: skip
def test_file_names(caption, name):
    assert file_name(7, caption, ".png") == name


def test_pictures_are_kept_as_png_with_a_sheet(tmp_path):
    calls = [ImageOutput(images=[Image.new("RGB", (4, 3), color)]) for color in ("red", "blue")]
    output = ImageOutput.joined(calls)
    assert output.save(tmp_path, ["red", "Blue"]) == ["000-red.png", "001-blue.png"]
    assert Image.open(tmp_path / "001-blue.png").getpixel((0, 0)) == (0, 0, 255)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000-red.png", "001-blue.png", "sheet.png"]
    sheet = Image.open(tmp_path / "sheet.png").convert("RGB")
    assert {(255, 0, 0), (0, 0, 255)} <= {color for _, color in sheet.getcolors(1 << 20)}


def test_what_was_recognised_is_kept_as_json(tmp_path):
    found = Detections(["cube"], [0.5], [BOX], [MaskRLE(2, 2, (1, 3))], ["red"])
    (file,) = DetectionOutput(detections=[found]).save(tmp_path, ["desk"])
    assert Detections.from_dict(json.loads((tmp_path / file).read_text())) == found
    output = ImageClassificationOutput(labels=[("one", "two")], scores=[(0.75, 0.25)], logits=torch.zeros(1, 2))
    (file,) = output.save(tmp_path, ["digit"])
    assert json.loads((tmp_path / file).read_text()) == {"labels": ["one", "two"], "scores": [0.75, 0.25]}
