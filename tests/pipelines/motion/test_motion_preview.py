"""Previews of clips: where the figure, its shadow and the targets are, and what the pictures keep to."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.pipelines.motion.capsule_figure import LEFT, RIGHT
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_preview import DOT, PAPER, moments, preview_frames

SIZE = 96


def near(frame, color, tolerance):
    """Pixels whose hue is that of a colour, however bright."""
    color, pixels = np.array(color, float), frame.astype(float)
    pixels = pixels / np.maximum(np.linalg.norm(pixels, axis=-1, keepdims=True), 1)
    return (pixels @ (color / np.linalg.norm(color))) > np.cos(tolerance)


def controls(frames, cells):
    targets, mask = torch.zeros(frames, 22, 3), torch.zeros(frames, 22, dtype=torch.bool)
    for frame, joint, place in cells:
        targets[frame, joint], mask[frame, joint] = torch.tensor(place), True
    return MotionControls(targets, mask)


@pytest.fixture(scope="module")
def standing(dance):
    """One pose at the origin, again and again."""
    return (dance[5:6] - dance[5:6, :1] * torch.tensor([1.0, 0, 1])).repeat(4, 1, 1)


def test_frames_are_pictures_of_a_figure_on_paper(dance):
    frames = preview_frames(dance[:3], SIZE)
    assert frames.shape == (3, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert np.abs(frames[:, 0].astype(int) - np.round(np.array(PAPER) * 255)).max() <= 1, "nothing above"
    for frame in frames:
        left, right = near(frame, LEFT, 0.12), near(frame, RIGHT, 0.12)
        assert 100 < left.sum() < 900 and 100 < right.sum() < 900
    assert (frames[0] != frames[1]).any()


def test_the_camera_sees_a_figure_that_faces_it_with_its_left_to_the_right(standing):
    frame = preview_frames(standing[:1], SIZE)[0]
    middle = [near(frame, color, 0.12).nonzero()[1].mean() for color in (LEFT, RIGHT)]
    assert middle[0] > middle[1] + 5


def test_the_camera_goes_along(standing):
    still = preview_frames(standing, SIZE)
    moved = preview_frames(standing + torch.tensor([5.0, 0, -8]), SIZE)
    changed = (np.abs(still.astype(int) - moved) > 8).any(-1)
    assert changed.mean() < 0.005, "ten and sixteen squares of the grid farther; single rays may just miss an edge"
    off_the_grid = preview_frames(standing + torch.tensor([0.25, 0, 0]), SIZE)
    assert (still != off_the_grid).any(-1).mean() > 0.02, "the floor tells that it moves"
    run = standing[:1] + torch.arange(12)[:, None, None] * torch.tensor([0.0, 0, 0.2])
    columns = [near(frame, LEFT, 0.12).nonzero()[1].mean() for frame in preview_frames(run, SIZE)]
    assert max(columns) - min(columns) < 2, "four metres a second, from the first frame to the last"


def test_the_shadow_lies_on_the_floor_below(standing):
    with_figure = preview_frames(standing[:1], SIZE)[0].astype(int)
    lifted = preview_frames(standing[:1] + torch.tensor([0.0, 0.5, 0]), SIZE)[0].astype(int)
    grey = lambda frame: (np.ptp(frame, axis=-1) < 22) & (frame.max(-1) < 170) & (frame.max(-1) > 90)  # noqa: E731
    assert grey(with_figure)[SIZE // 2 :].sum() > 10 and grey(lifted)[SIZE // 2 :].sum() > 10
    feet = near(lifted, LEFT, 0.12).nonzero()[0].max()
    assert grey(lifted)[feet + 2 :].any(), "under feet in the air"


def test_targets_are_red_dots_and_those_of_the_frame_are_large(standing):
    asked = controls(4, [(0, 20, (0.9, 1.4, 0.0)), (2, 20, (-0.9, 1.4, 0.0))])
    plain, dotted = preview_frames(standing, SIZE), preview_frames(standing, SIZE, asked)
    red = [near(frame, DOT, 0.1) & (frame != bare).any(-1) for frame, bare in zip(dotted, plain, strict=True)]
    first, second = red[0].nonzero(), red[2].nonzero()
    assert first[1].mean() > SIZE * 0.6 and second[1].mean() < SIZE * 0.4, "+X is to the right of a figure's face"
    assert 2 <= len(first[0]) <= 12 and not red[1].any(), "small dots are pale"
    assert all((frame != bare).any(-1).sum() >= 2 for frame, bare in zip(dotted, plain, strict=True))


def test_a_clip_is_drawn_in_seconds(dance):
    start = time.process_time()
    preview_frames(dance[:10], 256)
    assert time.process_time() - start < 2.0, "a fiftieth of a second a frame on a free core, ten times that on any"


def test_moments_go_from_first_to_last(dance):
    frames = np.stack([np.full((8, 8, 3), 10 * index, np.uint8) for index in range(10)])
    picture = moments(frames)
    assert isinstance(picture, Image.Image) and picture.size == (8, 8)
    assert [picture.getpixel(corner)[0] for corner in ((0, 0), (7, 0), (0, 7), (7, 7))] == [0, 30, 60, 90]
    assert moments(frames[:1]).getcolors() == [(64, (0, 0, 0))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 95}, "size must be a multiple of 2 pixels, not 95"),
        ({"size": 0}, "size must be a whole number of at least 1"),
        ({"joints": torch.zeros(4, 20, 3)}, r"joints must be \[frames, 22, 3\]"),
        ({"joints": torch.full((4, 22, 3), float("nan"))}, "joints must be finite"),
        ({"controls": controls(5, [(0, 0, (0, 1, 0))])}, "controls must be of the clip's 4 frames, not 5"),
    ],
)
def test_bad_requests(standing, change, message):
    with pytest.raises(ValueError, match=message):
        preview_frames(**({"joints": standing, "size": SIZE} | change))


def test_a_clip_of_no_person_is_drawn_all_the_same():
    frames = preview_frames(torch.randn(3, 22, 3, generator=torch.Generator().manual_seed(0)) * 4, 32)
    assert frames.shape == (3, 32, 32, 3)
    assert preview_frames(torch.zeros(1, 22, 3), 32).shape == (1, 32, 32, 3)
