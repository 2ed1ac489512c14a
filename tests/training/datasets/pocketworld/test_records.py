"""Records against their own claims: captions read back, GenEval's rules on true boxes, motion over time, views."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.training.datasets.pocketworld.cameras import default_camera, project
from pocket_diffusers.training.datasets.pocketworld.caption_parsing import parse, parse_with_motions
from pocket_diffusers.training.datasets.pocketworld.descriptions import TAGS
from pocket_diffusers.training.datasets.pocketworld.motion import PROGRAMS
from pocket_diffusers.training.datasets.pocketworld.records import (
    CLIP_KINDS,
    GRID_CENTRE,
    GRID_SIDE,
    GRID_SPACING,
    MIN_VISIBILITY,
    RING_VIEWS,
    SPLITS,
    VIDEO_FRAMES,
    VIDEO_SECONDS,
    clips,
    pictures,
)
from pocket_diffusers.training.datasets.pocketworld.render import render
from pocket_diffusers.training.datasets.pocketworld.scene import HELD_OUT_PAIRS, Scene

FIELDS = ("rgb", "instances", "boxes", "visibility")
SIZE = 48

# Of the first records of split "train" at 64 pixels, seed 0: caption, box of the first object, mean of all channels.
GOLDEN = [
    ("a picture of a cylinder and a cone", [4, 29, 16, 45], 172.93),
    ("the picture shows six cones", [32, 25, 43, 37], 163.07),
    ("an image of a cylinder", [14, 18, 32, 44], 171.75),
    ("the picture shows one black cube and one orange cone", [13, 23, 24, 35], 168.81),
    ("a photo of an orange-colored cube together with a black donut", [12, 20, 31, 40], 168.38),
    ("a photo of a sphere above a cylinder", [45, 23, 63, 48], 160.95),
]


@pytest.fixture(scope="module")
def stills():
    return list(pictures("test", SIZE, range(240), seed=3))


@pytest.fixture(scope="module")
def videos():
    return list(clips("video", "test", 32, range(36)))


@pytest.fixture(scope="module")
def tours():
    return list(clips("rgbd_video", "test", 32, range(24)))


@pytest.fixture(scope="module")
def rings():
    return list(clips("multiview", "test", SIZE, range(5)))


@pytest.fixture(scope="module")
def grids():
    return list(clips("lightfield", "test", SIZE, range(4)))


def tight_box(mask):
    """x0 y0 x1 y1 around the true pixels."""
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def genevals_relations(a, b):
    """GenEval's `relative_position` of box a to box b, written anew from its paper and source."""
    (ax, ay), (bx, by) = (((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (a, b))
    offset = np.array([ax - bx, ay - by])
    sizes = np.array([a[2] - a[0] + b[2] - b[0], a[3] - a[1] + b[3] - b[1]])
    revised = np.maximum(np.abs(offset) - 0.1 * sizes, 0) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return set()
    x, y = revised / np.linalg.norm(offset)
    held = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in held.items() if holds}


def assert_shows(description, scene, instances):
    """The picture holds what is described, by GenEval's rules on boxes around the mask, and nothing else."""
    boxes = [tight_box(instances == k + 1) for k in range(len(scene.objects))]
    things = list(zip(scene.objects, boxes, strict=True))
    placed = []
    for clause in description.include:
        placed.append([(obj, box) for obj, box in things if obj.shape == clause.cls])
        assert len(placed[-1]) == clause.count
        assert clause.color is None or all(obj.color == clause.color for obj, _ in placed[-1])
        if clause.position is not None:
            relation, target = clause.position
            assert genevals_relations(placed[-1][0][1], placed[target][0][1]) == {relation}
    assert sum(map(len, placed)) == len(things)
    for clause in description.exclude:
        assert sum(obj.shape == clause.cls for obj in scene.objects) < clause.count


# Pictures


def test_the_world_is_the_one_that_the_checkpoints_were_trained_on():
    """Another world would need new weights: scenes, words and places of the first records of split "train"."""
    for picture, (caption, box, mean) in zip(pictures("train", 64, range(len(GOLDEN))), GOLDEN, strict=True):
        assert picture.caption == caption
        assert picture.boxes[0].tolist() == box
        assert picture.rgb.mean() == pytest.approx(mean, abs=0.1)


def test_captions_read_back_into_clauses_that_the_picture_shows(stills):
    for picture in stills:
        assert parse(picture.caption) == picture.description
        assert_shows(picture.description, picture.scene, picture.instances)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 2**40), st.sampled_from(sorted(SPLITS)))
def test_any_index_of_any_seed_proves_its_caption(index, seed, split):
    (picture,) = pictures(split, 24, [index], seed)
    assert picture.index == index
    assert parse(picture.caption) == picture.description
    assert_shows(picture.description, picture.scene, picture.instances)


def test_boxes_hold_the_masks(stills):
    for picture in stills:
        assert picture.instances.max() == len(picture.scene.objects)
        for k, box in enumerate(picture.boxes.tolist()):
            assert box == tight_box(picture.instances == k + 1)


def test_every_object_is_at_least_half_visible(stills):
    """Against each object alone, in a picture wide enough to hold what the frame cuts off."""
    crowded = [picture for picture in stills if len(picture.scene.objects) > 1][:40]
    viewmat, K = default_camera(SIZE)
    wide = K.clone()
    wide[:2, 2] += SIZE / 2
    for picture in crowded:
        assert picture.visibility.min() >= MIN_VISIBILITY
        alone = render([Scene((obj,)) for obj in picture.scene.objects], viewmat, wide, 2 * SIZE).instances == 0
        shares = [(picture.instances == k + 1).sum() / mask.sum().item() for k, mask in enumerate(alone)]
        np.testing.assert_allclose(picture.visibility, shares, atol=0.08)  # of whole pixels, not of subpixels
        assert min(shares) > MIN_VISIBILITY - 0.08


def test_the_six_tasks_come_equally_often(stills):
    counts = Counter(picture.description.tag for picture in stills)
    assert set(counts) == set(TAGS)
    expected, deviation = len(stills) / 6, math.sqrt(len(stills) * 5 / 36)
    assert all(abs(count - expected) < 4 * deviation for count in counts.values())


def test_a_record_depends_on_its_index_alone(stills):
    chosen = [200, 7, 31]
    for picture in (*pictures("test", SIZE, chosen, seed=3), *pictures("test", SIZE, [101], seed=3)):
        twin = stills[picture.index]
        assert picture.caption == twin.caption
        assert picture.scene == twin.scene
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(picture, name), getattr(twin, name))


def test_splits_and_seeds_share_no_scene():
    worlds = [(split, seed) for split in SPLITS for seed in (0, 1)]
    scenes = [picture.scene for split, seed in worlds for picture in pictures(split, 16, range(25), seed)]
    assert len(set(scenes)) == len(scenes)


def test_train_shows_no_held_out_pair_and_train_all_does():
    def shown(split):
        return {(obj.color, obj.shape) for record in pictures(split, 16, range(150)) for obj in record.scene.objects}

    assert not shown("train") & HELD_OUT_PAIRS
    assert len(shown("train")) == 40
    assert len(shown("train_all") & HELD_OUT_PAIRS) > 5


@pytest.mark.parametrize(
    "request_, message",
    [
        (("dev", 32, [0], 0), "split must be one of train, train_all, validation, test, not 'dev'"),
        (("test", 15, [0], 0), "size must be at least 16 pixels, not 15"),
        (("test", 32.5, [0], 0), "size must be a whole number"),
        (("test", 32, [-1], 0), "indices must not be negative, but one is -1"),
        (("test", 32, [0], -1), "seed must be a whole number of at least 0, not -1"),
        (("test", 32, [0], 0.5), "seed must be a whole number of at least 0, not 0.5"),
    ],
)
def test_bad_requests_are_refused_at_once(request_, message):
    with pytest.raises(ValueError, match=message):
        pictures(*request_)
    with pytest.raises(ValueError, match=message):
        clips("video", *request_)


def test_an_unknown_kind_of_clip_is_refused():
    with pytest.raises(ValueError, match="kind must be one of video, multiview, lightfield, rgbd_video, not 'film'"):
        clips("film", "test", 32, [0])


# Videos


def said_motions(clip):
    """(program or None, objects) of each clause, as the caption says it."""
    description, motions = parse_with_motions(clip.caption)
    assert description == clip.description
    assert motions == clip.motions
    ends = np.cumsum([clause.count for clause in description.include])
    things = clip.scene.objects
    groups = [things[end - clause.count : end] for clause, end in zip(description.include, ends, strict=True)]
    return list(zip(motions, groups, strict=True))


def track(obj, seconds):
    """Centres [T, 3] and yaws [T]."""
    poses = [obj.at(float(second)) for second in seconds]
    return np.array([pose.position for pose in poses]), np.array([pose.yaw for pose in poses])


def assert_moves(program, obj, seconds):
    """Kinematics that a person would call by that verb, over the whole clip."""
    path, yaw = track(obj, seconds)
    step, span = np.diff(path, axis=0), np.ptp(path, axis=0)
    if program == "spin":
        assert (span == 0).all()
        assert (np.diff(yaw) > 0).all() and yaw[-1] - yaw[0] > 0.8 * math.pi
        return
    assert (np.diff(yaw) == 0).all()
    level, flies = span[1] < 1e-9, span[1] > 0.2
    ground = np.linalg.norm(step[:, [0, 2]], axis=1)
    if program == "slide":
        assert level and ground.sum() > 0.6
        np.testing.assert_allclose(step, step[:1].repeat(len(step), 0), atol=1e-9)  # straight and steady
    elif program == "orbit":
        assert level
        centre = (path[0] + path[len(path) // 2]) / 2  # half a turn apart
        np.testing.assert_allclose(np.linalg.norm(path - centre, axis=1), obj.motion.amplitude, atol=0.02)
        np.testing.assert_allclose(ground, ground[0], atol=1e-9)
        assert ground.sum() > 0.9 * 2 * math.pi * 0.3
    else:
        assert flies and path[:, 1].min() >= obj.position[1] - 1e-9
        landings = (np.diff(np.sign(step[:, 1])) > 0).sum()
        assert landings >= (1 if program == "bounce" else 2)
        assert ground.max() < 1e-9 if program == "bounce" else ground.sum() > 0.6


def test_verbs_are_true_of_every_object_of_their_clause(videos, tours):
    dense = np.linspace(0, VIDEO_SECONDS, 201)[:-1]
    seen = Counter()
    for clip in (*videos, *(tour for tour in tours if tour.camera != "frozen_orbit")):
        said = said_motions(clip)
        assert any(program for program, _ in said)
        for program, objects in said:
            seen[program] += 1
            for obj in objects:
                if program is None:
                    assert obj.motion is None
                else:
                    assert_moves(program, obj, dense)
    assert set(seen) >= set(PROGRAMS) | {None}


def test_every_frame_of_a_video_proves_its_caption(videos, tours):
    for clip in (*videos, *tours):
        assert clip.visibility.min() >= MIN_VISIBILITY
        for instances in clip.instances:
            assert_shows(clip.description, clip.scene, instances)


def test_frames_show_the_scene_at_their_times(videos):
    for clip in videos[:6]:
        np.testing.assert_allclose(clip.path.times, np.arange(VIDEO_FRAMES) * VIDEO_SECONDS / VIDEO_FRAMES, atol=1e-6)
        moment = 5
        still = clip.scene.at(clip.path.times[moment].item())
        picture = render([still], *default_camera(32), 32)
        np.testing.assert_array_equal(clip.instances[moment], picture.instances[0].numpy() + 1)
        assert (clip.instances[0] != clip.instances[moment]).any() or clip.motions == ("spin",)
        assert (clip.rgb[0] != clip.rgb[moment]).any()


def test_tours_use_every_camera_and_frozen_ones_claim_no_motion(tours):
    assert {clip.camera for clip in tours} == {"still", "pan", "orbit", "dolly", "frozen_orbit"}
    for clip in tours:
        still = bool((clip.path.viewmats == clip.path.viewmats[0]).all())
        assert still == (clip.camera == "still")
        if clip.camera == "frozen_orbit":
            assert len(set(clip.path.times.tolist())) == 1
            assert set(clip.motions) == {None}
            assert any(obj.motion for obj in clip.scene.objects)


# Views


def surface_in(clip, view, other, margin=2):
    """Surface points seen in a view: their pixels (u, v) and depth in another view, and the number of their object.

    Only points that are well inside the other picture; `margin` pixels.
    """
    height, width = clip.depths.shape[1:]
    origins, directions = pixel_rays(clip.path.viewmats[view], clip.path.Ks[view], height, width)
    points = origins + torch.from_numpy(clip.depths[view])[..., None] * directions
    on_object = torch.from_numpy(clip.instances[view] > 0)
    uv, z = project(points[on_object], clip.path.viewmats[other], clip.path.Ks[other])
    inside = ((uv > margin) & (uv < torch.tensor([width - margin, height - margin]))).all(dim=-1) & (z > 0)
    return uv[inside].numpy(), z[inside].numpy(), clip.instances[view][on_object.numpy()][inside.numpy()]


def test_the_first_view_of_a_ring_is_the_picture_of_that_index(rings):
    for clip, picture in zip(rings, pictures("test", SIZE, range(len(rings))), strict=True):
        assert clip.camera == "ring" and len(clip.rgb) == RING_VIEWS
        assert clip.caption == picture.caption and clip.scene == picture.scene
        np.testing.assert_array_equal(clip.instances[0], picture.instances)
        assert np.abs(clip.rgb[0].astype(int) - picture.rgb).max() <= 1


def test_known_points_fall_on_their_masks(rings):
    """An object's centre lies behind its own pixels or behind those of something nearer."""
    own = 0
    for clip in rings:
        for k, obj in enumerate(clip.scene.objects):
            if obj.shape == "torus":
                continue  # its centre is a hole
            uv, z = project(torch.tensor([[obj.position]]), clip.path.viewmats, clip.path.Ks)
            for view, ((u, v), depth) in enumerate(zip(uv[:, 0].tolist(), z[:, 0].tolist(), strict=True)):
                if not (0 <= u < SIZE and 0 <= v < SIZE):
                    continue
                assert 0 < clip.depths[view, int(v), int(u)] < depth
                assert clip.instances[view, int(v), int(u)] > 0
                own += clip.instances[view, int(v), int(u)] == k + 1
    assert own > 50


def test_depths_of_neighbouring_views_agree(rings):
    """What one view sees the next sees at the same place, or something stands before it; never farther surfaces."""
    same = total = farther = 0
    for clip in rings:
        for view in range(0, RING_VIEWS, 3):
            other = (view + 1) % RING_VIEWS
            uv, z, number = surface_in(clip, view, other)
            column, row = uv.astype(int).T
            there = clip.depths[other, row, column]
            agrees = (np.abs(there - z) < 0.12) & (clip.instances[other, row, column] == number)
            same, total, farther = same + agrees.sum(), total + len(z), farther + (there > z + 0.12).sum()
    assert total > 2000
    assert same > 0.6 * total
    assert farther < 0.06 * total  # only past an outline, by less than a pixel


def test_light_fields_are_rectified(grids):
    """A surface point at depth z moves by focal * spacing / z pixels a column and a row, along that axis alone."""
    for clip, picture in zip(grids, pictures("test", SIZE, range(len(grids))), strict=True):
        assert clip.camera == "grid" and len(clip.rgb) == GRID_SIDE**2
        assert clip.caption == picture.caption
        np.testing.assert_array_equal(clip.instances[GRID_CENTRE], picture.instances)
        focal, middle = clip.path.Ks[0, 0, 0].item(), GRID_SIDE // 2
        row, column = np.nonzero(clip.instances[GRID_CENTRE])
        number, z = clip.instances[GRID_CENTRE, row, column], clip.depths[GRID_CENTRE, row, column]
        for down, right in ((0, 1), (1, 0), (2, -2), (0, -2)):
            view = (middle + down) * GRID_SIDE + middle + right
            disparity = focal * GRID_SPACING / z
            u, v = column + 0.5 - right * disparity, row + 0.5 - down * disparity
            inside = (u >= 0) & (u < SIZE) & (v >= 0) & (v < SIZE)
            there = view, v[inside].astype(int), u[inside].astype(int)
            assert (clip.instances[there] == number[inside]).mean() > 0.9
            assert (np.abs(clip.depths[there] - z[inside]) < 0.15).mean() > 0.85


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_a_clip_depends_on_its_index_alone(kind):
    first = list(clips(kind, "validation", 16, range(3)))
    (again,) = clips(kind, "validation", 16, [2])
    assert (again.index, again.caption, again.scene, again.camera) == (
        2, first[2].caption, first[2].scene, first[2].camera
    )  # fmt: skip
    for name in (*FIELDS, "depths"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first[2], name))
