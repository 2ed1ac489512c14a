"""Pinhole cameras: OpenCV axes (x right, y down, z forward), pixel centres at +0.5."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Point = tuple[float, float, float]
UP: Point = (0.0, 1.0, 0.0)
MEAN_AXES = 1e-3  # of the cross product of cameras' mean axes, below which they cancel


def look_at(
    eye: Float[Tensor, "*batch 3"] | Sequence[float],
    target: Float[Tensor, "*batch 3"] | Sequence[float],
    up: Float[Tensor, "*batch 3"] | Sequence[float] = UP,
) -> Float[Tensor, "*batch 4 4"]:
    """World-to-camera matrices of cameras at `eye` that see `target` at the principal point.

    Leading dimensions broadcast; the result has the dtype and device of the first argument that is a tensor.

    Args:
        eye: camera centres in scene units.
        target: points that the z axes pass through.
        up: directions that point upwards in the picture; need not be orthogonal to the viewing direction.

    Raises:
        ValueError: if an eye is at its target or looks along `up`.
    """
    like = next((value for value in (eye, target, up) if isinstance(value, Tensor)), torch.zeros(()))
    eye, target, up = (torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in (eye, target, up))
    eye, target, up = torch.broadcast_tensors(eye, target, up)  # [*batch, 3]
    forward = _unit(target - eye, "eye and target must differ")
    right = _unit(torch.linalg.cross(forward, _unit(up, "up must not be zero")), "eye must not look along up")
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack((right, down, forward), -2)  # [*batch, 3, 3]
    translation = -(rotation @ eye[..., None])  # [*batch, 3, 1]
    bottom = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*rotation.shape[:-2], 1, 4)
    return torch.cat((torch.cat((rotation, translation), -1), bottom), -2)


def _unit(vectors: Tensor, complaint: str) -> Tensor:
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    if not bool((lengths > 1e-6).all()):
        shortest = vectors.reshape(-1, 3)[lengths.flatten().argmin()].tolist()
        raise ValueError(f"{complaint}; the vector between them came out as {shortest}.")
    return vectors / lengths


def camera_centres(viewmats: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 3"]:
    """Where the cameras of world-to-camera matrices stand, in scene units."""
    return -(viewmats[..., :3, :3].mT @ viewmats[..., :3, 3:])[..., 0]


def intrinsics(
    fov_y_degrees: float, height: int, width: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "3 3"]:
    """K in pixels for square pixels and a principal point at the centre, (width / 2, height / 2).

    Args:
        fov_y_degrees: vertical field of view between the outer edges of the picture, in (0, 180).

    Raises:
        ValueError: if the field of view or the size is out of range.
    """
    if not 0.0 < fov_y_degrees < 180.0:
        raise ValueError(f"fov_y_degrees must be between 0 and 180; got {fov_y_degrees}.")
    height, width = picture_size((height, width))
    focal = 0.5 * height / math.tan(math.radians(fov_y_degrees) / 2)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]], dtype=dtype)


def picture_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or a pair; ValueError unless both are whole and >= 1."""
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or any(int(side) != side or side < 1 for side in pair):
        raise ValueError(f"size must be a whole number of pixels or (height, width), each >= 1; got {size}.")
    return int(pair[0]), int(pair[1])


def orbit(
    center: Sequence[float], radius: float, count: int, elevation_degrees: float = 20.0, up: Sequence[float] = UP
) -> Float[Tensor, "count 4 4"]:
    """World-to-camera matrices of cameras on a circle, evenly spaced, that all see its axis's point `center`.

    Args:
        center: what they look at, in scene units.
        radius: distance from it.
        count: of cameras.
        elevation_degrees: of the circle above the plane through the centre, between -90 and 90.
        up: axis of the circle.

    Raises:
        ValueError: if the radius is not positive or the elevation out of range.
    """
    if not radius > 0 or not -90 < elevation_degrees < 90 or count < 1:
        raise ValueError(
            "orbit needs a positive radius, an elevation between -90 and 90 degrees and at least one camera, "
            f"not {radius}, {elevation_degrees} and {count}."
        )
    axis = _unit(torch.tensor(up, dtype=torch.float32), "up must not be zero")
    aside = torch.eye(3)[axis.abs().argmin()]
    first = _unit(torch.linalg.cross(axis, aside), "up must not be zero")
    second = torch.linalg.cross(axis, first)
    angles = 2 * math.pi * torch.arange(count) / count
    around = angles.cos()[:, None] * first + angles.sin()[:, None] * second
    elevation = math.radians(elevation_degrees)
    target = torch.tensor(center, dtype=torch.float32)
    return look_at(target + radius * (math.cos(elevation) * around + math.sin(elevation) * axis), target, axis)


def mean_camera(viewmats: Float[Tensor, "cameras 4 4"]) -> Float[Tensor, "4 4"]:
    """World-to-camera matrix in the cameras' mean place, along their mean axis, with their mean up.

    Raises:
        ValueError: if the cameras' axes cancel, as those of a whole orbit do.
    """
    eye, forward, up = camera_centres(viewmats).mean(0), viewmats[:, 2, :3].mean(0), -viewmats[:, 1, :3].mean(0)
    if not float(torch.linalg.vector_norm(torch.linalg.cross(forward, up))) > MEAN_AXES:
        raise ValueError("cameras must look about the same way, not all around.")
    return look_at(eye, eye + forward, up)
