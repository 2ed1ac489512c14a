"""Where objects stand and how they move: solids against each other and the floor, by their own equations."""

import numpy as np
import pytest

from pocket_diffusers.training.datasets.pocketworld.motion import PROGRAMS
from pocket_diffusers.training.datasets.pocketworld.placement import (
    FLOOR_SLOPE,
    FLOOR_X,
    FLOOR_Z,
    sample_scene,
    set_in_motion,
)
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, SHAPES

DURATION = 2.0
# Implicit functions of the unit solids, negative inside.
INSIDE = {
    "cube": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 0.82,
    "sphere": lambda x, y, z: np.sqrt(x**2 + y**2 + z**2) - 1,
    "cylinder": lambda x, y, z: np.maximum(np.hypot(x, z) - 0.8, abs(y) - 0.95),
    "cone": lambda x, y, z: np.maximum(np.hypot(x, z) - (1 - y) / 2, -1 - y),
    "torus": lambda x, y, z: np.hypot(np.hypot(x, z) - 0.68, y) - 0.32,
}


def solid_points(shape):
    """Points [3, N] that fill the unit solid."""
    cloud = np.random.default_rng(0).uniform(-1, 1, (3, 6000))
    return cloud[:, INSIDE[shape](*cloud) < 0]


POINTS = {shape: solid_points(shape) for shape in SHAPES}


def to_world(obj):
    cos, sin = np.cos(obj.yaw), np.sin(obj.yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return turn, obj.radius, np.array(obj.position)[:, None]


def world_points(obj):
    turn, radius, centre = to_world(obj)
    return radius * turn @ POINTS[obj.shape] + centre


def overlap(a, b):
    """Whether any point of a lies in b."""
    turn, radius, centre = to_world(b)
    return (INSIDE[b.shape](*(turn.T @ (world_points(a) - centre) / radius)) < 0).any()


def assert_sound(objects):
    """No two solids share a point, and all stand over the floor that the camera sees."""
    for i, a in enumerate(objects):
        x, y, z = world_points(a)
        assert y.min() >= -1e-9
        assert a.position[1] - a.half_height < 1.4 + 1e-9
        assert FLOOR_Z[0] <= a.position[2] <= FLOOR_Z[1]
        assert np.abs(x).max() <= FLOOR_X + FLOOR_SLOPE * a.position[2] + 1e-9
        assert not any(overlap(a, b) for b in objects[:i] + objects[i + 1 :])


def draw(rng, count, **options):
    pairs = [(str(rng.choice(SHAPES)), str(rng.choice(list(COLORS)))) for _ in range(count)]
    return next(scene for scene in (sample_scene(rng, pairs, **options) for _ in range(50)) if scene)


def test_solids_stand_apart_on_the_floor_or_above_it():
    rng = np.random.default_rng(0)
    for trial in range(60):
        scene = draw(rng, 1 + trial % 6, hover=0.5)
        assert len(scene.objects) == 1 + trial % 6
        assert_sound(scene.objects)


@pytest.mark.parametrize(
    "relation, axis, sign", [("left of", 0, -1), ("right of", 0, 1), ("above", 1, 1), ("below", 1, -1)]
)
def test_a_relation_places_the_second_object_beside_the_first(relation, axis, sign):
    rng = np.random.default_rng(1)
    for _ in range(20):
        first, second = draw(rng, 2, relation=relation).objects
        assert sign * (second.position[axis] - first.position[axis]) > 0.3


def test_what_cannot_fit_is_none():
    rng = np.random.default_rng(2)
    crowded = [sample_scene(rng, [("cube", "red")] * 6, hover=0.0) for _ in range(40)]
    assert any(scene is None for scene in crowded)
    assert any(crowded)


def test_moving_solids_never_meet_nor_leave_the_floor():
    rng = np.random.default_rng(3)
    programs, moved = set(), 0
    for trial in range(60):
        still = draw(rng, 1 + trial % 4)
        groups = [[k] for k in range(len(still.objects))][: 1 + trial % 2]
        scene = set_in_motion(rng, still, groups, DURATION)
        if scene is None:
            continue
        moved += 1
        programs |= {obj.motion.program for obj in scene.objects if obj.motion}
        assert [obj.motion is not None for obj in scene.objects] == [[k] in groups for k in range(len(scene.objects))]
        for time in np.linspace(0, DURATION, 7):
            assert_sound(scene.at(float(time)).objects)
    assert moved > 40
    assert programs == set(PROGRAMS)


def test_a_group_shares_its_program_and_nothing_else():
    rng = np.random.default_rng(4)
    scenes = [sample_scene(rng, [("cube", "red")] * 3) for _ in range(40)]
    moving = [set_in_motion(rng, scene, [range(3)], DURATION) for scene in scenes if scene]
    motions = [[obj.motion for obj in scene.objects] for scene in moving if scene]
    assert len(motions) > 15
    assert all(len({motion.program for motion in three}) == 1 for three in motions)
    assert any(len({motion.direction for motion in three}) > 1 for three in motions)
