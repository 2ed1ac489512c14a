"""Targets and masks of joints: what they hold, the JSON they are read from, and what the control branch sees."""

import json

import numpy as np
import pytest
import torch
from damaged_files import damaged

from pocket_diffusers.pipelines.motion.motion_controls import (
    FARTHEST,
    MOST_BYTES,
    MOST_FRAMES,
    MotionControls,
    batched,
    control_features,
    joint_number,
)
from pocket_diffusers.pipelines.motion.skeleton import CONTROL_JOINTS, JOINTS

REQUEST = {
    "prompt": "a person walks",
    "length": 80,
    "controls": [
        {"joint": "pelvis", "frames": [0, 40], "positions": [[0, 0, 0], [0.25, 0.92, 1.5]]},
        {"joint": 20, "frames": {"start": 10, "stop": 12}, "positions": [[0.5, 1.25, 0.5], [0.5, 1.5, 0.5]]},
        {"frame": 60, "joints": {"head": [0.125, 1.5, 2.5], "right_wrist": [-0.25, 1.5, 2.5]}},
    ],
}
CELLS = {
    (0, 0): [0, 0, 0],
    (40, 0): [0.25, 0.92, 1.5],
    (10, 20): [0.5, 1.25, 0.5],
    (11, 20): [0.5, 1.5, 0.5],
    (60, 15): [0.125, 1.5, 2.5],
    (60, 21): [-0.25, 1.5, 2.5],
}


def random_controls(frames: int, seed: int = 0) -> MotionControls:
    chance = torch.Generator().manual_seed(seed)
    targets = torch.randn(frames, 22, 3, generator=chance)
    return MotionControls(targets, torch.rand(frames, 22, generator=chance) < 0.3)


def with_control(**changes) -> list[dict]:
    return [{"joint": "head", "frames": [3, 5], "positions": [[0, 1, 2], [3, 4, 5]]} | changes]


def refused(message: str, content, length: int | None = None) -> None:
    with pytest.raises(ValueError, match=message) as error:
        MotionControls.from_json(content, length)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_controls_of_a_file_and_of_its_content(tmp_path):
    file = tmp_path / "controls.json"
    file.write_text(json.dumps(REQUEST))
    for source in (file, str(file), REQUEST):
        controls = MotionControls.from_json(source)
        assert controls.frames == 80 and controls.mask.shape == (80, 22)
        assert {tuple(cell) for cell in controls.mask.nonzero().tolist()} == CELLS.keys()
        for (frame, joint), position in CELLS.items():
            np.testing.assert_array_equal(controls.targets[frame, joint], np.float32(position))
        assert controls.targets[~controls.mask].eq(0).all()


def test_length_is_the_one_asked_for_or_said_or_reaches_to_the_last_control():
    assert MotionControls.from_json(REQUEST["controls"]).frames == 61
    assert MotionControls.from_json(REQUEST, 196).frames == 196
    refused(r"controls\[2\]\.frame must be a frame of the clip, from 0 to 59, not 60\.", REQUEST, 60)
    refused(r"length must be 1 to 10000 frames, not 0\.", REQUEST | {"length": 0})
    refused(r"length must be 1 to 10000 frames, not '80'\.", REQUEST | {"length": "80"})
    refused(r"length must be 1 to 10000 frames, not True\.", REQUEST, True)


def test_what_is_written_is_read_again():
    controls = random_controls(50)
    again = MotionControls.from_json(json.loads(json.dumps(controls.to_json())))
    assert torch.equal(again.targets, controls.targets) and torch.equal(again.mask, controls.mask)
    assert MotionControls.from_json(REQUEST).to_json()["controls"][0] == {
        "joint": "pelvis",
        "frames": [0, 40],
        "positions": [[0, 0, 0], [0.25, pytest.approx(0.92), 1.5]],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"^controls must be a list of at least one control, not None\."),
        ([], r"^controls must be a list of at least one control, not \[\]\."),
        ("[]", r"\[\] is missing"),
        (["pelvis"], r"^controls\[0\] must be an object with joint, frames and positions, .* not 'pelvis'\."),
        ([{"joint": "head", "frames": [3]}], r"with joint, frames and positions, .*, not \['frames', 'joint'\]\."),
        (with_control(mask=[1]), r"^controls\[0\] must be an object with .*\['frames', 'joint', 'mask', 'positions'\]"),
        (with_control(joint="haed"), r"^controls\[0\]\.joint 'haed' is unknown: use one of .*\(nearest: 'head'\)\."),
        (with_control(joint=22), r"^controls\[0\]\.joint must be a joint's name or number from 0 to 21, not 22\."),
        (with_control(joint=True), r"^controls\[0\]\.joint must be .*, not True\."),
        (with_control(joint=None), r"^controls\[0\]\.joint must be .*, not None\."),
        (with_control(frames=[3, -1]), r"^controls\[0\]\.frames must be a frame of the clip, .*, not -1\."),
        (with_control(frames=[3, 4.0]), r"^controls\[0\]\.frames must be a frame of the clip, .*, not 4\.0\."),
        (with_control(frames=[3, 10**12]), r"^controls\[0\]\.frames must be .* from 0 to 9999, not 10{12}\."),
        (with_control(frames=[3, 3]), r"^controls\[0\] must give head no second target at frame 3\."),
        (with_control(frames=[]), r"^controls\[0\]\.frames must be a list that is not empty, not \[\]\."),
        (with_control(frames=3), r"^controls\[0\]\.frames must be a list that is not empty, not 3\."),
        (with_control(frames=[3, 5, 6]), r"^controls\[0\]\.positions must be 3, one a frame, not 2\."),
        (with_control(frames={"start": 3}), r"^controls\[0\]\.frames must be start and stop, not \['start'\]\."),
        (with_control(frames={"start": 3, "stop": 3}), r"\.frames\.stop must be a whole number from 4 to 10000, not 3"),
        (with_control(frames={"start": 0, "stop": 10**12}), r"\.frames\.stop must be a whole number from 1 to 10000"),
        (with_control(frames={"start": 0, "stop": 9000}), r"^controls\[0\]\.positions must be 9000, one a frame"),
        (with_control(positions=[]), r"^controls\[0\]\.positions must be a list that is not empty, not \[\]\."),
        (
            with_control(positions=[[0, 1, 2], [3, 4]]),
            r"\.positions\[1\] must be \[x, y, z\] in metres .*, not \[3, 4\]",
        ),
        (with_control(positions=[[0, 1, 2], None]), r"^controls\[0\]\.positions\[1\] must be .*, not None\."),
        (with_control(positions=[[0, 1, 2], [0, 1, float("nan")]]), r"\.positions\[1\] must be .*, not \[0, 1, nan\]"),
        (with_control(positions=[[0, 1, 10**400], [0, 1, 2]]), r"^controls\[0\]\.positions\[0\] must be \[x, y, z\]"),
        (with_control(positions=[[0, 1, "2"], [0, 1, 2]]), r"^controls\[0\]\.positions\[0\] must be \[x, y, z\]"),
        (with_control(positions=[[0, 1, False], [0, 1, 2]]), r"^controls\[0\]\.positions\[0\] must be \[x, y, z\]"),
        ([{"frame": 2, "joints": {}}], r"^controls\[0\]\.joints must be names with positions, not \{\}\."),
        ([{"frame": 2, "joints": {"heads": [0, 0, 0]}}], r"^controls\[0\]\.joints: joint 'heads' is unknown.*'head'"),
        ([{"frame": 2, "joints": {"head": [0, 0]}}], r"^controls\[0\]\.joints\.head must be \[x, y, z\]"),
        ([{"frame": None, "joints": {"head": [0, 0, 0]}}], r"^controls\[0\]\.frame must be a frame of the clip"),
        (REQUEST["controls"] + [{"frame": 40, "joints": {"pelvis": [0, 0, 0]}}], r"^controls\[3\] must give pelvis no"),
    ],
)
def test_json_that_is_refused(content, message):
    if content == "[]":
        with pytest.raises(FileNotFoundError, match=message):
            MotionControls.from_json(content)
    else:
        refused(message, content)


def test_files_that_are_refused(tmp_path):
    file = tmp_path / "controls.json"
    file.write_text("[" * 100_000)
    refused(r"controls\.json is truncated or no JSON file", file)
    with file.open("wb") as large:
        large.truncate(10 * MOST_BYTES)
    refused(r"controls\.json must be at most 4000000 bytes, not 40000000\.", file)
    file.write_text("3")
    refused(r"controls must be a list of at least one control, not 3\.", file)


def test_thousand_damaged_files_are_read_whole_or_refused(tmp_path):
    file, whole = tmp_path / "controls.json", json.dumps(REQUEST, indent=1).encode()
    read = 0
    for seed in range(1000):
        file.write_bytes(damaged(whole, np.random.default_rng(seed)))
        try:
            controls = MotionControls.from_json(file)
        except ValueError as error:
            assert "\n" not in str(error)
            continue
        read += 1
        assert controls.mask.any() and controls.frames <= MOST_FRAMES
        assert (controls.targets.abs() <= FARTHEST).all()
    assert 10 < read < 500


@pytest.mark.parametrize(
    ("targets", "mask", "message"),
    [
        (
            None,
            torch.ones(5, 22, dtype=bool),
            r"^targets must be a floating point tensor \[frames, 22, 3\], not 'NoneT",
        ),
        (torch.zeros(5, 22, 3), None, r"^mask must be a boolean tensor \[frames, 22\], not 'NoneType'\."),
        (
            torch.zeros(5, 22, 3),
            torch.ones(5, 22),
            r"^mask must be a boolean tensor \[frames, 22\], not 'torch\.float32",
        ),
        (torch.zeros(5, 22, 3, dtype=int), torch.ones(5, 22, dtype=bool), r"^targets must be a floating .*int64'"),
        (torch.zeros(5, 21, 3), torch.ones(5, 21, dtype=bool), r"^targets must be \[frames, 22, 3\] .*\[5, 21, 3\]"),
        (torch.zeros(0, 22, 3), torch.ones(0, 22, dtype=bool), r"^targets must be .* with 1 to 10000 frames, not \[0"),
        (
            torch.zeros(5, 22, 3),
            torch.ones(4, 22, dtype=bool),
            r"^mask must be \[5, 22\] as the targets, not \[4, 22\]",
        ),
        (torch.zeros(5, 22, 3), torch.zeros(5, 22, dtype=bool), r"^mask must be True for at least one joint"),
        (torch.full((5, 22, 3), torch.nan), torch.ones(5, 22, dtype=bool), r"^the target of pelvis at frame 0 must be"),
        (torch.full((5, 22, 3), 1001.0), torch.ones(5, 22, dtype=bool), r"within 1000 m of the origin .*1001\.0\]"),
    ],
)
def test_controls_that_are_refused(targets, mask, message):
    with pytest.raises(ValueError, match=message):
        MotionControls(targets, mask)


def test_what_is_not_masked_does_not_count():
    targets, mask = torch.full((5, 22, 3), torch.nan, dtype=torch.float64), torch.zeros(5, 22, dtype=bool)
    targets[2, 7], mask[2, 7] = torch.tensor([0.0, 0.0, 0.0]).double(), True
    controls = MotionControls(targets, mask)
    assert controls.targets.dtype == torch.float32 and controls.targets.eq(0).all()
    assert controls.mask.nonzero().tolist() == [[2, 7]], "a target at the origin is one"
    assert controls.to("cpu").mask.equal(mask)


def test_padding_frees_further_frames_and_loses_no_control():
    controls = random_controls(30)
    longer = controls.padded(196)
    assert torch.equal(longer.targets[:30], controls.targets) and torch.equal(longer.mask[:30], controls.mask)
    assert not longer.mask[30:].any() and longer.frames == 196
    assert torch.equal(longer.padded(30).targets, controls.targets)
    with pytest.raises(ValueError, match=r"^frames must be more than 29, the last frame that is controlled, not 20\."):
        longer.padded(20)
    with pytest.raises(ValueError, match="frames must be a whole number of at least 1"):
        controls.padded(1.5)


def test_batch_of_controlled_and_free_clips():
    first, second = random_controls(30, 1), random_controls(50, 2)
    targets, mask = batched([first, None, second], 60)
    assert targets.shape == (3, 60, 22, 3) and mask.shape == (3, 60, 22)
    assert torch.equal(targets[0, :30], first.targets) and torch.equal(mask[2, :50], second.mask)
    assert not mask[1].any() and not mask[0, 30:].any() and not targets[1].any()
    assert not batched([None], 20).mask.any()
    with pytest.raises(ValueError, match="controls must be those of at least one clip"):
        batched([], 20)
    with pytest.raises(ValueError, match="frames must be more than 49"):
        batched([first, second], 40)


@pytest.mark.parametrize("control_joints", [(0,), CONTROL_JOINTS])
def test_control_features_by_loops(control_joints):
    chance = np.random.default_rng(0)
    joints = chance.normal(size=(2, 12, 22, 3))
    targets, mask = chance.normal(size=(2, 12, 22, 3)), chance.random((2, 12, 22)) < 0.4
    features = control_features(*(torch.from_numpy(a) for a in (joints, targets, mask)), control_joints).numpy()
    count = len(control_joints)
    assert features.shape == (2, 12, 6 * count)
    for sample, frame in np.ndindex(2, 12):
        for place, joint in enumerate(control_joints):
            delta, absolute = features[sample, frame, : 3 * count], features[sample, frame, 3 * count :]
            shown = mask[sample, frame, joint]
            target = targets[sample, frame, joint]
            np.testing.assert_array_equal(absolute[3 * place : 3 * place + 3], target * shown)
            expected = (target - joints[sample, frame, joint]) * shown
            np.testing.assert_array_equal(delta[3 * place : 3 * place + 3], expected)


def test_gradients_reach_the_joints_where_they_are_controlled():
    joints = torch.randn(1, 5, 22, 3, dtype=torch.double)
    joints[0, 1] = torch.nan
    joints.requires_grad_()
    mask = torch.zeros(1, 5, 22, dtype=torch.bool)
    mask[0, 3, 15] = mask[0, 2, 4] = True
    targets = torch.full_like(joints, torch.nan).masked_fill(mask[..., None], 1.0)
    features = control_features(joints, targets, mask)
    (gradient,) = torch.autograd.grad(features.sum(), joints)
    expected = torch.zeros_like(joints)
    expected[0, 3, 15] = -1  # the knee, joint 4, is no control joint
    assert torch.equal(gradient, expected)


def test_control_features_of_shapes_that_do_not_belong_together():
    joints, mask = torch.zeros(2, 5, 22, 3), torch.zeros(2, 5, 22, dtype=torch.bool)
    for arguments, message in (
        ((joints[..., :2], joints, mask), r"^joints must be \[\.\.\., frames, 22, 3\], not \[2, 5, 22, 2\]\."),
        ((joints, joints[:1], mask), r"^targets must be \[2, 5, 22, 3\] as the joints, not \[1, 5, 22, 3\]\."),
        ((joints, joints, mask[:, :4]), r"^mask must be \[2, 5, 22\] as the joints, not \[2, 4, 22\]\."),
    ):
        with pytest.raises(ValueError, match=message):
            control_features(*arguments)


def test_joints_by_name_and_number():
    assert [joint_number(name) for name in JOINTS] == [joint_number(n) for n in range(22)] == list(range(22))
    with pytest.raises(ValueError, match=r"joint 'Left_Wirst' is unknown.*nearest: 'left_wrist'"):
        joint_number("Left_Wirst")
