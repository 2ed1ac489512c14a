"""Outputs keep what they are given, and refuse what cannot be."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from pocket_diffusers.pipelines.motion.forward_kinematics import chained
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.skeleton import bone_lengths, rest_directions
from pocket_diffusers.pipelines.outputs import (
    DetectionOutput,
    Detections,
    ImageClassificationOutput,
    ImageOutput,
    MaskRLE,
    MotionOutput,
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


def motion(frames, controls=None):
    """Of a figure at rest that goes ahead, as a pipeline returns one sample."""
    root = torch.stack([torch.zeros(frames), torch.full([frames], 0.9), torch.linspace(0, 0.5, frames)], -1)
    bones = (rest_directions() * bone_lengths()[:, None]).expand(frames, 22, 3)
    joints = chained(bones, root)
    return MotionOutput([joints], [torch.randn(frames, 263)], [torch.ones(frames, 4)], controls)


def test_motions_are_kept_for_animators_viewers_and_numpy(tmp_path):
    mask = torch.zeros(3, 22, dtype=torch.bool)
    mask[1, 0] = True
    asked = MotionControls(torch.ones(3, 22, 3), mask)
    learned = motion(3, [asked])
    learned.joints[0].requires_grad_()
    output = MotionOutput.joined([learned, motion(2, [None])])
    assert output.save(tmp_path, ["A person walks.", "Another"]) == ["000-a-person-walks.glb", "001-another.glb"]
    suffixes = [".bvh", ".features.npy", ".gif", ".glb", ".joints.npy", ".mp4"]
    stems = ["000-a-person-walks", "001-another"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(stem + suffix for stem in stems for suffix in suffixes), "sheet.png",
    ]  # fmt: skip
    for sample, stem in enumerate(stems):
        for name in ("joints", "features"):
            kept = np.load(tmp_path / f"{stem}.{name}.npy")
            assert kept.dtype == np.float32 and np.array_equal(kept, output[name][sample].detach().numpy())
    assert "Frames: 3\n" in (tmp_path / "000-a-person-walks.bvh").read_text()
    assert b'"name":"A person walks."' in (tmp_path / "000-a-person-walks.glb").read_bytes()
    assert Image.open(tmp_path / "000-a-person-walks.gif").n_frames == 3


def test_what_a_card_shows_of_a_motion_is_what_its_sheet_shows(tmp_path):
    mask = torch.zeros(3, 22, dtype=torch.bool)
    mask[1, 0] = True
    output = MotionOutput.joined([motion(3, [MotionControls(torch.ones(3, 22, 3), mask)]), motion(2, [None])])
    shown = output.pictures()
    output.save(tmp_path, ["a", "b"])
    saved = [Image.open(path).convert("RGB") for path in sorted(tmp_path.glob("*.gif"))]
    assert [picture.size for picture in shown] == [image.size for image in saved]
    first = np.asarray(shown[0].crop((0, 0, 128, 128)), int) - np.asarray(saved[0].resize((128, 128), Image.BOX), int)
    assert np.abs(first).mean() < 3, "the upper left moment is the first frame, but for the palette"
    free = MotionOutput(output.joints, output.features, output.contacts).pictures()
    assert shown[0].tobytes() != free[0].tobytes() and shown[1].tobytes() == free[1].tobytes(), "targets are dots"


def test_motions_without_ffmpeg_say_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.warns(UserWarning, match="an MP4 beside each GIF needs imageio-ffmpeg, which comes with the extra"):
        motion(2).save(tmp_path, ["walk"])
    assert {path.suffix for path in tmp_path.iterdir()} == {".bvh", ".npy", ".gif", ".glb", ".png"}


def test_a_motion_that_is_not_finite_is_refused_before_a_file_is_there(tmp_path):
    output = motion(2)
    output.joints[0][1, 5] = float("nan")
    with pytest.raises(ValueError, match="joints must be finite, but hold NaN or infinity"):
        output.save(tmp_path, ["walk"])
    assert not list(tmp_path.iterdir())
