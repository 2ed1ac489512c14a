"""Paths drawn on the floor: where a joint is when, and what is no path."""

import math

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.drawn_path import STANDING, START_UP, WALKING, DrawnPath

CORNER = [[0.0, 3.0], [3.0, 3.0], [3.0, 3.0]]


def test_the_pelvis_is_led_from_the_origin_to_the_end_of_the_path():
    path = DrawnPath.of(CORNER)
    assert path.metres == 6.0 and path.joint == 0
    places = path.places(101)
    assert places[0].tolist() == [0, 0] and places[-1] == pytest.approx([3, 3])
    assert places[50] == pytest.approx([0, 3], abs=1e-9), "half of the time for half of the way"
    before, after = places[:51], places[50:]
    assert np.allclose(before[:, 0], 0) and np.allclose(after[:, 1], 3), "along straight lines"
    assert (np.diff(before[:, 1]) > 0).all() and (np.diff(after[:, 0]) > 0).all()


def test_other_joints_start_where_the_path_does():
    path = DrawnPath.of(CORNER, "left_wrist")
    assert path.joint == 20 and path.metres == 3.0 and path.places(9)[0].tolist() == [0, 3]


def test_a_person_goes_from_rest_to_rest_at_an_even_speed():
    path = DrawnPath.of([[0.0, 4.0]])
    frames = path.walking_frames
    assert (frames - 1) / 20 == pytest.approx(4 / WALKING + START_UP, abs=0.026)
    speeds = 20 * np.diff(path.places(frames)[:, 1])
    assert speeds.max() == pytest.approx(WALKING, rel=0.02) and speeds[[0, -1]].max() < 0.05 * WALKING
    even = speeds[math.ceil(20 * START_UP) : -math.ceil(20 * START_UP)]
    assert len(even) > 20 and np.ptp(even) < 1e-9
    assert np.abs(np.diff(speeds)).max() < 0.2, "and comes to it smoothly"
    np.testing.assert_allclose(speeds, speeds[::-1], atol=1e-9)


@pytest.mark.parametrize("frames", [2, 3, 20])
def test_short_clips_reach_the_end_too(frames):
    places = DrawnPath.of([[1.0, 1.0]]).places(frames)
    assert len(places) == frames and places[-1] == pytest.approx([1, 1]) and (np.diff(places[:, 0]) > 0).all()


def test_a_place_to_stay_at():
    path = DrawnPath.of([[0, 0], [0, 0]])
    assert path.metres == 0 and not path.places(30).any() and path.walking_frames == 1 + round(20 * START_UP)


def test_controls_hold_the_joint_alone_at_every_frame():
    path = DrawnPath.of(CORNER)
    controls = path.controls(40)
    assert controls.mask[:, 0].all() and controls.mask.sum() == 40
    np.testing.assert_allclose(controls.targets[:, 0, ::2], path.places(40), rtol=1e-6)
    assert (controls.targets[:, 0, 1] == STANDING).all()
    heights = torch.linspace(0.9, 0.5, 40)
    assert torch.equal(path.controls(40, heights).targets[:, 0, 1], heights)
    wrist = DrawnPath.of(CORNER, 20).controls(40, 1.2)
    assert wrist.mask[:, 20].all() and wrist.mask.sum() == 40 and (wrist.targets[:, 20, 1] == 1.2).all()


@pytest.mark.parametrize(
    ("points", "joint", "sentence"),
    [
        ([], "pelvis", r"path must be a list of 1 to 10,000 points \[x, z\] in metres, not 0\."),
        ([[0, 0]] * 10_001, "pelvis", r"path must be a list of 1 to 10,000 points .*, not 10001\."),
        ("way", "pelvis", r"path must be a list of 1 to 10,000 points"),
        (None, "pelvis", r"path must be a list of 1 to 10,000 points .*, not None\."),
        ([[0, 0], [1]], "pelvis", r"point 1 of the path must be \[x, z\] in metres within 1000, not \[1\]\."),
        ([[0, math.nan]], "pelvis", r"point 0 of the path must be .*, not \[0, nan\]\."),
        ([[0, 1001]], "pelvis", r"point 0 of the path must be .*, not \[0, 1001\]\."),
        ([[True, 0]], "pelvis", r"point 0 of the path must be"),
        ([["1", "2"]], "pelvis", r"point 0 of the path must be"),
        (["12"], "pelvis", r"point 0 of the path must be"),
        ([[0, 1]], "pelvs", r"joint 'pelvs' is unknown: .* \(nearest: 'pelvis'\)"),
    ],
)
def test_what_is_no_path(points, joint, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        DrawnPath.of(points, joint)


def test_what_is_no_clip():
    path = DrawnPath.of(CORNER)
    with pytest.raises(ValueError, match=r"^frames must be at least 2, not 1\.$"):
        path.places(1)
    with pytest.raises(ValueError, match=r"^frames must be a whole number of at least 1, not 2\.5\.$"):
        path.controls(2.5)
    with pytest.raises(ValueError, match=r"^heights must be one, or 40 as the frames, not \[39\]\.$"):
        path.controls(40, torch.ones(39))
