"""Cameras of PocketWorld: OpenCV axes (x right, y down, z forward), pixel centres at +0.5, Y up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ....hub_models.rendering.cameras import Point, intrinsics, look_at, picture_size


@dataclass(frozen=True)
class Viewpoint:
    """A camera on a sphere around a target. The defaults are PocketWorld's default camera.

    Args:
        azimuth: degrees; 0 stands at +Z of the target, 90 at +X.
        elevation: degrees above the horizon, in (-90, 90).
        distance: scene units from the target, above 0.
        target: scene point at the principal point.
        fov_y: vertical field of view in degrees, in (0, 180).

    Raises:
        ValueError: if an argument is outside its range.
    """

    azimuth: float = 0.0
    elevation: float = 24.0
    distance: float = 5.8
    target: Point = (0.0, 0.55, 0.0)
    fov_y: float = 40.0

    def __post_init__(self) -> None:
        if not -90.0 < self.elevation < 90.0:
            raise ValueError(f"elevation must be between -90 and 90 degrees; got {self.elevation}.")
        if not 0.0 < self.distance < math.inf:
            raise ValueError(f"distance must be finite and above 0; got {self.distance}.")
        if not 0.0 < self.fov_y < 180.0:
            raise ValueError(f"fov_y must be between 0 and 180 degrees; got {self.fov_y}.")

    @property
    def eye(self) -> Point:
        """Camera centre in scene units."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        across = self.distance * math.cos(elevation)
        x, y, z = self.target
        return (
            x + across * math.sin(azimuth),
            y + self.distance * math.sin(elevation),
            z + across * math.cos(azimuth),
        )

    def viewmat(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "4 4"]:
        """World-to-camera matrix."""
        eye = torch.tensor(self.eye, dtype=torch.float64)
        return look_at(eye, self.target).to(dtype)

    def intrinsics(self, size: int | tuple[int, int], dtype: torch.dtype = torch.float32) -> Float[Tensor, "3 3"]:
        """K for pictures of `size`, one number or (height, width)."""
        return intrinsics(self.fov_y, *picture_size(size), dtype=dtype)


DEFAULT_VIEWPOINT = Viewpoint()


def default_camera(
    size: int | tuple[int, int], dtype: torch.dtype = torch.float32
) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    """(viewmat, K) of the default camera for pictures of `size`, one number or (height, width)."""
    return DEFAULT_VIEWPOINT.viewmat(dtype), DEFAULT_VIEWPOINT.intrinsics(size, dtype)


class CameraPath(NamedTuple):
    """One camera and one moment a frame: viewmats [T, 4, 4], Ks [T, 3, 3], times [T] in seconds (float32)."""

    viewmats: Float[Tensor, "frames 4 4"]
    Ks: Float[Tensor, "frames 3 3"]
    times: Float[Tensor, " frames"]


def still(
    frames: int,
    size: int | tuple[int, int],
    duration: float = 2.0,
    viewpoint: Viewpoint = DEFAULT_VIEWPOINT,
) -> CameraPath:
    """A camera that stays. Frame i of every moving-time path is at time i * duration / frames."""
    return _path([viewpoint.viewmat()] * _frames(frames), size, viewpoint, _clock(frames, duration))


def pan(
    frames: int,
    size: int | tuple[int, int],
    duration: float = 2.0,
    viewpoint: Viewpoint = DEFAULT_VIEWPOINT,
    degrees: float = 10.0,
) -> CameraPath:
    """A camera that stays and turns right about the vertical by `degrees`, half before the viewpoint."""
    viewmats = [_turned(viewpoint, degrees * part) for part in _parts(frames)]
    return _path(viewmats, size, viewpoint, _clock(frames, duration))


def orbit(
    frames: int,
    size: int | tuple[int, int],
    duration: float = 2.0,
    viewpoint: Viewpoint = DEFAULT_VIEWPOINT,
    degrees: float = 40.0,
) -> CameraPath:
    """A camera that circles the target by `degrees` of azimuth, half of them before `viewpoint`."""
    return _path(
        [replace(viewpoint, azimuth=viewpoint.azimuth + degrees * part).viewmat() for part in _parts(frames)],
        size,
        viewpoint,
        _clock(frames, duration),
    )


def dolly(
    frames: int,
    size: int | tuple[int, int],
    duration: float = 2.0,
    viewpoint: Viewpoint = DEFAULT_VIEWPOINT,
    nearer: float = 0.3,
) -> CameraPath:
    """A camera that nears the target by the fraction `nearer` of its distance, half before `viewpoint`.

    Raises:
        ValueError: if `nearer` is not in (-2, 2), or a size or duration is out of range.
    """
    if not -2.0 < nearer < 2.0:
        raise ValueError(f"nearer must be between -2 and 2; got {nearer}.")
    distances = [viewpoint.distance * (1.0 - nearer * part) for part in _parts(frames)]
    viewmats = [replace(viewpoint, distance=distance).viewmat() for distance in distances]
    return _path(viewmats, size, viewpoint, _clock(frames, duration))


def frozen_orbit(
    frames: int,
    size: int | tuple[int, int],
    time: float = 0.0,
    viewpoint: Viewpoint = DEFAULT_VIEWPOINT,
    degrees: float = 40.0,
) -> CameraPath:
    """The views of `orbit`, all at the one moment `time` in seconds."""
    path = orbit(frames, size, viewpoint=viewpoint, degrees=degrees)
    return path._replace(times=torch.full_like(path.times, time))


PATHS: dict[str, Callable[..., CameraPath]] = {
    "still": still,
    "pan": pan,
    "orbit": orbit,
    "dolly": dolly,
    "frozen_orbit": frozen_orbit,
}


def _path(viewmats: list[Tensor], size, viewpoint: Viewpoint, times: Tensor) -> CameraPath:
    Ks = viewpoint.intrinsics(size).repeat(len(viewmats), 1, 1)
    return CameraPath(torch.stack(viewmats), Ks, times)


def _turned(viewpoint: Viewpoint, degrees: float) -> Tensor:
    """The view of a camera at the viewpoint's eye, turned right about the world's vertical."""
    eye = torch.tensor(viewpoint.eye, dtype=torch.float64)
    forward = torch.tensor(viewpoint.target, dtype=torch.float64) - eye
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    about_y = torch.tensor([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]], dtype=torch.float64)
    return look_at(eye, eye + about_y @ forward).float()


def _frames(frames: int) -> int:
    if int(frames) != frames or frames < 1:
        raise ValueError(f"frames must be a whole number >= 1; got {frames}.")
    return int(frames)


def _parts(frames: int) -> list[float]:
    """Evenly spaced from -0.5 to 0.5 inclusive; one frame stands at 0."""
    return [0.0] if _frames(frames) == 1 else torch.linspace(-0.5, 0.5, frames, dtype=torch.float64).tolist()


def _clock(frames: int, duration: float) -> Tensor:
    if not 0.0 < duration < math.inf:
        raise ValueError(f"duration must be a finite number of seconds above 0; got {duration}.")
    return (torch.arange(_frames(frames), dtype=torch.float64) * duration / frames).float()


def ring(
    views: int,
    elevation: float = DEFAULT_VIEWPOINT.elevation,
    radius: float = DEFAULT_VIEWPOINT.distance,
    target: Point = DEFAULT_VIEWPOINT.target,
    azimuth: float = 0.0,
) -> Float[Tensor, "views 4 4"]:
    """World-to-camera matrices of `views` cameras evenly around `target`, all looking at it.

    Args:
        views: number of cameras, at least 1; camera i stands at `azimuth + 360 * i / views` degrees.
        elevation: degrees above the horizon.
        radius: scene units from the target.
        azimuth: degrees of the first camera; 0 stands at +Z, 90 at +X.

    Raises:
        ValueError: if an argument is out of range.
    """
    if int(views) != views or views < 1:
        raise ValueError(f"views must be a whole number >= 1; got {views}.")
    azimuths = [azimuth + 360.0 * index / views for index in range(views)]
    return torch.stack([Viewpoint(angle, elevation, radius, target).viewmat() for angle in azimuths])


def planar_grid(
    rows: int, cols: int, spacing: float, viewpoint: Viewpoint = DEFAULT_VIEWPOINT
) -> Float[Tensor, "rows cols 4 4"]:
    """Views of a rectified light field: cameras on a plane, with parallel axes, centred on `viewpoint`.

    A scene point has the same pixel row in all cameras of a grid row, and the same pixel column in all
    cameras of a grid column. Row 0 is the highest and column 0 the leftmost, as the cameras see it.

    Args:
        rows, cols: size of the grid, each at least 1.
        spacing: scene units between neighbours, above 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    if int(rows) != rows or int(cols) != cols or rows < 1 or cols < 1:
        raise ValueError(f"rows and cols must be whole numbers >= 1; got {rows} and {cols}.")
    if not 0.0 < spacing < math.inf:
        raise ValueError(f"spacing must be finite and above 0; got {spacing}.")
    viewmats = viewpoint.viewmat(torch.float64).repeat(rows, cols, 1, 1)
    across = (torch.arange(cols, dtype=torch.float64) - (cols - 1) / 2) * spacing
    down = (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2) * spacing
    viewmats[..., 0, 3] -= across
    viewmats[..., 1, 3] -= down[:, None]
    return viewmats.float()


def project(
    points: Float[Tensor, "*batch points 3"],
    viewmats: Float[Tensor, "*batch 4 4"],
    Ks: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch points 2"], Float[Tensor, "*batch points"]]:
    """Pixel coordinates (u right, v down) and z-depth of world points; leading dimensions broadcast.

    The centre of the first pixel is (0.5, 0.5). Where the depth is not above 0 the point lies behind the
    camera and its coordinates mean nothing.

    Raises:
        ValueError: if `points` is not [..., points, 3].
    """
    if points.ndim < 2 or points.shape[-1] != 3:
        raise ValueError(f"points must be shaped [..., points, 3]; got {list(points.shape)}.")
    in_camera = points @ viewmats[..., :3, :3].mT + viewmats[..., None, :3, 3]  # [*batch, points, 3]
    in_pixels = in_camera @ Ks.mT
    return in_pixels[..., :2] / in_pixels[..., 2:], in_camera[..., 2]
