"""Grids over pairs of coordinates, from coarse to fine (LightSpeed, arXiv 2310.16832): features of points in 4-D."""

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EVERY_PAIR = tuple(combinations(range(4), 2))


class PlaneGrid(nn.Module):
    """Square grids of feature vectors over pairs of coordinates, each interpolated bilinearly, all concatenated.

    Corners of a grid are its outermost vectors, at -1 and 1; outside, the border's go on.

    Args:
        resolutions: vectors along a side of the grids of each level.
        channels: numbers of a vector.
        planes: pairs of coordinates, of which the first runs along a grid's rows and the second from row to row.
        init: vectors begin uniform in [-init, init].
    """

    def __init__(
        self,
        resolutions: Sequence[int] = (64, 128, 256, 512),
        channels: int = 4,
        planes: Sequence[tuple[int, int]] = EVERY_PAIR,
        init: float = 0.1,
    ) -> None:
        super().__init__()
        self.planes = tuple(planes)
        self.levels = nn.ParameterList(
            torch.empty(len(planes), channels, side, side).uniform_(-init, init) for side in resolutions
        )

    @property
    def out_channels(self) -> int:
        """Numbers that a point is given."""
        return sum(level.shape[0] * level.shape[1] for level in self.levels)

    def forward(
        self, coordinates: Float[Tensor, "batch axes height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Features of points in [-1, 1], differentiable by points and grids, in the precision of the points.

        Their order is planes, then levels of a plane, then channels of a level.
        """
        batch, _, height, _ = coordinates.shape
        axes = coordinates.unbind(1)
        points = torch.stack([torch.stack((axes[a], axes[b]), -1) for a, b in self.planes])  # [P, batch, H, W, 2]
        points = points.flatten(1, 2)  # [P, batch * H, W, 2]
        looked_up = [
            F.grid_sample(level.to(points.dtype), points, "bilinear", "border", align_corners=True)
            for level in self.levels
        ]  # each [P, C, batch * H, W]
        features = torch.stack(looked_up, 1).unflatten(3, (batch, height))  # [P, L, C, batch, H, W]
        return features.permute(3, 0, 1, 2, 4, 5).flatten(1, 3)
