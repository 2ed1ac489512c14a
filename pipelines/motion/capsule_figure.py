"""A figure of capsules around the bones: what a clip's skeleton wears in files and previews."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .capsule_rays import fall_of_radius
from .forward_kinematics import chained, world_rotations
from .joint_rotations import TIPS, Rig
from .rotations import rotated
from .skeleton import PARENTS

TORSO, HEAD, LEFT, RIGHT = (0.36, 0.42, 0.50), (0.87, 0.72, 0.60), (0.16, 0.55, 0.66), (0.86, 0.49, 0.22)
"""Colours in [0, 1], sRGB: left and right can be told apart from every side."""

# fmt: off
# joint that moves it and where it begins, joint where it ends (itself: its tip), radii in metres there, colour
CAPSULES = (
    ( 0,  3, 0.115, 0.108, TORSO), ( 3,  6, 0.108, 0.115, TORSO), ( 6,  9, 0.115, 0.120, TORSO),
    ( 9, 12, 0.120, 0.050, TORSO), (12, 15, 0.050, 0.058, HEAD),  (15, 15, 0.080, 0.096, HEAD),
    ( 0,  1, 0.110, 0.092, TORSO), ( 1,  4, 0.086, 0.056, LEFT),  ( 4,  7, 0.056, 0.038, LEFT),
    ( 0,  2, 0.110, 0.092, TORSO), ( 2,  5, 0.086, 0.056, RIGHT), ( 5,  8, 0.056, 0.038, RIGHT),
    ( 7, 10, 0.040, 0.030, LEFT),  (10, 10, 0.030, 0.022, LEFT),
    ( 8, 11, 0.040, 0.030, RIGHT), (11, 11, 0.030, 0.022, RIGHT),
    ( 9, 13, 0.105, 0.075, TORSO), (13, 16, 0.075, 0.060, TORSO), (16, 18, 0.056, 0.042, LEFT),
    ( 9, 14, 0.105, 0.075, TORSO), (14, 17, 0.075, 0.060, TORSO), (17, 19, 0.056, 0.042, RIGHT),
    (18, 20, 0.041, 0.030, LEFT),  (20, 20, 0.036, 0.026, LEFT),
    (19, 21, 0.041, 0.030, RIGHT), (21, 21, 0.036, 0.026, RIGHT),
)
# fmt: on

SEGMENTS, RINGS = 12, 4
"""Of a capsule: points around it, and rings on each of its two round ends."""


@dataclass(frozen=True)
class CapsuleFigure:
    """The surface of a figure at rest: closed capsules that overlap.

    Attributes:
        positions: of the vertices [vertices, 3] in metres.
        normals: of unit length, outward [vertices, 3].
        colors: sRGB in [0, 1] [vertices, 3].
        joints: that move the vertices, one each [vertices].
        faces: three vertices a triangle, counterclockwise seen from outside [faces, 3].
    """

    positions: Float[Tensor, "vertices 3"]
    normals: Float[Tensor, "vertices 3"]
    colors: Float[Tensor, "vertices 3"]
    joints: Int[Tensor, " vertices"]
    faces: Int[Tensor, "faces 3"]


def capsule_figure(rig: Rig) -> CapsuleFigure:
    """The figure around a rig at rest, its pelvis at the origin."""
    origins = chained(rig.offsets, rig.offsets[0])
    surfaces = [
        _surface(origins[joint], origins[joint] + end, *radii)
        for (joint, _, *radii, _), end in zip(CAPSULES, _ends_at_rest(rig), strict=True)
    ]
    count = len(surfaces[0][0])
    positions, normals = (torch.cat(parts).float() for parts in zip(*surfaces, strict=True))
    return CapsuleFigure(
        positions,
        normals,
        colors=torch.tensor([color for *_, color in CAPSULES]).repeat_interleave(count, 0),
        joints=torch.tensor([joint for joint, *_ in CAPSULES]).repeat_interleave(count),
        faces=torch.cat([_faces() + index * count for index in range(len(CAPSULES))]),
    )


def posed_axes(rig: Rig) -> Float[Tensor, "frames 2 capsules 3"]:
    """Where the axis of each of `CAPSULES` begins and where it ends in the world, in metres, frame after frame."""
    turned = world_rotations(rig.rotations)
    bones = torch.cat([rig.places[:, :1], rotated(rig.places[:, 1:], turned[:, PARENTS[1:]])], 1)
    owners = [joint for joint, *_ in CAPSULES]
    starts = chained(bones, rig.places[:, 0])[:, owners]
    return torch.stack([starts, starts + rotated(_ends_at_rest(rig), turned[:, owners])], 1)


def _ends_at_rest(rig: Rig) -> Tensor:
    """Where the axes end at rest [capsules, 3], seen from where they begin."""
    ends = [rig.offsets.new_tensor(TIPS[joint]) if joint == end else rig.offsets[end] for joint, end, *_ in CAPSULES]
    return torch.stack(ends)


def _surface(start: Tensor, end: Tensor, start_radius: float, end_radius: float) -> tuple[Tensor, Tensor]:
    """Vertices and normals [vertices, 3] of two balls and the cone that touches both: ring after ring from the start.

    Where the cone touches a ball, its normals lean along the axis by the angle whose sine is the difference of the
    radii over the distance.
    """
    axis = F.normalize(end - start, dim=0) if (end - start).any() else start.new_tensor([0, 1, 0])
    side = F.normalize(torch.linalg.cross(axis, F.one_hot(axis.abs().argmin(), 3).to(axis)), dim=0)
    lean = math.asin(fall_of_radius(float((end - start).norm()), start_radius - end_radius))
    lower, upper = torch.linspace(-math.pi / 2, lean, RINGS + 1), torch.linspace(lean, math.pi / 2, RINGS + 1)
    rise = torch.cat([lower[1:], upper[:-1]])
    turn = torch.arange(SEGMENTS) * (math.tau / SEGMENTS)
    around = turn.cos()[:, None] * side + turn.sin()[:, None] * torch.linalg.cross(axis, side)
    rings = rise.sin()[:, None, None] * axis + rise.cos()[:, None, None] * around  # [2 rings, segments, 3]
    normals = torch.cat([-axis[None], rings.flatten(0, 1), axis[None]])
    half = len(normals) // 2
    centers = torch.cat([start.expand(half, 3), end.expand(half, 3)])
    radii = torch.cat([torch.full([half, 1], start_radius), torch.full([half, 1], end_radius)])
    return centers + radii * normals, normals


def _faces() -> Tensor:
    """Triangles [faces, 3] of the vertices of `_surface`: a fan at either pole and two a square between."""
    here = torch.arange(SEGMENTS)
    following = (here + 1) % SEGMENTS
    rings = 2 * RINGS
    last = 1 + (rings - 1) * SEGMENTS
    faces = [torch.stack([torch.zeros_like(here), 1 + following, 1 + here], 1)]
    for first in range(1, last, SEGMENTS):
        above = first + SEGMENTS
        faces.append(torch.stack([first + here, first + following, above + here], 1))
        faces.append(torch.stack([first + following, above + following, above + here], 1))
    faces.append(torch.stack([last + here, last + following, torch.full_like(here, last + SEGMENTS)], 1))
    return torch.cat(faces)
