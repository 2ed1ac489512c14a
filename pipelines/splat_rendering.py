"""`pocket render`: pictures of a file of Gaussian splats, from cameras on a circle or from those of a capture."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from PIL import Image, ImageColor
from torch import Tensor

from ..hub_models.rendering.cameras import intrinsics, orbit
from ..hub_models.rendering.gaussian_rasterizer import Rendering, rasterize_gaussians
from ..hub_models.rendering.gaussians import Gaussians
from .contact_sheet import contact_sheet
from .inputs import check_choice, check_count, check_number, require
from .splat_conversion import read_source

UP = "-y"  # of the axes of a 3DGS PLY, whose y points down
DIRECTIONS = ("x", "y", "z", "-x", "-y", "-z")
FIELD_OF_VIEW = 40.0  # degrees, vertical
MARGIN = 1.15  # of a picture around the scene
SMALLEST_RADIUS = 1e-4  # cameras come no closer to a mere point
LEAST_SHARE = 1e-6  # nor than single precision tells apart so far from the origin
LARGEST_RADIUS = 1e12
FRAME_MILLISECONDS = 66
SHEET_FRAMES = 8
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
    check_choice("up", up, DIRECTIONS)
    sign = -1.0 if up.startswith("-") else 1.0
    direction = [sign * up.endswith(axis) for axis in "xyz"]
    center, radius = scene_ball(gaussians)
    require(radius <= LARGEST_RADIUS, "the radius of the scene", radius, f"at most {LARGEST_RADIUS:g} units")
    radius = max(radius, SMALLEST_RADIUS, LEAST_SHARE * float(center.norm()))
    K = intrinsics(FIELD_OF_VIEW, height, width)
    half_angle = torch.atan(min(width, height) / 2 / K[0, 0])
    distance = MARGIN * radius / float(torch.sin(half_angle)) / closeness
    viewmats = orbit(center.tolist(), distance, frames, elevation, direction)
    return Cameras(viewmats, K.expand(frames, 3, 3), width, height, min(NEAR, NEAR * distance), 1 / closeness)


def render_splats(
    source: str | Path,
    folder: Path,
    cameras: Cameras | None = None,
    frames: int = 36,
    size: tuple[int, int] = (512, 512),
    elevation: float = 15.0,
    up: str = UP,
    background: str = "black",
    level: int = 0,
    progress: Callable[[float], None] = lambda more: None,
) -> int:
    """Renders a file into a folder: a PNG a camera, all of them as turntable.webp, and some on sheet.png.

    Args:
        source: as `read_source` takes it.
        folder: an empty one.
        cameras: from where; a turntable if left out.
        frames, size, elevation, up: of the turntable: pictures, width and height in pixels, degrees, and an axis.
        background: a colour by its name or as #rrggbb.
        level: of detail of a streamed scene, 0 for the finest.
        progress: called with 1 after each picture.

    Returns:
        the number of Gaussians.

    Raises:
        FileNotFoundError: the source is missing.
        ValueError: the source or an argument is not as it must be.
    """
    colour = background_color(background)
    width, height = (check_count(name, side) for name, side in zip(("width", "height"), size, strict=True))
    check_count("frames", frames)
    check_number("elevation", elevation, -89, 89)
    gaussians = read_source(source, level)
    cameras = cameras or turntable(gaussians, frames, width, height, elevation, up)
    pictures = []
    for index in range(len(cameras)):
        pictures.append(cameras.picture(gaussians, index, colour))
        pictures[-1].save(folder / f"frame_{index:04d}.png")
        progress(1)
    first, *rest = pictures
    first.save(folder / "turntable.webp", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    shown = pictures[:: max(1, len(pictures) // SHEET_FRAMES)][:SHEET_FRAMES]
    contact_sheet(shown, [""] * len(shown)).save(folder / "sheet.png")
    return len(gaussians)


def background_color(name: str) -> Float[Tensor, "3"]:
    """Red, green and blue in [0, 1] of a colour's name, or of #rrggbb.

    Raises:
        ValueError: it is neither.
    """
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        require(False, "background", name, "the name of a colour, or #rrggbb")
    return torch.tensor([red, green, blue]) / 255
