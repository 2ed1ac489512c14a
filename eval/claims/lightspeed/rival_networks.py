"""Other ways to tell LightSpeed's decoder which ray it decodes: MobileR2L's points, Pluecker's numbers, a 4-D grid.

Each is called as a field is, `(origins, directions, sub_scene) -> pictures`, has one scene, and the same decoder.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ....hub_models.field_lightspeed import StoredSlab
from ....hub_models.layers.light_field_decoder import LightFieldDecoder
from ....hub_models.rendering.light_slab import LightSlab

POINTS, OCTAVES = 8, 6
MOBILE_R2L = {"width": 256, "blocks": 29}
"""MobileR2L's decoder in its public code, with the tail channels that are `LightFieldDecoder`'s defaults."""


class MobileR2L(nn.Module):
    """MobileR2L (arXiv 2212.08057): a ray as 8 points between two depths, each coordinate with its sines and cosines.

    Depths are stratified: while it learns each point moves at random within half the gap to its neighbours, and
    afterwards they stand evenly from the first plane to the second.

    Args:
        near, far: depths of the first and the last point, in lengths of a ray's direction.
        unit: length in scene units that counts as 1.
        decoder: options of `LightFieldDecoder`; at `MOBILE_R2L` it has 4,305,539 parameters at 8x.
    """

    depths: Tensor

    def __init__(self, near: float, far: float, unit: float = 1.0, **decoder: Any) -> None:
        super().__init__()
        self.unit = unit
        self.register_buffer("depths", torch.linspace(near, far, POINTS))
        self.decoder = LightFieldDecoder(POINTS * 3 * (1 + 2 * OCTAVES), **decoder)

    def forward(
        self,
        origins: Float[Tensor, "batch 3 height width"],
        directions: Float[Tensor, "batch 3 height width"],
        sub_scene: int = 0,
    ) -> Float[Tensor, "batch 3 scale*height scale*width"]:
        points = origins[:, None] + self._depths(origins) * directions[:, None]  # [batch, POINTS, 3, height, width]
        return self.decoder(octaves(points.flatten(1, 2) / self.unit))

    def _depths(self, origins: Tensor) -> Float[Tensor, "#batch 8 1 #height #width"]:
        if not self.training:
            return self.depths[:, None, None, None]
        middles = (self.depths[1:] + self.depths[:-1]) / 2
        lower, upper = torch.cat((self.depths[:1], middles)), torch.cat((middles, self.depths[-1:]))
        drawn = torch.rand(len(origins), POINTS, 1, *origins.shape[2:], device=origins.device)
        return lower[:, None, None, None] + (upper - lower)[:, None, None, None] * drawn


class PlueckerField(nn.Module):
    """A ray as its direction of length 1 and its moment, origin x direction.

    All six are scaled to [-1, 1] and have the same sines and cosines as MobileR2L's points: of the six alone a network
    would learn only what is smooth in them, which is the fault of the network and not of the coordinates.

    Args:
        low, high: of the six, what becomes -1 and 1.
        decoder: options of `LightFieldDecoder`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Float[Tensor, " 6"], high: Float[Tensor, " 6"], **decoder: Any) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.decoder = LightFieldDecoder(6 * (1 + 2 * OCTAVES), **decoder)

    @classmethod
    def of_rays(
        cls,
        origins: Float[Tensor, "batch 3 height width"],
        directions: Float[Tensor, "batch 3 height width"],
        **decoder: Any,
    ) -> Self:
        """Scaled by the rays that it learns from, as light slabs are."""
        numbers = pluecker(origins, directions)
        return cls(numbers.amin((0, 2, 3)), numbers.amax((0, 2, 3)), **decoder)

    def forward(
        self,
        origins: Float[Tensor, "batch 3 height width"],
        directions: Float[Tensor, "batch 3 height width"],
        sub_scene: int = 0,
    ) -> Float[Tensor, "batch 3 scale*height scale*width"]:
        low, high = self.low[:, None, None], self.high[:, None, None]
        return self.decoder(octaves((pluecker(origins, directions) - low) * (2 / (high - low)) - 1))


class Grid4DField(nn.Module):
    """LightSpeed with one 4-D grid on several levels where it has six 2-D ones.

    Args:
        slab: in which a ray is four numbers.
        shapes: vectors along x, y, u and v of each level's grid, at least 2 each.
        channels: numbers of a vector.
        decoder: options of `LightFieldDecoder`.
    """

    def __init__(
        self, slab: LightSlab, shapes: Sequence[tuple[int, int, int, int]], channels: int, **decoder: Any
    ) -> None:
        super().__init__()
        self.slab = StoredSlab()
        self.slab.set(slab, torch.zeros(3))
        self.grid = Grid4D(shapes, channels)
        self.decoder = LightFieldDecoder(self.grid.out_channels, **decoder)

    def forward(
        self,
        origins: Float[Tensor, "batch 3 height width"],
        directions: Float[Tensor, "batch 3 height width"],
        sub_scene: int = 0,
    ) -> Float[Tensor, "batch 3 scale*height scale*width"]:
        return self.decoder(self.grid(self.slab(origins, directions)))


class Grid4D(nn.Module):
    """Dense grids of vectors over four coordinates, interpolated quadrilinearly, levels concatenated.

    Corners of a grid are its outermost vectors, at -1 and 1; outside, the border's go on.

    Args:
        shapes: vectors along each axis of the grid of each level, at least 2.
        channels: numbers of a vector.
        init: vectors begin uniform in [-init, init].
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int, int]], channels: int, init: float = 0.1) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.levels = nn.ParameterList(torch.empty(prod(shape), channels).uniform_(-init, init) for shape in shapes)

    @property
    def out_channels(self) -> int:
        """Numbers that a point is given."""
        return sum(level.shape[1] for level in self.levels)

    def forward(self, coordinates: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch c height width"]:
        """Features of points in [-1, 1], level by level."""
        batch, _, height, width = coordinates.shape
        points = coordinates.movedim(1, -1).reshape(-1, 4)
        levels = zip(self.levels, self.shapes, strict=True)
        features = torch.cat([quadrilinear(level, shape, points) for level, shape in levels], 1)
        return features.reshape(batch, height, width, -1).movedim(-1, 1)


def quadrilinear(
    vectors: Float[Tensor, "cells channels"], shape: tuple[int, int, int, int], points: Float[Tensor, "points 4"]
) -> Float[Tensor, "points channels"]:
    """The mean of the 16 vectors around each point, weighted by its nearness to them along each axis."""
    sides = torch.tensor(shape, device=points.device)
    places = (points.clamp(-1, 1) + 1) / 2 * (sides - 1)
    first = places.floor().clamp(max=sides - 2)
    beyond = places - first
    strides = torch.tensor([prod(shape[axis + 1 :]) for axis in range(4)], device=points.device)
    cells = torch.stack((first, first + 1), -1).long() * strides[:, None]  # [points, 4, 2]
    shares = torch.stack((1 - beyond, beyond), -1)
    index, weight = cells[:, 0], shares[:, 0]
    for axis in range(1, 4):
        index = (index[:, :, None] + cells[:, axis, None]).flatten(1)
        weight = (weight[:, :, None] * shares[:, axis, None]).flatten(1)
    return F.embedding_bag(index, vectors, per_sample_weights=weight, mode="sum")


def octaves(values: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch 13*c height width"]:
    """Values, then sines and cosines of 1, 2, 4, ... 32 times them."""
    waves = (wave(values * 2.0**octave) for octave in range(OCTAVES) for wave in (torch.sin, torch.cos))
    return torch.cat((values, *waves), 1)


def pluecker(
    origins: Float[Tensor, "batch 3 height width"], directions: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 6 height width"]:
    """Direction and moment of rays: the same from whichever of its points a ray starts."""
    directions = F.normalize(directions, dim=1)
    return torch.cat((directions, torch.linalg.cross(origins, directions, dim=1)), 1)
