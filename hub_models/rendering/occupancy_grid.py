"""Where the unit cube holds anything, so that rays can skip the rest (Mueller et al. 2022, arXiv 2201.05989)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

DECAY = 0.8  # of a cell's density from look to look; places where it is low are seen to be occupied a while longer


class OccupancyGrid(nn.Module):
    """Cells of the unit cube, each with the largest density lately found in it.

    Args:
        resolution: cells along a side.
        threshold: density above which a cell is occupied. A cell where nobody has looked yet counts as occupied.
    """

    densities: Tensor

    def __init__(self, resolution: int, threshold: float) -> None:
        super().__init__()
        self.resolution, self.threshold = resolution, threshold
        self.register_buffer("densities", torch.full((resolution**3,), threshold / DECAY))

    def forward(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether the cells of points in [0, 1]^3 are occupied."""
        x, y, z = (points * self.resolution).long().clamp_(0, self.resolution - 1).unbind(-1)
        return (self.densities > self.threshold)[(z * self.resolution + y) * self.resolution + x]

    @torch.no_grad()
    def update(
        self,
        density_of: Callable[[Float[Tensor, "points 3"]], Float[Tensor, " points"]],
        cells: int,
        generator: torch.Generator,
    ) -> None:
        """Looks at a random place in each of so many random cells.

        Args:
            density_of: points of the unit cube to densities there.
            cells: how many; all, where there are fewer.
            generator: on the CPU.
        """
        chosen = torch.randperm(self.resolution**3, generator=generator)[:cells]
        place = torch.rand(len(chosen), 3, generator=generator)
        corner = torch.stack([chosen, chosen // self.resolution, chosen // self.resolution**2], -1) % self.resolution
        found = density_of(((corner + place) / self.resolution).to(self.densities)).to(self.densities)
        chosen = chosen.to(self.densities.device)
        self.densities[chosen] = torch.maximum(DECAY * self.densities[chosen], found)
