"""LPGS fitted to views: warm-up with parents alone, adaptive tree manipulation, and training for storage."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ...hub_models.container_lpgs import LPGSSteps, round_parents
from ...hub_models.gaussians_lpgs import LPGSGaussians
from ...hub_models.layers.parameter_rows import GrowingModule, take_rows
from ...hub_models.layers.quantization_noise import bits_of_rounded
from .gaussian_fitting import SPLIT_SHRINKS, Densification, centre_gradient, drawn_offsets, side_by_side
from .splat_views import SplatViews, StepView

# Centres, in scene radii, and scales as 3DGS has them; the paper names no others.
LEARNING_RATES = {"parent_means": 1.6e-4, "parent_log_scales": 5e-3, "grid": 1e-2}
NETWORK_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ForestRule:
    """How a forest grows and what it is trained to survive.

    Attributes:
        warmup: steps with parents alone, densified as plain splats are.
        trees: when parents are densified, children promoted and trees deleted; None keeps the parents of the start.
            A child whose gradient is above `grow_gradient` becomes a parent where and as large as it is; its old place
            goes on as a child. A tree goes when its parent is too transparent or too large. `max_splats` counts trees.
        file: what numbers are rounded to in the file.
        noise_from: step from which the grid gets the noise of rounding.
        round_from: step from which parents stand still where the file can say.
        rate_weight: price of a megabit of the grid, in loss.
    """

    file: LPGSSteps
    warmup: int = 7500
    trees: Densification | None = Densification(reset_every=10**9)
    noise_from: int = 15_000
    round_from: int = 20_000
    rate_weight: float = 0.0


class Forest(GrowingModule):
    """A scene, and what tree manipulation counts of its nodes [parents, 1 + children]."""

    rows = ("gradient_sum", "views_seen")

    def __init__(self, scene: LPGSGaussians) -> None:
        super().__init__()
        self.scene = scene
        nodes = (scene.num_parents, 1 + scene.config.children_per_parent)
        self.register_buffer("gradient_sum", torch.zeros(nodes, device=scene.device))
        self.register_buffer("views_seen", torch.zeros(nodes, device=scene.device))


class ForestFit:
    """The objective of an LPGS fit: one view a step.

    Args:
        forest: what is fitted.
        views: to what.
        rule: how.
        radius: of the scene, in scene units.
        network_rate: learning rate of the networks.
    """

    def __init__(
        self, forest: Forest, views: SplatViews, rule: ForestRule, radius: float, network_rate: float = NETWORK_RATE
    ) -> None:
        self.parts: dict[str, nn.Module] = {"forest": forest}
        self.forest, self.views, self.rule, self.radius = forest, views, rule, radius
        self.network_rate = network_rate
        self.offsets: Tensor | None = None
        self.parents_only = False

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        scene, rates = self.forest.scene, LEARNING_RATES
        networks = [value for name, value in scene.named_parameters() if not name.startswith(("parent_", "grid."))]
        groups: list[dict[str, Any]] = [
            {"params": [scene.parent_means], "lr": rates["parent_means"] * self.radius},
            {"params": [scene.parent_log_scales], "lr": rates["parent_log_scales"]},
            {"params": list(scene.grid.parameters()), "lr": rates["grid"]},
            {"params": networks, "lr": self.network_rate},
        ]
        return torch.optim.Adam(groups, eps=1e-15)

    def loss(self, part: str, batch: StepView, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rule, scene = self.rule, self.forest.scene
        self.parents_only = batch.step < rule.warmup
        step = rule.file.grid_step if batch.step >= rule.noise_from else None
        for parameter in (scene.parent_means, scene.parent_log_scales):
            parameter.requires_grad_(batch.step < rule.round_from)
        gaussians = scene.expand(self.parents_only, step, generator)
        self.offsets = gaussians.means.new_zeros(1, len(gaussians), 2).requires_grad_()
        drawn = self.views.draw(gaussians, batch.view, self.offsets)
        loss = self.views.distance(drawn, batch.view, generator)
        numbers = {"splats": float(len(gaussians)), "picture_loss": float(loss.detach())}
        if step is not None and rule.rate_weight:
            bits = bits_of_rounded(scene.grid.table, step)
            loss = loss + rule.rate_weight * 1e-6 * bits
            numbers["grid_kilobytes"] = float(bits.detach()) / 8000
        return loss, numbers

    @torch.no_grad()
    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Counts gradients of all nodes, lets trees come and go, and brings parents to rest."""
        trees, forest = self.rule.trees, self.forest
        if trees is not None and step < trees.stop:
            gradient = centre_gradient(self.offsets.grad, self.views.size).view(-1, forest.scene.num_parents).T
            nodes = gradient.shape[1]
            forest.gradient_sum[:, :nodes] += gradient
            forest.views_seen[:, :nodes] += gradient > 0
            if trees.due(step):
                self._grow(trees, step, optimizer)
        if step + 1 >= self.rule.round_from:  # what stands there already stays; what has grown since comes to rest
            round_parents(forest.scene, self.rule.file)

    def _grow(self, trees: Densification, step: int, optimizer: torch.optim.Optimizer) -> None:
        forest, scene = self.forest, self.forest.scene
        parents = scene.num_parents
        nodes = scene.expand(self.parents_only)
        mean_gradient = forest.gradient_sum / forest.views_seen.clamp_min(1)
        grows = mean_gradient > trees.grow_gradient  # [P, 1 + K]
        room = max(trees.max_splats - parents, 0)
        chosen = grows.T.flatten().nonzero()[:, 0]  # as `expand` orders nodes
        chosen = chosen[mean_gradient.T.flatten()[chosen].argsort(descending=True, stable=True)[:room]].sort().values
        # A parent that grows is split into two of itself where it is large, else cloned, as in 3DGS.
        size = scene.parent_log_scales.amax(1).exp() / self.radius
        splits = torch.zeros_like(grows[:, 0]).index_fill(0, chosen[chosen < parents], True)
        splits &= size > trees.split_scale
        size = torch.where(splits, size / SPLIT_SHRINKS, size)
        alive = ~trees.dead(step, nodes.opacity_logits[:parents].sigmoid(), size)
        kept = alive.nonzero()[:, 0]
        chosen = chosen[(chosen >= parents) | alive[chosen % parents]]
        sources = torch.cat([kept, chosen])  # nodes, each of which becomes or stays a parent
        halves = ((sources < parents) & splits[sources % parents])[:, None]
        grown = nodes.select(sources)
        fresh = torch.arange(len(kept), len(sources), device=sources.device)
        take_rows(scene, scene.rows, sources % parents, optimizer, fresh)
        take_rows(forest, forest.rows, sources % parents, optimizer)
        moved = drawn_offsets(grown.log_scales, grown.quaternions, step)
        scene.parent_means.copy_(torch.where(halves, grown.means + moved, grown.means))
        scene.parent_log_scales.copy_(grown.log_scales - math.log(SPLIT_SHRINKS) * halves)
        forest.gradient_sum.zero_()
        forest.views_seen.zero_()

    @torch.no_grad()
    def preview(self, modules: dict[str, nn.Module]) -> Image.Image:
        return side_by_side(self.views, self.forest.scene.expand(self.parents_only))
