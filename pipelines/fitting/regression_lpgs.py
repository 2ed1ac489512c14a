"""LPGS that says what given splats are: the start of a fit to a file, before anything is rendered."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...hub_models.rendering.gaussians import Gaussians
from ...hub_models.rendering.morton_order import morton_order
from .forest_lpgs import NETWORK_RATE, Forest, ForestFit
from .loop import Batches

CURVE_CELLS = 1 << 16  # along the longest side of the scene
TREES_A_STEP = 1 << 14


def tree_members(
    gaussians: Gaussians, importance: Float[Tensor, " gaussians"], children: int
) -> Int[Tensor, "trees nodes"]:
    """Which splats make a tree: neighbours along a Morton curve, the most important of them as the parent.

    Args:
        gaussians: a multiple of 1 + children of them; what is left over goes unused.
        importance: of each.
        children: of a tree.

    Returns:
        indices of the nodes, parents first [trees, 1 + children].
    """
    low, high = gaussians.means.amin(0), gaussians.means.amax(0)
    cells = ((gaussians.means - low) / (high - low).amax().clamp_min(1e-9) * (CURVE_CELLS - 1)).long()
    order = torch.from_numpy(morton_order(cells.cpu().numpy())).to(importance.device)
    nodes = 1 + children
    trees = order[: len(order) // nodes * nodes].view(-1, nodes)
    ranks = importance[trees].argsort(dim=1, descending=True, stable=True)
    return trees.gather(1, ranks)


class TreeRegression(ForestFit):
    """The objective of the start: a share of the trees a step, attribute by attribute.

    Args:
        forest: what is fitted.
        targets: what all nodes shall be: parents, then first children, then second ones, as `expand` has them.
    """

    def __init__(self, forest: Forest, targets: Gaussians) -> None:
        self.parts: dict[str, nn.Module] = {"forest": forest}
        self.forest, self.targets = forest, targets
        self.radius = 0.0  # parents stay where they are
        self.network_rate = NETWORK_RATE

    def loss(self, part: str, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        trees = batch.to(self.forest.scene.device)
        made = self.forest.scene.expand(trees=trees)
        parents = self.forest.scene.num_parents
        nodes = torch.cat([trees + parents * k for k in range(len(made) // len(trees))])
        wanted = self.targets.select(nodes)
        size = wanted.log_scales.exp().amax(1, keepdim=True)
        alike = (F.normalize(made.quaternions, dim=1) * F.normalize(wanted.quaternions, dim=1)).sum(1).abs()
        losses = {
            "place": ((made.means - wanted.means) / size).abs().clamp_max(4).mean(),
            "scale": (made.log_scales - wanted.log_scales).abs().mean(),
            "rotation": (1 - alike).mean(),
            "opacity": (made.opacity_logits.sigmoid() - wanted.opacity_logits.sigmoid()).abs().mean(),
            "color": (made.sh - wanted.sh).abs().mean(),
        }
        return torch.stack(list(losses.values())).sum(), {
            f"{name}_loss": float(value.detach()) for name, value in losses.items()
        }

    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Trees neither come nor go."""

    def preview(self, modules: dict[str, nn.Module]) -> None:
        """There are no pictures yet."""

    def batches(self, seed: int) -> Batches:
        """`TREES_A_STEP` trees a step, drawn anew each time."""

        def from_step(start: int, rank: int, world: int) -> Iterator[Tensor]:
            parents, step = self.forest.scene.num_parents, start
            while True:
                draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
                yield torch.randint(parents, (min(TREES_A_STEP, parents),), generator=draw)
                step += 1

        return from_step
