"""Capsules seen by a camera: one ray a pixel, in numpy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int

STEEPEST = 0.95
"""Bound of the change of a capsule's radius along its axis: at 1 one ball would hold the other."""


@dataclass(frozen=True)
class Camera:
    """A pinhole with square pixels and square pictures.

    Attributes:
        eye: where it is [3], in metres, Y up.
        right: unit vector to the picture's right [3].
        up: unit vector to its top [3].
        forward: unit vector into it [3].
        focal: focal length in sides of the picture.
    """

    eye: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    focal: float

    @classmethod
    def looking(cls, target: np.ndarray, azimuth: float, elevation: float, distance: float, focal: float) -> Self:
        """One that looks at `target` from a direction: azimuth from +Z towards +X and elevation, in radians."""
        level = np.array([np.sin(azimuth), 0, np.cos(azimuth)])
        back = level * np.cos(elevation) + np.array([0, np.sin(elevation), 0])
        right = np.cross([0, 1, 0], level)
        return cls(target + distance * back, right, np.cross(back, right), -back, focal)

    def project(self, points: Float[np.ndarray, "*batch 3"], size: int) -> Float[np.ndarray, "*batch 3"]:
        """Pixels x (right) and y (down), and the depth in metres, which is at least a centimetre."""
        seen = points - self.eye
        depth = np.maximum(seen @ self.forward, 0.01)
        x, y = seen @ self.right, -(seen @ self.up)
        scale = self.focal * size / depth
        return np.stack([size / 2 + x * scale, size / 2 + y * scale, depth], -1)

    def rays(self, size: int) -> Float[np.ndarray, "3 size size"]:
        """Unit directions through the centres of the pixels, single precision."""
        steps = ((np.arange(size) + 0.5) / size - 0.5) / self.focal
        x, y = np.meshgrid(steps, -steps)
        rays = self.right[:, None, None] * x + self.up[:, None, None] * y + self.forward[:, None, None]
        return (rays / np.linalg.norm(rays, axis=0)).astype(np.float32)


@dataclass(frozen=True)
class Capsules:
    """Balls of two sizes and the cones that touch both.

    Attributes:
        starts: centres of the first balls [capsules, 3] in metres.
        ends: centres of the second [capsules, 3].
        start_radii: in metres [capsules].
        end_radii: in metres [capsules].
    """

    starts: Float[np.ndarray, "capsules 3"]
    ends: Float[np.ndarray, "capsules 3"]
    start_radii: Float[np.ndarray, " capsules"]
    end_radii: Float[np.ndarray, " capsules"]

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit axes [capsules, 3], lengths [capsules], and by how much the radius falls a metre [capsules]."""
        along = self.ends - self.starts
        lengths = np.linalg.norm(along, axis=1)
        falls = self.start_radii - self.end_radii
        return along / np.maximum(lengths, 1e-9)[:, None], lengths, fall_of_radius(lengths, falls)


def fall_of_radius(lengths, falls):
    """By how much the radius falls a metre of the axis, within `STEEPEST`: the sine of the lean of its normals."""
    return falls / np.maximum(np.maximum(lengths, np.abs(falls) / STEEPEST), 1e-9)


def cast(
    camera: Camera, rays: Float[np.ndarray, "3 size size"], capsules: Capsules
) -> tuple[Float[np.ndarray, "size size"], Int[np.ndarray, "size size"]]:
    """Nearest surfaces along the rays.

    Returns:
        Distances in metres along the rays, infinite where there is nothing, and numbers of the capsules, -1 there.
    """
    size = rays.shape[-1]
    distances = np.full((size, size), np.inf, np.float32)
    numbers = np.full((size, size), -1, np.int16)
    axes, lengths, falls = capsules.axes
    boxes = _boxes(camera, capsules, size)
    for number, (left, right, top, bottom) in enumerate(boxes):
        if left < right and top < bottom:
            part = np.s_[top:bottom, left:right]
            hit = _hits(
                rays[:, top:bottom, left:right],
                camera.eye - capsules.starts[number],
                axes[number],
                lengths[number],
                capsules.start_radii[number],
                capsules.end_radii[number],
                falls[number],
            )
            nearer = hit < distances[part]
            distances[part][nearer] = hit[nearer]
            numbers[part][nearer] = number
    return distances, numbers


def normals_at(
    points: Float[np.ndarray, "points 3"], numbers: Int[np.ndarray, " points"], capsules: Capsules
) -> Float[np.ndarray, "points 3"]:
    """Outward unit normals of the capsules of these numbers at points on their surfaces."""
    axes, lengths, falls = (values[numbers] for values in capsules.axes)
    from_start = points - capsules.starts[numbers]
    along = _ball_along((from_start * axes).sum(1), capsules.start_radii[numbers], falls).clip(0, lengths)
    normals = from_start - along[:, None] * axes
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _ball_along(along, start_radius, fall):
    """How far along the axis the ball's centre is that touches the cone's surface at a point `along` the axis."""
    return (along - fall * start_radius) / (1 - fall * fall)


def _hits(rays, eye, axis, length, start_radius, end_radius, fall) -> np.ndarray:
    """Distances along rays from an eye, seen from the capsule's start, to its surface; infinite where they miss.

    The cone is where (1 - fall^2) (distance from the axis)^2 = (start_radius - fall * along)^2, `along` the axis.
    """
    x, y, z = rays
    ray_along = x * np.float32(axis[0]) + y * np.float32(axis[1]) + z * np.float32(axis[2])
    ray_eye = x * np.float32(eye[0]) + y * np.float32(eye[1]) + z * np.float32(eye[2])
    eye_along, eye_square, steep = float(eye @ axis), float(eye @ eye), 1 - fall * fall
    taper = start_radius - fall * eye_along
    a = np.float32(steep) - ray_along * ray_along
    b = np.float32(steep) * ray_eye + ray_along * np.float32(fall * taper - steep * eye_along)
    c = np.float32(steep * (eye_square - eye_along**2) - taper**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        cone = (-b - np.sqrt(b * b - a * c)) / a
        center = _ball_along(np.float32(eye_along) + cone * ray_along, np.float32(start_radius), np.float32(fall))
        on_cone = (center >= 0) & (center <= length) & (cone > 0)
        hit = np.where(on_cone, cone, np.float32(np.inf))
        for offset, radius in ((0.0, start_radius), (length, end_radius)):
            half = ray_eye - np.float32(offset) * ray_along
            square = np.float32(eye_square - 2 * offset * eye_along + offset**2 - radius**2)
            ball = -half - np.sqrt(half * half - square)
            hit = np.fmin(hit, np.where(ball > 0, ball, np.float32(np.inf)))
    return hit


def _boxes(camera: Camera, capsules: Capsules, size: int) -> np.ndarray:
    """Left, right, top and bottom [capsules, 4] of the pixels that may see each capsule."""
    ends = camera.project(np.stack([capsules.starts, capsules.ends]), size)
    radii = np.stack([capsules.start_radii, capsules.end_radii])
    reach = 1.1 * camera.focal * size * radii / np.maximum(ends[..., 2] - radii, 0.01) + 1
    low = np.floor((ends[..., :2] - reach[..., None]).min(0)).clip(0, size).astype(int)
    high = np.ceil((ends[..., :2] + reach[..., None]).max(0)).clip(0, size).astype(int)
    return np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], 1)
