"""Plain 3D Gaussian splats fitted to views, with densification (Kerbl et al. 2023, arXiv 2308.04079, section 5)."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ...hub_models.layers.parameter_rows import GrowingModule, take_rows
from ...hub_models.rendering.gaussians import Gaussians
from ...hub_models.rendering.quaternions import rotation_matrices
from ...hub_models.rendering.spherical_harmonics import SH_C0, num_coefficients
from .loop import FitSettings, fit
from .splat_views import SplatViews, StepView

# Of the published trainer; that of the centres is in scene radii.
LEARNING_RATES = {
    "means": 1.6e-4,
    "log_scales": 5e-3,
    "quaternions": 1e-3,
    "opacity_logits": 5e-2,
    "sh_dc": 2.5e-3,
    "sh_rest": 1.25e-4,
}
DISTANCES_AT_ONCE = 1 << 24  # 128 MiB of them
SPLIT_SHRINKS = 1.6
START_OPACITY_LOGIT = -2.1972246  # of 0.1


@dataclass(frozen=True, kw_only=True)
class Densification:
    """When splats are added and removed, with the published values; scales are in scene radii.

    Attributes:
        start, stop, every: steps at which it happens.
        grow_gradient: a splat whose centre's gradient in the picture, in half picture widths and averaged over the
            views that saw it, is above this is cloned, or split where it is larger than `split_scale`.
        prune_opacity, prune_scale: less opaque and larger splats are removed, larger ones from step `prune_large_from`.
        reset_every: steps between which all opacities are cut down to twice `prune_opacity`.
        max_splats: nothing is added beyond.
    """

    start: int = 500
    stop: int = 15_000
    every: int = 100
    grow_gradient: float = 2e-4
    split_scale: float = 0.01
    prune_opacity: float = 0.005
    prune_scale: float = 0.1
    prune_large_from: int = 3000
    reset_every: int = 3000
    max_splats: int = 1_000_000

    def due(self, step: int) -> bool:
        """Whether splats change after step `step`, counted from 0."""
        return self.start <= step < self.stop and (step + 1) % self.every == 0

    def dead(self, step: int, opacities: Float[Tensor, " splats"], sizes: Float[Tensor, " splats"]) -> Tensor:
        """Which splats go after step `step`, not all of them; sizes in scene radii."""
        dead = opacities < self.prune_opacity
        if step >= self.prune_large_from:
            dead |= sizes > self.prune_scale
        if dead.all():
            dead[opacities.argmax()] = False
        return dead


class GaussianCloud(GrowingModule):
    """Splats as parameters, and what densification counts of each."""

    rows = ("means", "log_scales", "quaternions", "opacity_logits", "sh_dc", "sh_rest", "gradient_sum", "views_seen")

    def __init__(self, start: Gaussians) -> None:
        super().__init__()
        values = start.tensors()
        values |= {"sh_dc": start.sh[:, :1], "sh_rest": start.sh[:, 1:]}
        for name in LEARNING_RATES:
            setattr(self, name, nn.Parameter(values[name].detach().clone().contiguous()))
        self.register_buffer("gradient_sum", torch.zeros(len(start), device=start.means.device))
        self.register_buffer("views_seen", torch.zeros(len(start), device=start.means.device))

    def gaussians(self, sh_degree: int | None = None) -> Gaussians:
        """The splats, with the first degrees of their colours."""
        kept = self.sh_rest if sh_degree is None else self.sh_rest[:, : num_coefficients(sh_degree) - 1]
        return Gaussians(
            self.means, self.log_scales, self.quaternions, self.opacity_logits, torch.cat([self.sh_dc, kept], 1)
        )


class PlainFit:
    """The objective of a plain fit: one view a step.

    Args:
        cloud: what is fitted.
        views: to what.
        densification: how splats come and go; None keeps them all.
        radius: of the scene, in scene units.
        degree_every: steps after which colours get their next degree.
    """

    def __init__(
        self, cloud: GaussianCloud, views: SplatViews, densification: Densification | None, radius: float,
        degree_every: int = 1000,
    ) -> None:  # fmt: skip
        self.parts: dict[str, nn.Module] = {"splats": cloud}
        self.cloud, self.views, self.radius = cloud, views, radius
        self.densification, self.degree_every = densification, degree_every
        self.offsets: Tensor | None = None

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        rates = {name: rate * self.radius if name == "means" else rate for name, rate in LEARNING_RATES.items()}
        groups = [{"params": [getattr(self.cloud, name)], "lr": rate} for name, rate in rates.items()]
        return torch.optim.Adam(groups, eps=1e-15)

    def loss(self, part: str, batch: StepView, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        gaussians = self.cloud.gaussians(min(batch.step // self.degree_every, 3))
        self.offsets = gaussians.means.new_zeros(1, len(gaussians), 2).requires_grad_()
        drawn = self.views.draw(gaussians, batch.view, self.offsets)
        return self.views.distance(drawn, batch.view, generator), {"splats": float(len(gaussians))}

    @torch.no_grad()
    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Counts gradients, and lets splats come and go."""
        rule = self.densification
        if rule is None or step >= rule.stop:
            return
        gradient = centre_gradient(self.offsets.grad, self.views.size)
        self.cloud.gradient_sum += gradient
        self.cloud.views_seen += gradient > 0
        if rule.due(step):
            self._densify(rule, step, optimizer)
        if (step + 1) % rule.reset_every == 0:
            self.cloud.opacity_logits.clamp_(max=float(torch.logit(torch.tensor(2 * rule.prune_opacity))))

    def _densify(self, rule: Densification, step: int, optimizer: torch.optim.Optimizer) -> None:
        cloud = self.cloud
        size = cloud.log_scales.amax(1).exp() / self.radius
        grows = cloud.gradient_sum / cloud.views_seen.clamp_min(1) > rule.grow_gradient
        room = max(rule.max_splats - len(size), 0)
        grows &= grows.cumsum(0) <= room
        splits = grows & (size > rule.split_scale)
        size = torch.where(splits, size / SPLIT_SHRINKS, size)
        dead = rule.dead(step, cloud.opacity_logits.sigmoid(), size)
        added = grows.nonzero()[:, 0]
        index = torch.cat([torch.arange(len(size), device=size.device), added])
        halved = torch.cat([splits, splits[added]])
        alive = torch.cat([~dead, ~dead[added]])
        take_rows(cloud, cloud.rows, index[alive], optimizer, _places(alive, len(size)))
        self._scatter(halved[alive], step)
        cloud.gradient_sum.zero_()
        cloud.views_seen.zero_()

    def _scatter(self, halves: Tensor, step: int) -> None:
        """Puts both halves of a split where the splat was likely to be, 1.6 times smaller."""
        cloud = self.cloud
        moved = cloud.means + drawn_offsets(cloud.log_scales, cloud.quaternions, step)
        cloud.means.copy_(torch.where(halves[:, None], moved, cloud.means))
        cloud.log_scales -= math.log(SPLIT_SHRINKS) * halves[:, None]

    @torch.no_grad()
    def preview(self, modules: dict[str, nn.Module]) -> Image.Image:
        return side_by_side(self.views, self.cloud.gaussians())


def drawn_offsets(
    log_scales: Float[Tensor, "splats 3"], quaternions: Float[Tensor, "splats 4"], step: int
) -> Float[Tensor, "splats 3"]:
    """Steps away from centres, each drawn from its splat's own distribution; the same ones for the same step."""
    noise = torch.randn(len(log_scales), 3, generator=torch.Generator().manual_seed(step)).to(log_scales)
    axes = rotation_matrices(quaternions) * log_scales.exp()[:, None]
    return (axes @ noise[..., None])[..., 0]


def _places(alive: Tensor, old: int) -> Tensor:
    """Where the rows from `old` on stand after the dead ones are gone."""
    return torch.arange(int(alive[:old].sum()), int(alive.sum()), device=alive.device)


def centre_gradient(gradient: Float[Tensor, "1 splats 2"], size: tuple[int, int]) -> Float[Tensor, " splats"]:
    """Length of the gradient by a centre when half the picture's width and height count as 1."""
    half = gradient.new_tensor(size) / 2
    return (gradient[0] * half).norm(dim=-1)


def side_by_side(views: SplatViews, gaussians: Gaussians, view: int = 0) -> Image.Image:
    """A view and its fit, left and right."""
    drawn = views.draw(gaussians, view).rgb[0]
    both = torch.cat([views.rgb[view], drawn], 2).clamp(0, 1)
    return Image.fromarray((both.movedim(0, -1) * 255).round().byte().cpu().numpy())


def splats_at(points: Float[Tensor, "points 3"], rgb: Float[Tensor, "points 3"], sh_degree: int = 3) -> Gaussians:
    """Splats to start from at sparse points: round, as large as the gaps between them, of opacity 0.1.

    Args:
        points: at least 2, in scene units.
        rgb: their colours in [0, 1].
        sh_degree: of the colours to come.
    """
    count = len(points)
    sh = points.new_zeros(count, num_coefficients(sh_degree), 3)
    sh[:, 0] = (rgb - 0.5) / SH_C0
    upright = points.new_tensor([1.0, 0, 0, 0]).expand(count, 4)
    gaps = gap_between(points).clamp_min(1e-7).log()[:, None].expand(count, 3)
    return Gaussians(points, gaps, upright, points.new_full((count,), START_OPACITY_LOGIT), sh)


def gap_between(points: Float[Tensor, "points 3"], neighbours: int = 3) -> Float[Tensor, " points"]:
    """Root mean square distance from each point to its nearest ones."""
    near = min(neighbours, len(points) - 1)
    if near < 1:
        return points.new_ones(len(points))
    exact = points.double()  # cdist squares coordinates, in which small gaps would drown
    parts = exact.split(max(1, DISTANCES_AT_ONCE // len(points)))
    chunks = [torch.cdist(part, exact).topk(near + 1, largest=False).values[:, 1:] for part in parts]
    return torch.cat(chunks).square().mean(1).sqrt().to(points)


def fit_gaussians(
    views: SplatViews,
    start: Gaussians,
    settings: FitSettings,
    densification: Densification | None,
    radius: float,
    output: str | Path | None = None,
    **running: Any,
) -> Gaussians:
    """Fits plain splats to views.

    Args:
        views: to what.
        start: from where, such as `splats_at` sparse points.
        settings: how long.
        densification: how splats come and go; None keeps those of the start.
        radius: of the scene, in scene units: what learning rates and sizes are measured in.
        output: folder of checkpoints, metrics and previews; None keeps none.
        running: `resume` and `progress` of `fit`.
    """
    cloud = GaussianCloud(start)
    objective = PlainFit(cloud, views, densification, radius)
    fit(objective, views.batches(settings.seed), settings, output, **running)
    return cloud.gaussians().detach()
