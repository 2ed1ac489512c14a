"""Lens distortion of the Brown-Conrady family, and pictures without it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

RADII = 4096
"""Places at which it is asked whether a polynomial still grows."""
ROWS = 256
"""Of a picture that are undistorted at a time."""


class Distortion(NamedTuple):
    """Where a lens moves the points of the plane at depth 1, with OpenCV's names; all 0 is a pinhole.

    A point at radius r moves to (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6) of its radius, and
    p1 and p2 shift it as a lens does that is not parallel to the sensor (COLMAP's SIMPLE_RADIAL, RADIAL, OPENCV and
    FULL_OPENCV).
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0

    def distort(self, points: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Points (x / z, y / z) of a pinhole camera as the lens shows them."""
        x, y = points.unbind(-1)
        r2 = x * x + y * y
        growth = self._growth(r2)
        across = x * growth + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x)
        down = y * growth + self.p1 * (r2 + 2 * y * y) + 2 * self.p2 * x * y
        return torch.stack((across, down), -1)

    def reach(self, radius: float) -> float:
        """Radius, `radius` at most, up to which points farther out stay farther out.

        Beyond it the polynomial turns back, and a picture would show the same places once more.
        """
        radii = torch.linspace(0, radius, RADII, dtype=torch.float64)
        grows = (radii * self._growth(radii**2)).diff() > 0
        return radius if grows.all() else float(radii[int((~grows).nonzero()[0])])

    def _growth(self, r2: Tensor) -> Tensor:
        above = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * self.k3))
        below = 1 + r2 * (self.k4 + r2 * (self.k5 + r2 * self.k6))
        return above / below


PINHOLE = Distortion()


def undistorted(
    picture: Float[Tensor, "channels height width"], K: Float[Tensor, "3 3"], distortion: Distortion
) -> tuple[Float[Tensor, "channels height width"], Bool[Tensor, "height width"]]:
    """The picture that a pinhole camera with the same K and size would have taken.

    Each of its pixels is looked up in the distorted picture, bilinearly. What lies outside of that repeats the edge.

    Args:
        picture: as the lens shows it.
        K: intrinsics in pixels, pixel centres at +0.5.
        distortion: of the lens.

    Returns:
        The picture, and which of its pixels the distorted picture shows.
    """
    height, width = picture.shape[1:]
    K, size = K.double(), K.new_tensor([width, height], dtype=torch.float64)
    corners = _ideal(K, torch.tensor([0.0, height]), torch.tensor([0.0, width]))
    reach = distortion.reach(float(torch.linalg.vector_norm(corners, dim=-1).max()))
    flat, inside = torch.empty_like(picture), torch.empty(height, width, dtype=torch.bool)
    for rows in torch.arange(height).split(ROWS):
        ideal = _ideal(K, rows + 0.5, torch.arange(width) + 0.5)  # [rows, width, 2]
        seen = distortion.distort(ideal) @ K[:2, :2].T + K[:2, 2]
        inside[rows] = ((seen >= 0) & (seen <= size)).all(-1) & (torch.linalg.vector_norm(ideal, dim=-1) <= reach)
        places = (2 * seen / size - 1).nan_to_num(2.0).clamp(-2, 2).to(picture.dtype)
        flat[:, rows] = F.grid_sample(picture[None], places[None], padding_mode="border", align_corners=False)[0]
    return flat, inside


def _ideal(K: Tensor, v: Float[Tensor, " rows"], u: Float[Tensor, " columns"]) -> Float[Tensor, "rows columns 2"]:
    """Where the plane at depth 1 meets the pinhole camera's rays through (u, v)."""
    v, u = torch.meshgrid(v.double(), u.double(), indexing="ij")
    return (torch.stack((u, v), -1) - K[:2, 2]) @ torch.linalg.inv(K[:2, :2]).T
