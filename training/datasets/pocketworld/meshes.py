"""Finely tessellated meshes of PocketWorld's objects, through trimesh (extra `train`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .... import missing_package
from .intersections import CUBE, CYLINDER_HALF, CYLINDER_RADIUS, TORUS_MAJOR, TORUS_MINOR
from .motion import pose_at
from .scene import COLORS, SHAPES, SIZES, Scene, SceneObject

if TYPE_CHECKING:
    import trimesh

SECTIONS = 128  # segments of a full circle; chords stay within 0.0003 radii of it
_SPHERE_SUBDIVISIONS = 5  # of an icosahedron: 20,480 faces


def object_mesh(obj: SceneObject, time: float = 0.0) -> trimesh.Trimesh:
    """Watertight mesh of one object in world coordinates, its vertices coloured.

    Curved faces are inscribed, so that the mesh lies within 0.0005 radii inside the exact surface.

    Args:
        obj: anything with `shape, color, size, position, yaw, motion`.
        time: seconds into the object's motion.

    Raises:
        ValueError: if the shape, colour or size is unknown.
        ImportError: if trimesh is not installed.
    """
    for name, value, allowed in (("color", obj.color, COLORS), ("size", obj.size, SIZES)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")
    mesh = _unit_mesh(obj.shape)
    position, yaw = pose_at(obj.position, obj.yaw, obj.motion, time)
    mesh.apply_transform(_pose(position, yaw, SIZES[obj.size]))
    mesh.visual.vertex_colors = _rgba(COLORS[obj.color])
    return mesh


def scene_mesh(scene: Scene, time: float = 0.0, ground: float | None = None) -> trimesh.Scene:
    """All objects of a scene at one moment, as nodes `object_0`, `object_1`, ... and optionally `ground`.

    `scene_mesh(...).to_mesh()` joins them into one `trimesh.Trimesh`.

    Args:
        scene: anything with `objects` and a `ground` colour.
        time: seconds into the motions.
        ground: half the side of the square of ground, y = 0 around the origin, to add; None adds none.

    Raises:
        ValueError: if `ground` is not above 0, or an object is unknown to `object_mesh`.
        ImportError: if trimesh is not installed.
    """
    trimesh = _trimesh()
    meshes = {f"object_{index}": object_mesh(obj, time) for index, obj in enumerate(scene.objects)}
    if ground is not None:
        meshes["ground"] = _ground_mesh(ground, scene.ground)
    return trimesh.Scene(meshes)


def _trimesh():
    try:
        import trimesh
    except ImportError as error:
        raise missing_package("a mesh", "trimesh", "train") from error
    return trimesh


def _unit_mesh(shape: str) -> trimesh.Trimesh:
    """A mesh of radius 1 around the origin."""
    create = _trimesh().creation
    if shape == "cube":
        return create.box(extents=(2 * CUBE,) * 3)
    if shape == "sphere":
        return create.icosphere(subdivisions=_SPHERE_SUBDIVISIONS, radius=1.0)
    if shape == "cylinder":
        mesh = create.cylinder(radius=CYLINDER_RADIUS, height=2 * CYLINDER_HALF, sections=SECTIONS)
    elif shape == "cone":
        mesh = create.cone(radius=1.0, height=2.0, sections=SECTIONS)
        mesh.apply_translation((0.0, 0.0, -1.0))
    elif shape == "torus":
        mesh = create.torus(
            major_radius=TORUS_MAJOR,
            minor_radius=TORUS_MINOR,
            major_sections=SECTIONS,
            minor_sections=SECTIONS // 2,
        )
    else:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}; got {shape!r}.")
    return mesh.apply_transform(_Z_TO_Y)


# trimesh turns its solids around Z, PocketWorld around Y: (x, y, z) -> (x, z, -y).
_Z_TO_Y = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def _pose(position: tuple[float, float, float], yaw: float, radius: float) -> np.ndarray:
    cos, sin = math.cos(yaw), math.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = radius * np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    pose[:3, 3] = position
    return pose


def _ground_mesh(half: float, color: tuple[float, float, float]) -> trimesh.Trimesh:
    if not 0.0 < half < math.inf:
        raise ValueError(f"ground must be half the side of a square, above 0; got {half}.")
    corners = [(-half, 0.0, -half), (-half, 0.0, half), (half, 0.0, half), (half, 0.0, -half)]
    mesh = _trimesh().Trimesh(vertices=corners, faces=[(0, 1, 2), (0, 2, 3)], process=False)
    mesh.visual.vertex_colors = _rgba(color)
    return mesh


def _rgba(color: tuple[float, float, float]) -> list[int]:
    return [*(round(255 * channel) for channel in color), 255]
