"""From where a scene is looked at: cameras, and circles of them around it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..hub_models.rendering.cameras import intrinsics, orbit
from ..hub_models.rendering.gaussian_rasterizer import Rendering, rasterize_gaussians
from ..hub_models.rendering.gaussians import Gaussians
from .inputs import PosedImages, check_choice, check_number, require

UP = "-y"  # of the axes of a 3DGS PLY, whose y points down
DIRECTIONS = ("x", "y", "z", "-x", "-y", "-z")
FIELD_OF_VIEW = 40.0  # degrees, vertical
MARGIN = 1.15  # of a picture around the scene
SMALLEST_RADIUS = 1e-4  # cameras come no closer to a mere point
SMALLEST_DISTANCE = 1e-9
LEAST_SHARE = 1e-6  # nor than single precision tells apart so far from the origin
LARGEST_RADIUS = 1e12
NEAR = 0.01  # in scene units, and at most this share of a turntable's distance


@dataclass(frozen=True)
class Cameras:
    """From where a scene is rendered.

    Attributes:
        viewmats: world to camera [cameras, 4, 4], OpenCV axes.
        Ks: intrinsics in pixels [cameras, 3, 3].
        width, height: of each picture in pixels.
        near: smallest depth that is drawn, in scene units.
        share: how much each picture counts where pictures decide what a Gaussian is worth.
    """

    viewmats: Float[Tensor, "cameras 4 4"]
    Ks: Float[Tensor, "cameras 3 3"]
    width: int
    height: int
    near: float = NEAR
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.viewmats)

    @classmethod
    def of_pictures(cls, posed: PosedImages) -> Self:
        """Those that took pictures."""
        return cls(posed.viewmats, posed.Ks, posed.width, posed.height)

    def select(self, index: Tensor) -> Self:
        """Those of the given indices or mask."""
        return replace(self, viewmats=self.viewmats[index], Ks=self.Ks[index])

    def to(self, device: torch.device | str) -> Self:
        """The same cameras on another device."""
        return replace(self, viewmats=self.viewmats.to(device), Ks=self.Ks.to(device))

    def draw(self, gaussians: Gaussians, camera: int, background: Float[Tensor, "3"] | None = None) -> Rendering:
        """What one of the cameras sees, over black if no other background is given."""
        view, K = self.viewmats[camera, None], self.Ks[camera, None]
        return rasterize_gaussians(gaussians, view, K, self.width, self.height, background, near=self.near)

    @torch.no_grad()
    def picture(self, gaussians: Gaussians, camera: int, background: Float[Tensor, "3"] | None = None) -> Image.Image:
        """What `draw` shows, as an RGB picture."""
        colors = self.draw(gaussians, camera, background).rgb[0]
        return Image.fromarray((colors.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


@dataclass(frozen=True)
class Circle:
    """Where cameras stand that look at a scene from all sides.

    Attributes:
        center: what they look at, in scene units.
        distance: from it, in scene units.
        elevation: of the circle, in degrees.
        up: which of the scene's axes points up: x, y or z, or one of them with a minus.

    Raises:
        ValueError: for a value that is not as it must be.
    """

    center: tuple[float, float, float]
    distance: float
    elevation: float = 15.0
    up: str = UP

    def __post_init__(self) -> None:
        numbers = [check_number("center", value, -math.inf) for value in self.center]
        require(len(numbers) == 3, "center", self.center, "three numbers")
        object.__setattr__(self, "center", tuple(numbers))
        check_number("distance", self.distance, SMALLEST_DISTANCE)
        check_number("elevation", self.elevation, -89, 89)
        check_choice("up", self.up, DIRECTIONS)

    @classmethod
    def around(
        cls, gaussians: Gaussians, elevation: float = 15.0, up: str = UP, closeness: float = 1.0, aspect: float = 1.0
    ) -> Self:
        """From where all of the `scene_ball` of splats is seen, or from closer.

        Args:
            gaussians: the scene.
            elevation, up: of the circle.
            closeness: how many times closer to its centre the cameras are.
            aspect: of the pictures, width by height.

        Raises:
            ValueError: `up` is no axis, or the scene is too large for single precision.
        """
        center, radius = scene_ball(gaussians)
        require(radius <= LARGEST_RADIUS, "the radius of the scene", radius, f"at most {LARGEST_RADIUS:g} units")
        radius = max(radius, SMALLEST_RADIUS, LEAST_SHARE * float(center.norm()))
        half_height = math.tan(math.radians(FIELD_OF_VIEW) / 2)
        half_angle = math.atan(half_height * min(1.0, aspect))
        return cls(tuple(center.tolist()), MARGIN * radius / math.sin(half_angle) / closeness, elevation, up)

    @classmethod
    def of_cameras(cls, viewmats: Float[Tensor, "cameras 4 4"], up: str = UP) -> Self:
        """About where given cameras stand, around the point that lies nearest to all their axes."""
        check_choice("up", up, DIRECTIONS)
        rotation, translation = viewmats[:, :3, :3].double(), viewmats[:, :3, 3:].double()
        places, axes = -(rotation.mT @ translation)[..., 0], rotation[:, 2]  # [cameras, 3]
        across = torch.eye(3, dtype=axes.dtype) - axes[:, :, None] * axes[:, None]  # [cameras, 3, 3]
        center = torch.linalg.pinv(across.sum(0)) @ (across @ places[..., None]).sum(0)[:, 0]
        away = places - center
        distance = away.norm(dim=1)
        height = (away @ torch.tensor(direction(up), dtype=away.dtype) / distance).clamp(-1, 1)
        elevation = float(height.asin().rad2deg().median().clamp(-89, 89))
        return cls(tuple(center.tolist()), float(distance.median()), elevation, up)

    def cameras(self, frames: int, width: int, height: int, share: float = 1.0) -> Cameras:
        """So many of them, evenly spaced, for pictures of so many pixels."""
        viewmats = orbit(self.center, self.distance, frames, self.elevation, direction(self.up))
        K = intrinsics(FIELD_OF_VIEW, height, width)
        return Cameras(viewmats, K.expand(frames, 3, 3), width, height, min(NEAR, NEAR * self.distance), share)


def circle_of(stored: Mapping[str, Any]) -> Circle:
    """That of fields as JSON keeps them.

    Raises:
        ValueError: for fields that are not those of a circle.
    """
    names = {field.name for field in fields(Circle)}
    if set(stored) != names:
        raise ValueError(f"circle must have {', '.join(sorted(names))}, not {', '.join(sorted(stored))}.")
    return Circle(**{**stored, "center": tuple(stored["center"])})


def direction(up: str) -> list[float]:
    """The unit vector of one of `DIRECTIONS`."""
    sign = -1.0 if up.startswith("-") else 1.0
    return [sign * up.endswith(axis) for axis in "xyz"]


def scene_ball(gaussians: Gaussians) -> tuple[Float[Tensor, "3"], float]:
    """Centre and radius of a ball around what is opaque, without the farthest twentieth of it.

    Where nothing is opaque, every Gaussian counts alike.
    """
    weights = torch.sigmoid(gaussians.opacity_logits)
    weights = weights if weights.any() else torch.ones_like(weights)
    order = gaussians.means.argsort(0)  # [N, 3]
    shares = weights[order].cumsum(0) / weights.sum()
    middle = (shares < 0.5).sum(0).clamp_max(len(gaussians) - 1)  # the weighted median along each axis
    center = gaussians.means.gather(0, order).gather(0, middle[None])[0]
    distance, nearest = (gaussians.means - center).norm(dim=1).sort()
    within = int((weights[nearest].cumsum(0) < 0.95 * weights.sum()).sum().clamp_max(len(gaussians) - 1))
    largest = gaussians.log_scales.exp().amax(1).median()
    return center, float(distance[within] + largest)


def turntable(
    gaussians: Gaussians,
    frames: int,
    width: int,
    height: int,
    elevation: float = 15.0,
    up: str = UP,
    closeness: float = 1.0,
) -> Cameras:
    """Cameras on a circle around the scene that see all of its `scene_ball`, or stand closer.

    Args:
        gaussians: the scene.
        frames: number of cameras.
        width, height: of each picture in pixels.
        elevation: of the circle, in degrees.
        up: which of the scene's axes points up: x, y or z, or one of them with a minus.
        closeness: how many times closer to its centre the cameras are, which then count as many times less.

    Raises:
        ValueError: `up` is no axis, or the scene is too large for single precision.
    """
    circle = Circle.around(gaussians, elevation, up, closeness, width / height)
    return circle.cameras(frames, width, height, 1 / closeness)
