"""What a clip looks like: a figure of capsules on a grid, drawn by the processor alone."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from ..inputs import check_side, require
from .capsule_figure import CAPSULES, posed_axes
from .capsule_rays import Camera, Capsules, cast, normals_at
from .joint_rotations import check_joints, rig_of
from .motion_controls import MotionControls

SIZE = 256
OVERSAMPLING = 2
"""Rays a pixel's side, through the figure alone: the grid is smooth by itself."""

PAPER, LINE, SHADE, DOT = (0.98, 0.98, 0.97), (0.72, 0.74, 0.76), (0.45, 0.47, 0.50), (214, 39, 40)
SPACING, LINE_WIDTH, HORIZON = 0.5, 0.018, 6.5
"""Of the grid, in metres: side of a square, width of a line, and how far from the figure it fades to nothing."""

AIM, AZIMUTH, ELEVATION, DISTANCE, FOCAL = 0.86, np.radians(32), np.radians(15), 4.6, 1.9
"""Of the camera: the height in metres that it looks at, from where, and its focal length in sides of the picture."""

FOLLOWING = 6
"""Frames: the camera keeps to the pelvis averaged over a bell of this width, so that it neither jumps nor sways."""

LIGHT = np.array([0.35, 0.85, 0.55]) / np.linalg.norm([0.35, 0.85, 0.55])
DIMMEST, DARKNESS, BLUR = 0.45, 0.75, 0.006
"""Brightness of what lies in the dark, and how dark and how blurred the shadow is, in sides of the picture."""


def preview_frames(
    joints: Float[Tensor, "frames 22 3"], size: int = SIZE, controls: MotionControls | None = None
) -> UInt8[np.ndarray, "frames size size 3"]:
    """Draws every frame of a clip, seen by a camera that goes along.

    Args:
        joints: places in metres, Y up, the floor at 0.
        size: side of the pictures in pixels, even.
        controls: targets that the joints were to reach, drawn as red dots; those of the frame itself are larger.

    Raises:
        ValueError: for a wrong shape, values that are not finite, an odd size, or controls of another number of frames.
    """
    size = check_side("size", size, 2)
    joints = check_joints(joints).detach().cpu()
    dots = _dots(joints, controls)
    starts, ends = posed_axes(rig_of(joints)).unbind(1)
    radii = np.array([radii for _, _, *radii, _ in CAPSULES]).T
    course = _course(joints[:, 0].double().numpy())
    rays, floor = _camera(course[0]).rays(size * OVERSAMPLING), _Floor.under(_camera(np.zeros(3)), size)
    frames = []
    for center, start, end, current in zip(course, starts.numpy(), ends.numpy(), dots, strict=True):
        camera, capsules = _camera(center), Capsules(start, end, *radii)
        picture = _figure(camera, rays, capsules, floor.at(center, _shadow(camera, capsules, size)))
        frames.append(_dotted(picture, camera, np.concatenate(dots), current))
    return np.stack(frames)


def moments(frames: UInt8[np.ndarray, "frames size size 3"]) -> Image.Image:
    """One picture of the size of a frame: four of them from first to last, in the order of reading."""
    size = frames.shape[1]
    picture = Image.new("RGB", (size, size))
    for place, frame in enumerate(np.linspace(0, len(frames) - 1, 4).round().astype(int)):
        left, top = place % 2 * (size // 2), place // 2 * (size // 2)
        picture.paste(Image.fromarray(frames[frame]).resize((size // 2, size // 2), Image.Resampling.BOX), (left, top))
    return picture


def _course(pelvis: np.ndarray) -> np.ndarray:
    """Where on the floor the camera aims [frames, 3]; before and after the clip the pelvis goes on as it went."""
    reach = 3 * FOLLOWING
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / FOLLOWING) ** 2)
    longer = np.pad(pelvis * [1, 0, 1], ((reach, reach), (0, 0)), "reflect", reflect_type="odd")
    columns = [np.convolve(column, weights / weights.sum(), "valid") for column in longer.T]
    return np.stack(columns, 1)


def _camera(center: np.ndarray) -> Camera:
    return Camera.looking(center + np.array([0, AIM, 0]), AZIMUTH, ELEVATION, DISTANCE, FOCAL)


@dataclass(frozen=True)
class _Floor:
    """The grid as it is seen: points of the floor from where the camera aims [size, size], and pixels' width there."""

    x: np.ndarray
    z: np.ndarray
    fade: np.ndarray

    @classmethod
    def under(cls, camera: Camera, size: int) -> Self:
        rays = camera.rays(size)
        distance = np.where(rays[1] < -1e-3, camera.eye[1] / np.maximum(-rays[1], 1e-3), 1e3)
        x, z = camera.eye[0] + distance * rays[0], camera.eye[2] + distance * rays[2]
        fade = (1 - np.hypot(x, z) / HORIZON).clip(0, 1)
        return cls(x.astype(np.float32), z.astype(np.float32), fade.astype(np.float32))

    def at(self, center: np.ndarray, shadow: np.ndarray) -> np.ndarray:
        """The floor around a place, float32 [size, size, 3] in [0, 1]."""
        x_lines, z_lines = _lines(self.x, center[0]), _lines(self.z, center[2])
        lines = (self.fade * np.maximum(x_lines, z_lines))[..., None]
        ground = np.float32(PAPER) * (1 - lines) + np.float32(LINE) * lines
        return ground + (np.float32(SHADE) - ground) * (self.fade * shadow)[..., None]


def _lines(places: np.ndarray, shift: float) -> np.ndarray:
    """How much of each pixel a line of the grid covers, in [0, 1]."""
    width = np.maximum(np.hypot(*np.gradient(places)), 1e-6)
    steps = (places + np.float32(shift % SPACING)) / np.float32(SPACING)
    distance = np.abs(steps - np.round(steps)) * np.float32(SPACING)
    covered = ((width + LINE_WIDTH) / 2 - distance) / width
    return covered.clip(0, np.minimum(1, LINE_WIDTH / width))


def _shadow(camera: Camera, capsules: Capsules, size: int) -> np.ndarray:
    """How dark the floor is in each pixel, in [0, 1]."""
    mask = Image.new("L", (size, size))
    draw, turn = ImageDraw.Draw(mask), np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], 1)
    for start, end, start_radius, end_radius in zip(
        capsules.starts, capsules.ends, capsules.start_radii, capsules.end_radii, strict=True
    ):
        feet = [point - LIGHT * (point[1] / LIGHT[1]) for point in (start, end)]
        along = feet[1] - feet[0]
        rim = [foot + radius * circle for foot, radius in zip(feet, (start_radius, end_radius), strict=True)]
        ahead = circle @ along > 0
        outline = np.concatenate([rim[0][~ahead], rim[1][ahead]])
        draw.polygon([tuple(corner) for corner in camera.project(_around(outline), size)[:, :2]], fill=255)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(BLUR * size)), np.float32) * np.float32(DARKNESS / 255)


def _around(outline: np.ndarray) -> np.ndarray:
    """Corners of a convex outline in the order of their angles."""
    from_middle = outline - outline.mean(0)
    return outline[np.argsort(np.arctan2(from_middle[:, 2], from_middle[:, 0]))]


def _figure(camera: Camera, rays: np.ndarray, capsules: Capsules, ground: np.ndarray) -> np.ndarray:
    """The shaded figure over the ground [size, size, 3]."""
    distances, numbers = cast(camera, rays, capsules)
    seen = numbers >= 0
    points = camera.eye + (distances[seen] * rays[:, seen]).T
    normals = normals_at(points, numbers[seen], capsules)
    lit = (0.5 + 0.5 * normals @ LIGHT).clip(0, 1) ** 1.5
    facing = (normals * -rays[:, seen].T).sum(1).clip(0, 1)
    brightness = (DIMMEST + (1.12 - DIMMEST) * lit) * (0.72 + 0.28 * facing)
    colors = np.array([color for *_, color in CAPSULES])
    picture = np.repeat(np.repeat(ground, OVERSAMPLING, 0), OVERSAMPLING, 1)
    picture[seen] = colors[numbers[seen]] * brightness[:, None]
    places = [np.s_[row::OVERSAMPLING, column::OVERSAMPLING] for row, column in np.ndindex(OVERSAMPLING, OVERSAMPLING)]
    return sum(picture[place] for place in places) / len(places)


def _dots(joints: Tensor, controls: MotionControls | None) -> list[np.ndarray]:
    """Targets of each frame, [targets, 3]."""
    if controls is None:
        return [np.zeros((0, 3))] * len(joints)
    require(controls.frames == len(joints), "controls", controls.frames, f"of the clip's {len(joints)} frames")
    return [
        places[wanted].double().cpu().numpy() for places, wanted in zip(controls.targets, controls.mask, strict=True)
    ]


def _dotted(picture: np.ndarray, camera: Camera, dots: np.ndarray, current: np.ndarray) -> np.ndarray:
    """The picture in 256 steps, with all targets as small dots and those of the frame as large ones."""
    image = Image.fromarray((picture * 255).clip(0, 255).round().astype(np.uint8))
    if len(dots):
        size, finer = image.width, 4
        layer = Image.new("L", (finer * size, finer * size))
        draw = ImageDraw.Draw(layer)
        for places, radius, strength in ((dots, 0.004, 110), (current, 0.012, 255)):
            for x, y, _ in camera.project(places, finer * size):
                reach = radius * finer * size
                draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=strength)
        image.paste(DOT, mask=layer.reduce(finer))
    return np.asarray(image)
