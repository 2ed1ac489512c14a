"""From where a light field may be looked at: cameras by two numbers, and paths of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..hub_models.rendering.cameras import camera_centres, look_at, mean_camera
from .inputs import PosedImages, check_choice, check_count, check_number, require
from .scene_cameras import DIRECTIONS, UP, Cameras, Circle, direction

LOOP_SHARE = 0.7
"""Of the half sides of a grid's area, or of an orbit's elevations, that a path runs along."""
NODS = 2
"""Times that a path around an orbit goes up and down."""
FOCAL_TOLERANCE = 0.1
SPREAD = 1e-6
"""Of slopes of the cameras' middle rays, below which the cameras look at a plane at infinity."""


@dataclass(frozen=True, kw_only=True)
class ViewRange:
    """What every range knows of its pictures.

    Attributes:
        focal: focal lengths fx and fy, in pixels.
        width, height: of a picture in pixels.
    """

    kind: ClassVar[str]
    focal: tuple[float, float]
    width: int
    height: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "focal", _numbers("focal", self.focal, 2, 1e-6))
        for name in ("width", "height"):
            check_count(name, getattr(self, name))

    def camera(self, right: float, up: float) -> Cameras:
        """The one camera at a place of the range, whose ends are -1 and 1.

        Raises:
            ValueError: if a number is not in [-1, 1].
        """
        places = [check_number(name, value, -1, 1) for name, value in (("right", right), ("up", up))]
        return self._cameras([tuple(places)])

    def path(self, frames: int) -> Cameras:
        """So many cameras along a closed path through the range."""
        check_count("frames", frames)
        return self._cameras([self._on_path(frame / frames) for frame in range(frames)])

    def alike(self, cameras: Cameras) -> Cameras:
        """Cameras in the same places whose pictures have the range's focal lengths and size, cut evenly."""
        Ks, size = cameras.Ks.clone(), torch.tensor([cameras.width, cameras.height])
        zoom = torch.tensor(self.focal) / Ks[:, [0, 1], [0, 1]].median(0).values
        Ks[:, :2] *= zoom[:, None]
        Ks[:, :2, 2] -= ((size * zoom - torch.tensor([self.width, self.height])) / 2).round(decimals=3).floor()
        return replace(cameras, Ks=Ks, width=self.width, height=self.height)

    def to_config(self) -> dict[str, Any]:
        """All fields as JSON holds them; `views_of` makes the range again."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"kind": self.kind, **values}

    def _cameras(self, places: Sequence[tuple[float, float]]) -> Cameras:
        viewmats, middles = zip(*(self._place(*place) for place in places), strict=True)
        Ks = torch.eye(3).repeat(len(places), 1, 1)
        Ks[:, 0, 0], Ks[:, 1, 1] = self.focal
        Ks[:, :2, 2] = torch.tensor([self.width, self.height]) / 2 + torch.tensor(self.focal) * torch.tensor(middles)
        return Cameras(torch.stack(viewmats), Ks, self.width, self.height)

    def _place(self, right: float, up: float) -> tuple[Tensor, tuple[float, float]]:
        """World to camera, and the principal point's shift in focal lengths."""
        raise NotImplementedError

    def _on_path(self, share: float) -> tuple[float, float]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GridViews(ViewRange):
    """Cameras on a plane, of which none is turned: what they see moves by a shift of the principal point.

    Attributes:
        viewmat: world to the camera in the middle of the plane, 16 numbers row by row; the plane is its z = 0.
        half_width, half_height: of the area in which cameras stand, in scene units.
        focus: distance of the plane that stays where it is in the picture, in scene units; None for infinity.
    """

    kind: ClassVar[str] = "grid"
    viewmat: tuple[float, ...]
    half_width: float
    half_height: float
    focus: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "viewmat", _numbers("viewmat", self.viewmat, 16, -math.inf))
        for name in ("half_width", "half_height"):
            check_number(name, getattr(self, name), 0)
        if self.focus is not None:
            check_number("focus", self.focus, 1e-9)

    @classmethod
    def of_pictures(cls, posed: PosedImages) -> Self:
        """The area in which the cameras of pictures stand, and the plane on which their views agree best.

        Raises:
            ValueError: if the cameras do not look about the same way.
        """
        viewmat = mean_camera(posed.viewmats.double())
        places = _in_frame(viewmat, posed)
        low, high = places[:, :2].amin(0), places[:, :2].amax(0)
        viewmat[:2, 3] -= (low + high) / 2
        half_width, half_height = ((high - low) / 2).tolist()
        return cls(
            viewmat=tuple(viewmat.flatten().tolist()), half_width=half_width, half_height=half_height,
            focus=focus_of(viewmat, posed), **_size(posed),
        )  # fmt: skip

    def _place(self, right: float, up: float) -> tuple[Tensor, tuple[float, float]]:
        x, y = right * self.half_width, -up * self.half_height
        viewmat = torch.tensor(self.viewmat, dtype=torch.float64).view(4, 4).clone()
        viewmat[:2, 3] -= torch.tensor([x, y], dtype=torch.float64)
        shift = (0.0, 0.0) if self.focus is None else (x / self.focus, y / self.focus)
        return viewmat.float(), shift

    def _on_path(self, share: float) -> tuple[float, float]:
        return LOOP_SHARE * math.sin(2 * math.pi * share), LOOP_SHARE * math.cos(2 * math.pi * share)


@dataclass(frozen=True, kw_only=True)
class OrbitViews(ViewRange):
    """Cameras around a point, at which all look.

    Attributes:
        center: that point, in scene units.
        distance: from it, in scene units.
        up: which of the scene's axes points up: x, y or z, or one of them with a minus.
        low, high: lowest and highest elevation, in degrees.
    """

    kind: ClassVar[str] = "orbit"
    center: tuple[float, float, float]
    distance: float
    up: str = UP
    low: float
    high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "center", _numbers("center", self.center, 3, -math.inf))
        check_number("distance", self.distance, 1e-9)
        check_choice("up", self.up, DIRECTIONS)
        check_number("low", self.low, -89, 89)
        check_number("high", self.high, self.low, 89)

    @classmethod
    def of_pictures(cls, posed: PosedImages, up: str = UP) -> Self:
        """About where the cameras of pictures stand, around the point that lies nearest to all their axes."""
        circle = Circle.of_cameras(posed.viewmats, up)
        away = camera_centres(posed.viewmats.double()) - torch.tensor(circle.center, dtype=torch.float64)
        heights = away @ torch.tensor(direction(up), dtype=torch.float64) / away.norm(dim=1)
        elevations = heights.clamp(-1, 1).asin().rad2deg().clamp(-89, 89)
        return cls(
            center=circle.center, distance=circle.distance, up=up, low=float(elevations.min()),
            high=float(elevations.max()), **_size(posed),
        )  # fmt: skip

    def _place(self, right: float, up: float) -> tuple[Tensor, tuple[float, float]]:
        axis = torch.tensor(direction(self.up), dtype=torch.float64)
        first, second = torch.eye(3, dtype=torch.float64)[[(int(axis.abs().argmax()) + step) % 3 for step in (1, 2)]]
        azimuth, elevation = math.pi * right, math.radians((self.low + self.high + up * (self.high - self.low)) / 2)
        around = math.cos(azimuth) * first + math.copysign(1.0, float(axis.sum())) * math.sin(azimuth) * second
        center = torch.tensor(self.center, dtype=torch.float64)
        eye = center + self.distance * (math.cos(elevation) * around + math.sin(elevation) * axis)
        return look_at(eye, center, axis).float(), (0.0, 0.0)

    def _on_path(self, share: float) -> tuple[float, float]:
        return 2 * share - 1, LOOP_SHARE * math.sin(2 * math.pi * NODS * share)


RANGES: dict[str, type[GridViews] | type[OrbitViews]] = {each.kind: each for each in (GridViews, OrbitViews)}


def views_of(stored: Mapping[str, Any]) -> GridViews | OrbitViews:
    """That of fields as `to_config` gives them.

    Raises:
        ValueError: for a kind that there is not, fields that are not those of its range, or a value out of range.
    """
    kind = stored.get("kind")
    if kind not in RANGES:
        raise ValueError(f"views must have a kind, {' or '.join(RANGES)}, not {kind!r}.")
    names, given = {field.name for field in fields(RANGES[kind])}, {name for name in stored if name != "kind"}
    if given != names:
        raise ValueError(f"views must have {', '.join(sorted(names))}, not {', '.join(sorted(given))}.")
    return RANGES[kind](**{name: stored[name] for name in names})


def check_focal_lengths(Ks: Float[Tensor, "cameras 3 3"], focal: Sequence[float]) -> None:
    """Refuses cameras to which a block of pixels is another cone of rays than a light field has learned.

    Raises:
        ValueError: for focal lengths that are not about the given ones, in pixels.
    """
    wanted, found = torch.tensor(focal), Ks[:, [0, 1], [0, 1]].cpu()
    off = ((found / wanted - 1).abs() > FOCAL_TOLERANCE).any(1)
    near = " and ".join(f"{value:.1f}" for value in wanted.tolist())
    require(
        not off.any(), "focal lengths in Ks", [round(value, 1) for value in found[off][:1].flatten().tolist()],
        f"within a tenth of {near} pixels, for a ray of a light field stands for a block of pixels of that size",
    )  # fmt: skip


def typical_focal(Ks: Float[Tensor, "cameras 3 3"]) -> tuple[float, float]:
    """Medians of cameras' focal lengths, in pixels."""
    return tuple(Ks[:, [0, 1], [0, 1]].median(0).values.tolist())


def focus_of(viewmat: Float[Tensor, "4 4"], posed: PosedImages | Cameras) -> float | None:
    """Distance of the plane, across the axis of a camera, in which the middles of all pictures lie nearest together.

    None where the pictures' middle rays do not come together before the camera.

    Args:
        viewmat: world to that camera.
        posed: pictures with cameras.
    """
    frame = viewmat.double()
    middle = posed.Ks.new_tensor([posed.width / 2, posed.height / 2, 1.0]).double()
    rays = torch.linalg.solve(posed.Ks.double(), middle.expand(len(posed), 3))
    rays = (posed.viewmats[:, :3, :3].double().mT @ rays[..., None])[..., 0] @ frame[:3, :3].mT
    places, slopes = _in_frame(frame, posed), rays[:, :2] / rays[:, 2:]
    starts = places[:, :2] - places[:, 2:] * slopes  # where the rays meet z = 0
    starts, slopes = starts - starts.mean(0), slopes - slopes.mean(0)
    if not float(slopes.square().mean()) > SPREAD**2:
        return None
    distance = -float((starts * slopes).sum() / slopes.square().sum())
    return distance if distance > 0 else None


def _in_frame(viewmat: Float[Tensor, "4 4"], posed: PosedImages | Cameras) -> Float[Tensor, "views 3"]:
    """Where the cameras stand in the frame of one."""
    return camera_centres(posed.viewmats.double()) @ viewmat[:3, :3].mT + viewmat[:3, 3]


def _size(posed: PosedImages) -> dict[str, Any]:
    return {"focal": typical_focal(posed.Ks), "width": posed.width, "height": posed.height}


def _numbers(name: str, values: Sequence[float], count: int, least: float) -> tuple[float, ...]:
    listed = isinstance(values, Sequence) and len(values) == count
    require(listed, name, values, f"{count} numbers")
    return tuple(check_number(name, value, least) for value in values)
