"""Typed inputs of pipelines, checked when they are made, and checks that pipelines share."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PosedImages:
    """Pictures with the cameras that took them: what every `fit` takes.

    Cameras have OpenCV axes (x right, y down, z forward) and pixel centres at +0.5.

    Attributes:
        images: [views, 3, height, width], float in [0, 1].
        viewmats: world-to-camera matrices [views, 4, 4], a rotation and a translation in scene units.
        Ks: intrinsics in pixels [views, 3, 3]: [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy.
        depths: distances along the camera's z axis in scene units [views, height, width]; 0 = unknown.
        masks: pixels that belong to the subject [views, height, width], boolean.
        times: seconds [views].

    Raises:
        ValueError: for a wrong shape, a value out of its range, or a matrix that is no camera, naming the view.
    """

    images: Float[Tensor, "views 3 height width"]
    viewmats: Float[Tensor, "views 4 4"]
    Ks: Float[Tensor, "views 3 3"]
    depths: Float[Tensor, "views height width"] | None = None
    masks: Bool[Tensor, "views height width"] | None = None
    times: Float[Tensor, " views"] | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_values()
        check_cameras(self.viewmats, self.Ks)

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def height(self) -> int:
        """Rows of each picture, in pixels."""
        return self.images.shape[2]

    @property
    def width(self) -> int:
        """Columns of each picture, in pixels."""
        return self.images.shape[3]

    def select(self, views: Sequence[int] | slice | Tensor) -> Self:
        """The given views only, in the given order."""
        index = views if isinstance(views, slice | Tensor) else list(views)
        return replace(self, **{name: value[index] for name, value in self._given().items()})

    def to(self, device: torch.device | str) -> Self:
        """The same pictures and cameras on another device."""
        return replace(self, **{name: value.to(device) for name, value in self._given().items()})

    def _given(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def _check_shapes(self) -> None:
        for name, value in self._given().items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a tensor, not {type(value).__name__}.")
            wanted = "boolean" if name == "masks" else "floating point"
            if not (value.dtype == torch.bool if name == "masks" else value.is_floating_point()):
                raise ValueError(f"{name} must be {wanted}, not {value.dtype}.")
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
            raise ValueError(f"images must be [views, 3, height, width] with at least one view, not {list(shape)}.")
        views, _, height, width = shape
        wanted_shapes = {
            "viewmats": (views, 4, 4),
            "Ks": (views, 3, 3),
            "depths": (views, height, width),
            "masks": (views, height, width),
            "times": (views,),
        }
        for name, value in self._given().items():
            if name != "images" and tuple(value.shape) != wanted_shapes[name]:
                raise ValueError(f"{name} must be {list(wanted_shapes[name])}, not {list(value.shape)}.")

    def _check_values(self) -> None:
        for name, value in self._given().items():
            if name != "masks" and not torch.isfinite(value).all():
                raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
        low, high = self.images.aminmax()
        if low < 0 or high > 1:
            raise ValueError(f"images must lie in [0, 1], but reach from {low:.4g} to {high:.4g}.")
        if self.depths is not None and self.depths.min() < 0:
            raise ValueError(f"depths must not be negative (0 = unknown), but one is {self.depths.min():.4g}.")


@dataclass(frozen=True)
class Captures:
    """Pictures with cameras, and what else their reconstruction knows.

    Attributes:
        posed: pictures and cameras; masks are the pixels that count, where some do not.
        positions: of sparse points in scene units [points, 3]; none where the capture has none.
        rgb: their colours in [0, 1] [points, 3].
        names: of the pictures, in the order of `posed`.
        bounds: nearest and farthest depth of each view in scene units [views, 2], where the capture says them.
    """

    posed: PosedImages
    positions: Float[Tensor, "points 3"]
    rgb: Float[Tensor, "points 3"]
    names: tuple[str, ...]
    bounds: Float[Tensor, "views 2"] | None = None


def check_cameras(viewmats: Float[Tensor, "views 4 4"], Ks: Float[Tensor, "views 3 3"]) -> None:
    """Refuses matrices that are no OpenCV cameras.

    Raises:
        ValueError: naming the view.
    """
    for name, value, side in (("viewmats", viewmats, 4), ("Ks", Ks, 3)):
        wanted = [len(viewmats), side, side]
        require(
            value.shape[1:] == (side, side) and len(value) == len(viewmats) > 0, name, list(value.shape), f"{wanted}"
        )
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    rotation = viewmats[:, :3, :3].double()
    identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    skew = (rotation @ rotation.mT - identity).abs().amax((1, 2))
    last = viewmats[:, 3] - viewmats.new_tensor([0, 0, 0, 1])
    rigid = (skew < ROTATION_TOLERANCE) & (torch.linalg.det(rotation) > 0) & (last.abs().amax(1) < 1e-6)
    if not rigid.all():
        view = int((~rigid).nonzero()[0])
        raise ValueError(
            f"viewmats[{view}] is no world-to-camera matrix: it must be a rotation (determinant +1) and a "
            "translation, with last row 0 0 0 1."
        )
    focal = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1]], 1)
    zeros = torch.stack([Ks[:, 1, 0], Ks[:, 2, 0], Ks[:, 2, 1], Ks[:, 2, 2] - 1], 1)
    pinhole = (focal > 0).all(1) & (zeros.abs() < 1e-6).all(1)
    if not pinhole.all():
        view = int((~pinhole).nonzero()[0])
        raise ValueError(
            f"Ks[{view}] is no matrix of intrinsics: it must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in "
            "pixels with positive fx and fy."
        )


def require(holds: bool, name: str, value: Any, allowed: str) -> None:
    """Refuses a value, in the one sentence that all checks have.

    Args:
        holds: whether it is allowed.
        name: of the argument or setting.
        value: that was given.
        allowed: what it must be, such as "at least 1".

    Raises:
        ValueError: it is not allowed.
    """
    if not holds:
        raise ValueError(f"{name} must be {allowed}, not {value!r}.")


def check_count(name: str, value: Any) -> int:
    """`value` as an int of at least 1.

    Raises:
        ValueError: naming the argument.
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    require(count >= 1 and not isinstance(value, bool), name, value, "a whole number of at least 1")
    return count


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """`value` as a finite float in [low, high].

    Raises:
        ValueError: naming the argument.
    """
    if high < math.inf:
        allowed = f"from {low:g} to {high:g}"
    else:
        allowed = "that is finite" if low == -math.inf else f"of at least {low:g}"
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    require(math.isfinite(number) and low <= number <= high, name, value, f"a number {allowed}")
    return number


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value` when it is one of `choices`.

    Raises:
        ValueError: naming the argument and the choices.
    """
    require(value in choices, name, value, f"one of {', '.join(choices)}")
    return value


def check_side(name: str, value: Any, multiple: int) -> int:
    """`value` as a side in pixels that is a positive multiple of `multiple`.

    Raises:
        ValueError: naming the argument and the nearest sides that are allowed.
    """
    side = check_count(name, value)
    if side % multiple:
        below = side // multiple * multiple
        nearest = f"{below} or {below + multiple}" if below else f"{multiple}"
        raise ValueError(f"{name} must be a multiple of {multiple} pixels, not {side}: the nearest is {nearest}.")
    return side
