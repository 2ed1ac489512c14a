"""A plane grid as every back end takes it: four neighbours gathered and mixed, out of vectors in 8 bits too."""

from typing import Self

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from ...hub_models.layers.plane_grid import PlaneGrid

LARGEST_CODE = 127


class GatheredLevel(nn.Module):
    """The grids of one level, whose vectors are rows of a table: only those that points are near to become float32.

    Args:
        vectors: plane after plane, row after row [planes * side * side, channels].
        planes: how many grids.
        steps: what 1 in the table is worth [planes, 1, 1, channels]; 1 if None.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "cells channels"] | Int8[Tensor, "cells channels"],
        planes: int,
        steps: Float[Tensor, "planes 1 1 channels"] | None = None,
    ) -> None:
        super().__init__()
        self.planes, self.side = planes, round((len(vectors) / planes) ** 0.5)
        self.register_buffer("vectors", vectors)
        self.register_buffer("steps", steps)

    @classmethod
    def of_grids(cls, grids: Float[Tensor, "planes channels side side"]) -> Self:
        """A copy of them."""
        return cls(grids.detach().permute(0, 2, 3, 1).flatten(0, 2).contiguous(), len(grids))

    def in_eight_bits(self) -> Self:
        """Whole numbers from -127 to 127, their steps the smallest that serve each plane and channel."""
        vectors = self.vectors.float().unflatten(0, (self.planes, -1))  # [planes, side * side, channels]
        steps = vectors.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST_CODE
        codes = (vectors / steps).round().to(torch.int8)
        return type(self)(codes.flatten(0, 1), self.planes, steps[:, None])

    def forward(
        self, x: Float[Tensor, "batch planes height width"], y: Float[Tensor, "batch planes height width"]
    ) -> Float[Tensor, "batch planes height width channels"]:
        """Vectors at points of each plane, in [-1, 1] along its rows and from row to row."""
        last = self.side - 1
        (column, right), (row, below) = (_cell((value + 1) * (last / 2), last) for value in (x, y))
        planes = torch.arange(self.planes, device=x.device)[:, None, None] * self.side**2
        corner = row * self.side + column + planes
        vectors = sum(
            vertical * horizontal * self._at(corner + down * self.side + along)
            for down, vertical in enumerate((1 - below, below))
            for along, horizontal in enumerate((1 - right, right))
        )
        return vectors if self.steps is None else vectors * self.steps

    def _at(self, cells: Tensor) -> Tensor:
        return self.vectors.index_select(0, cells.flatten()).float().unflatten(0, cells.shape)


class GatheredGrid(nn.Module):
    """What a `PlaneGrid` says of points, in float32, whatever its vectors are kept in.

    Args:
        grid: which is copied.
    """

    def __init__(self, grid: PlaneGrid) -> None:
        super().__init__()
        for name, axes in zip(("along", "across"), zip(*grid.planes, strict=True), strict=True):
            self.register_buffer(name, torch.tensor(axes))
        self.levels = nn.ModuleList(GatheredLevel.of_grids(grids) for grids in grid.levels)

    def forward(
        self, coordinates: Float[Tensor, "batch axes height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """As `PlaneGrid.forward`."""
        inside = coordinates.clamp(-1, 1)
        x, y = (inside.index_select(1, axes) for axes in (self.along, self.across))  # [batch, P, H, W] each
        features = torch.stack([level(x, y) for level in self.levels], 2)  # [batch, P, L, H, W, C]
        return features.movedim(-1, 3).flatten(1, 3)


def _cell(place: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """Number of the vector before a place, and the share of the way to the next one [..., 1]."""
    before = place.floor().clamp(max=last - 1)
    return before.long(), (place - before)[..., None]
