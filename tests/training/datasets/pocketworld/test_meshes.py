"""Meshes against closed-form volumes, areas and bounds of the five solids."""

import builtins
import math

import numpy as np
import pytest

from pocket_diffusers.training.datasets.pocketworld.meshes import object_mesh, scene_mesh
from pocket_diffusers.training.datasets.pocketworld.motion import Motion
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, Scene, SceneObject

trimesh = pytest.importorskip("trimesh", reason="meshes need the extra 'train'")

RADII = {"small": 0.42, "large": 0.62}
CENTRE = (0.3, 1.1, -0.4)
# By shape, for radius 1: volume, surface area, half height, half width along x at yaw 0.
SOLIDS = {
    "cube": (1.64**3, 6 * 1.64**2, 0.82, 0.82),
    "sphere": (4 / 3 * math.pi, 4 * math.pi, 1.0, 1.0),
    "cylinder": (math.pi * 0.64 * 1.9, 2 * math.pi * 0.8 * (0.8 + 1.9), 0.95, 0.8),
    "cone": (math.pi / 3 * 2, math.pi * (1 + math.sqrt(5)), 1.0, 1.0),
    "torus": (2 * math.pi**2 * 0.68 * 0.32**2, 4 * math.pi**2 * 0.68 * 0.32, 0.32, 1.0),
}


def make(shape, size="large", color="red", position=CENTRE, yaw=0.0, motion=None):
    return SceneObject(shape, color, size, position, yaw, motion)


@pytest.mark.parametrize("size", RADII)
@pytest.mark.parametrize("shape", SOLIDS)
def test_meshes_have_the_solids_volume_area_and_bounds(shape, size):
    mesh, r = object_mesh(make(shape, size)), RADII[size]
    volume, area, half_height, half_width = SOLIDS[shape]
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(volume * r**3, rel=3e-3)  # positive: faces wind outwards
    assert mesh.area == pytest.approx(area * r**2, rel=3e-3)
    half = r * np.array([half_width, half_height, half_width])
    np.testing.assert_allclose(mesh.bounds, [CENTRE - half, CENTRE + half], atol=1e-3 * r)


@pytest.mark.parametrize("shape", SOLIDS)
def test_vertices_lie_on_the_exact_surface(shape):
    x, y, z = ((object_mesh(make(shape)).vertices - CENTRE) / 0.62).T
    across = np.hypot(x, z)
    outside = {
        "cube": np.max(np.abs([x, y, z]), axis=0) - 0.82,
        "sphere": np.sqrt(x**2 + y**2 + z**2) - 1,
        "cylinder": np.maximum(across - 0.8, np.abs(y) - 0.95),
        "cone": np.maximum(across - (1 - y) / 2, -1 - y),  # apex up, closed base
        "torus": np.hypot(across - 0.68, y) - 0.32,  # lies flat
    }[shape]
    np.testing.assert_allclose(outside, 0.0, atol=1e-9)


def test_yaw_turns_a_cube_about_the_vertical():
    mesh = object_mesh(make("cube", yaw=0.3))
    corner = np.array([0.82, 0.82, 0.82]) * 0.62
    cos, sin = math.cos(0.3), math.sin(0.3)
    # counter-clockwise seen from above: x turns towards -z
    turned = np.array([corner[0] * cos + corner[2] * sin, corner[1], -corner[0] * sin + corner[2] * cos])
    assert np.linalg.norm(mesh.vertices - (CENTRE + turned), axis=1).min() < 1e-9


def test_meshes_follow_the_motion():
    slide = make("cone", motion=Motion("slide", amplitude=1.0, period=4.0))
    moved = object_mesh(slide, time=1.0).vertices - object_mesh(make("cone")).vertices
    np.testing.assert_allclose(moved, np.broadcast_to((0.5, 0.0, 0.0), moved.shape), atol=1e-9)
    spin = make("cube", yaw=0.1, motion=Motion("spin", 0.0, period=4.0))
    np.testing.assert_allclose(
        object_mesh(spin, time=0.5).vertices,
        object_mesh(make("cube", yaw=0.1 + math.pi / 4)).vertices,
        atol=1e-9,
    )


@pytest.mark.parametrize("color", COLORS)
def test_meshes_are_coloured(color):
    mesh = object_mesh(make("cube", color=color))
    expected = [*(round(255 * channel) for channel in COLORS[color]), 255]
    assert (mesh.visual.vertex_colors == expected).all()


def test_a_scene_keeps_its_objects_apart_and_can_be_joined():
    objects = tuple(make(shape, position=(1.5 * i, 0.8, 0.0)) for i, shape in enumerate(SOLIDS))
    scene = scene_mesh(Scene(objects))
    assert list(scene.geometry) == [f"object_{index}" for index in range(5)]
    joined = scene.to_mesh()
    assert joined.is_watertight
    assert joined.volume == pytest.approx(sum(SOLIDS[shape][0] for shape in SOLIDS) * 0.62**3, rel=3e-3)
    np.testing.assert_allclose(scene.geometry["object_3"].vertices, object_mesh(objects[3]).vertices)


def test_the_ground_is_a_square_at_height_zero_that_faces_up():
    scene = scene_mesh(Scene((make("sphere"),), ground=(0.2, 0.4, 0.6)), ground=5.0)
    ground = scene.geometry["ground"]
    np.testing.assert_allclose(ground.bounds, [[-5, 0, -5], [5, 0, 5]])
    np.testing.assert_allclose(ground.face_normals, [[0, 1, 0]] * 2)
    assert ground.area == pytest.approx(100.0)
    assert ground.visual.vertex_colors[0].tolist() == [51, 102, 153, 255]


def test_a_scene_follows_its_motions():
    bounce = make("sphere", motion=Motion("bounce", amplitude=0.5, period=1.0))
    high = scene_mesh(Scene((bounce,)), time=0.5)
    np.testing.assert_allclose(high.centroid, np.add(CENTRE, (0, 0.5, 0)), atol=1e-6)


class Thing:
    shape, color, size, position, yaw, motion = "cube", "red", "large", CENTRE, 0.0, None


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("shape", "pyramid", "shape must be one of cube, .*'pyramid'"),
        ("color", "teal", "color must be one of red, .*'teal'"),
        ("size", "huge", "size must be one of small, large; got 'huge'"),
    ],
)
def test_unknown_objects_are_refused(field, value, message):
    thing = Thing()
    setattr(thing, field, value)
    with pytest.raises(ValueError, match=message):
        object_mesh(thing)


def test_a_ground_without_size_is_refused():
    with pytest.raises(ValueError, match=r"ground .* 0"):
        scene_mesh(Scene((make("cube"),)), ground=0)


def test_a_missing_trimesh_names_its_extra(monkeypatch):
    real = builtins.__import__

    def without_trimesh(name, *rest):
        if name == "trimesh":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_trimesh)
    with pytest.raises(ImportError, match="needs trimesh, which comes with the extra 'train'"):
        object_mesh(make("cube"))
