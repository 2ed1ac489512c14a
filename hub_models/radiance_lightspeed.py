"""The teacher of LightSpeed (arXiv 2310.16832): a radiance field of a hash grid, which makes pictures to learn from.

It is Instant-NGP (Mueller et al. 2022, arXiv 2201.05989), which MobileR2L's public code (arXiv 2212.08057) has as its
teacher. Space is contracted, which Instant-NGP does not do, so that a scene may have a far background.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .layers.hash_grid import HashGrid
from .presets import PresetMixin
from .rendering.contraction import contract
from .rendering.occupancy_grid import OccupancyGrid
from .rendering.pixel_rays import pixel_rays
from .rendering.spherical_harmonics import basis, num_coefficients
from .rendering.volume import RayBins, equiangular_bins, march

HIDDEN_FEATURES = 16  # that the density network hands to the colour network; the first is the density's logarithm
MAX_LOG_DENSITY = 15.0  # beyond, its exponential would overflow in training
FAR = 100.0  # radii from the eye, where rays end
LEAST_OPTICAL_DEPTH = 0.01  # of a bin that is worth a look
RAYS_AT_ONCE = 4096


class LightSpeedRadianceField(ModelMixin, ConfigMixin, PresetMixin):
    """Density and colour of any place of a scene, seen along any direction; and pictures of it.

    Args:
        levels, features, log2_size, base_resolution, max_resolution: of the hash grid over contracted space.
        width: hidden units of a layer of both networks.
        color_layers: hidden layers of the colour network; that of the density has one.
        sh_degree: of the spherical harmonics by which the colour network is told the direction of sight, 0 to 3.
        bins: of a ray.
        occupancy_resolution: cells along a side of the grid by which rays skip empty space.
        center, radius: of the ball that the contraction leaves as it is, in scene units.
        near: distance from the eye at which rays begin, in scene units.

    Raises:
        ValueError: for a value that is out of range, naming it.
    """

    _supports_gradient_checkpointing = True

    presets = {
        "paper": {},
        "nano": {
            "levels": 8, "log2_size": 15, "base_resolution": 8, "max_resolution": 512, "width": 32, "color_layers": 1,
            "bins": 64, "occupancy_resolution": 64,
        },
    }  # fmt: skip

    @register_to_config
    def __init__(
        self,
        levels: int = 16,
        features: int = 2,
        log2_size: int = 19,
        base_resolution: int = 16,
        max_resolution: int = 2048,
        width: int = 64,
        color_layers: int = 2,
        sh_degree: int = 3,
        bins: int = 256,
        occupancy_resolution: int = 128,
        center: Sequence[float] = (0.0, 0.0, 0.0),
        radius: float = 1.0,
        near: float = 0.1,
    ) -> None:
        super().__init__()
        _check(**self._internal_dict)
        self.gradient_checkpointing = False
        self.grid = HashGrid(levels, features, log2_size, base_resolution, max_resolution)
        self.density_network = _mlp(self.grid.out_features, width, 1, HIDDEN_FEATURES)
        self.color_network = _mlp(HIDDEN_FEATURES + num_coefficients(sh_degree), width, color_layers, 3)
        self.occupancy = OccupancyGrid(occupancy_resolution, LEAST_OPTICAL_DEPTH * bins / math.pi)

    def forward(
        self, points: Float[Tensor, "points 3"], directions: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Densities, in 1 by scene unit, and colours in [0, 1].

        Args:
            points: in scene units.
            directions: unit vectors along which the points are seen.
        """
        if self.gradient_checkpointing and torch.is_grad_enabled():
            radiance: tuple[Tensor, Tensor] = self._gradient_checkpointing_func(self._radiance, points, directions)
            return radiance
        return self._radiance(points, directions)

    def _radiance(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        features = self._features(self._contract(points))
        told = torch.cat([features, basis(directions, self.config.sh_degree).to(features.dtype)], -1)
        # The networks say the density by radian of `equiangular_bins`, which fits far places as well as near ones.
        local = (points - points.new_tensor(self.config.center)) / self.config.radius
        units = self.config.radius * local.square().sum(-1).clamp_min(1)
        return _density(features) / units, self.color_network(told).sigmoid()

    def bins(
        self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"],
        generator: torch.Generator | None = None,
    ) -> RayBins:  # fmt: skip
        """The bins in which rays look at this field.

        Args:
            origins, directions: of the rays, in scene units.
            generator: of random places in the bins; None takes their middles.
        """
        center, radius = self.config.center, self.config.radius
        return equiangular_bins(
            origins, directions, self.config.bins, center, radius, self.config.near, FAR * radius, generator
        )

    def occupied(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether there is anything about points of the scene, as far as `watch_occupancy` has found."""
        return self.occupancy(self._contract(points))

    def watch_occupancy(self, cells: int, generator: torch.Generator) -> None:
        """Looks again at so many random cells of the occupancy grid."""
        self.occupancy.update(lambda places: _density(self._features(places)), cells, generator)

    @torch.no_grad()
    def render(
        self, viewmats: Float[Tensor, "views 4 4"], Ks: Float[Tensor, "views 3 3"], height: int, width: int
    ) -> tuple[Float[Tensor, "views 3 height width"], Float[Tensor, "views height width"]]:
        """Pictures in [0, 1] and depths, expected distances along the camera's z axis in scene units.

        Args:
            viewmats: world to camera, OpenCV axes.
            Ks: intrinsics in pixels.
            height, width: of each picture in pixels.
        """
        rays = (value.reshape(-1, 3).split(RAYS_AT_ONCE) for value in pixel_rays(viewmats, Ks, height, width))
        seen = [march(self, self.bins(*some), self.occupied) for some in zip(*rays, strict=True)]
        colors = torch.cat([part.colors for part in seen]).clamp(0, 1).view(len(viewmats), height, width, 3)
        depths = torch.cat([part.expected_depths for part in seen]).view(len(viewmats), height, width)
        return colors.movedim(-1, 1).contiguous(), depths

    def _contract(self, points: Tensor) -> Tensor:
        return contract(points, self.config.center, self.config.radius)

    def _features(self, places: Tensor) -> Tensor:
        """In the precision of the networks; the lookup has that of the places."""
        return self.density_network(self.grid(places).to(self.density_network[0].weight.dtype))


def _density(features: Tensor) -> Tensor:
    return features[:, 0].clamp_max(MAX_LOG_DENSITY).exp()


def _mlp(inputs: int, width: int, layers: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, *[width] * layers]
    hidden = [part for size in sizes[:-1] for part in (nn.Linear(size, width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def _check(**options: Any) -> None:
    coarsest, center = options["base_resolution"], options["center"]
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in center)
    names = ("levels", "features", "log2_size", "base_resolution", "width", "color_layers", "bins")
    ranges = {name: (options[name] >= 1, "at least 1") for name in (*names, "occupancy_resolution")}
    ranges |= {
        "max_resolution": (options["max_resolution"] >= coarsest, f"at least base_resolution={coarsest}"),
        "sh_degree": (options["sh_degree"] in (0, 1, 2, 3), "0, 1, 2 or 3"),
        "center": (len(center) == 3 and numbers, "three finite numbers"),
        "radius": (0 < options["radius"] < math.inf, "above 0 and finite"),
        "near": (0 < options["near"] < FAR * options["radius"], f"above 0 and below {FAR:g} radii"),
    }
    for name, (right, wanted) in ranges.items():
        if not right:
            raise ValueError(f"{name} must be {wanted}, not {options[name]!r}.")
