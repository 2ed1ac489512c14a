"""Volume rendering along rays (Mildenhall et al. 2020, arXiv 2003.08934, equations 3 and 5), past empty space.

A ray is cut into bins. In each of them the scene is looked at in one place and taken to be alike in the whole bin, so
that a bin of length l in which the density is sigma lets a share exp(-sigma l) of the light through.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Radiance = Callable[
    [Float[Tensor, "points 3"], Float[Tensor, "points 3"]], tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]
]
"""Points and unit directions of sight to densities, in 1 by scene unit, and colours."""

STOP = 1e-3  # of the light is left where a march ends


@dataclass(frozen=True)
class RayBins:
    """Rays, cut into bins.

    Attributes:
        origins, directions: of the rays [rays, 3]; directions of any length.
        edges: where bins begin and end, as t of `origin + t * direction`, rising [rays, bins + 1].
        places: where in its bin the scene is looked at [rays, bins].
    """

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    edges: Float[Tensor, "rays edges"]
    places: Float[Tensor, "rays bins"]

    @property
    def points(self) -> Float[Tensor, "rays bins 3"]:
        """The places in the world."""
        return torch.addcmul(self.origins[:, None], self.places[..., None], self.directions[:, None])

    @property
    def lengths(self) -> Float[Tensor, "rays bins"]:
        """Of the bins, in scene units."""
        return self.edges.diff(dim=-1) * self.directions.norm(dim=-1, keepdim=True)

    def of_rays(self, which: Tensor | slice) -> Self:
        """Those of some of the rays."""
        return replace(self, **{name: value[which] for name, value in vars(self).items()})

    def between(self, first: int, last: int) -> Self:
        """Bins `first` to `last - 1` of each ray."""
        return replace(self, edges=self.edges[:, first : last + 1], places=self.places[:, first:last])


@dataclass(frozen=True)
class SeenAlongRays:
    """What rays see, each bin by the share of the light that reaches the eye from it.

    Attributes:
        colors: sum of the colours [rays, 3]; where `opacity` is below 1, what is behind is black.
        depths: sum of the places' t [rays].
        opacity: sum of the shares, in [0, 1] [rays].
    """

    colors: Float[Tensor, "rays 3"]
    depths: Float[Tensor, " rays"]
    opacity: Float[Tensor, " rays"]

    @classmethod
    def nothing(cls, bins: RayBins) -> Self:
        """What rays see of empty space."""
        return cls(torch.zeros_like(bins.origins), *bins.origins.new_zeros(2, len(bins.origins)))

    def of_rays(self, which: Tensor | slice) -> Self:
        """What some of the rays see."""
        return type(self)(*(value[which] for value in vars(self).values()))

    @property
    def expected_depths(self) -> Float[Tensor, " rays"]:
        """Mean t at which light comes from; 0 for a ray that meets nothing."""
        return self.depths / self.opacity.clamp_min(torch.finfo(self.opacity.dtype).tiny)

    def before(self, behind: Self) -> Self:
        """This in front of something else."""
        passed = 1 - self.opacity
        return type(self)(
            self.colors + passed[:, None] * behind.colors,
            self.depths + passed * behind.depths,
            self.opacity + passed * behind.opacity,
        )


def stratified(
    low: Float[Tensor, " rays"], high: Float[Tensor, " rays"], count: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "rays edges"], Float[Tensor, "rays bins"]]:
    """Edges of `count` equal bins from low to high of each ray, and a place in each.

    Args:
        low, high: where each ray is looked at.
        count: of bins.
        generator: of uniformly random places; None takes the bins' middles.
    """
    steps = torch.linspace(0, 1, count + 1, dtype=low.dtype, device=low.device)
    edges = torch.lerp(low[:, None], high[:, None], steps)
    if generator is None:
        return edges, (edges[:, :-1] + edges[:, 1:]) / 2
    share = torch.rand(len(low), count, generator=generator, dtype=low.dtype).to(low.device)
    return edges, torch.lerp(edges[:, :-1], edges[:, 1:], share)


def equiangular_bins(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    count: int,
    center: Sequence[float],
    radius: float,
    near: float,
    far: float,
    generator: torch.Generator | None = None,
) -> RayBins:
    """Bins that look equally wide from a point at distance `radius` from the ray's nearest place to the centre.

    They are even inside the ball and grow with the square of the distance far from it, as the cells of contracted space
    do. Source: Kulla and Fajardo 2012, "Importance sampling techniques for path tracing in participating media".

    Args:
        origins, directions: of the rays; directions of any length but 0.
        count: of bins a ray.
        center, radius: of the ball, in scene units.
        near, far: distances from the origin at which bins begin and end, in scene units.
        generator: of random places in the bins; None takes their middles, seen from that point.
    """
    length = directions.norm(dim=-1)
    middle = ((origins.new_tensor(center) - origins) * directions).sum(-1) / length  # distance to the nearest place
    low, high = (((distance - middle) / radius).atan() for distance in (near, far))
    edges, places = (
        (middle[:, None] + radius * angles.tan()) / length[:, None]
        for angles in stratified(low, high, count, generator)
    )
    return RayBins(origins, directions, edges, places)


def light_shares(optical_depths: Float[Tensor, "*rays bins"]) -> Float[Tensor, "*rays bins"]:
    """Share of the light at the eye that comes from each bin, T_i (1 - exp(-tau_i)) with T_i = exp(-sum_{j<i} tau_j).

    Args:
        optical_depths: tau, density times length, at least 0.
    """
    passed = torch.exp(optical_depths - optical_depths.cumsum(-1))  # in front of each bin
    return passed * -torch.expm1(-optical_depths)


def render_bins(
    field: Radiance, bins: RayBins, occupied: Bool[Tensor, "rays bins"] | None = None
) -> tuple[SeenAlongRays, Float[Tensor, "rays bins"]]:
    """What rays see of a field, and the share of the light that comes from each bin; differentiable.

    Args:
        field: what is looked at.
        bins: of the rays.
        occupied: bins where the field is asked; elsewhere there is nothing. None asks everywhere.
    """
    if occupied is None:
        occupied = torch.ones_like(bins.places, dtype=torch.bool)
    ray, place = occupied.nonzero(as_tuple=True)
    sight = torch.nn.functional.normalize(bins.directions, dim=-1)
    points = torch.addcmul(bins.origins[ray], bins.places[ray, place, None], bins.directions[ray])
    densities, colors = field(points, sight[ray])
    optical_depths = torch.zeros_like(bins.places).index_put((ray, place), densities * bins.lengths[ray, place])
    shares = light_shares(optical_depths)
    seen = torch.zeros_like(bins.origins).index_add(0, ray, shares[ray, place, None] * colors)
    return SeenAlongRays(seen, (shares * bins.places).sum(-1), shares.sum(-1)), shares


@torch.no_grad()
def march(
    field: Radiance,
    bins: RayBins,
    occupied: Callable[[Float[Tensor, "*batch 3"]], Bool[Tensor, "*batch"]],
    block: int = 16,
) -> SeenAlongRays:
    """`render_bins` from front to back, `block` bins at once, each ray only until hardly any light is left to it.

    Args:
        field: what is looked at.
        bins: of the rays.
        occupied: whether there is anything at a point.
        block: bins between looks at how much light is left.
    """
    seen = SeenAlongRays.nothing(bins)
    going = torch.arange(len(bins.origins), device=bins.origins.device)
    for first in range(0, bins.places.shape[1], block):
        part = bins.of_rays(going).between(first, first + block)
        added, _ = render_bins(field, part, occupied(part.points))
        now = seen.of_rays(going).before(added)
        for name, value in vars(now).items():
            getattr(seen, name)[going] = value
        going = going[now.opacity < 1 - STOP]
    return seen
