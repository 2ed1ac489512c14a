"""An LPGS scene of at most so many bytes: fitted to splats that exist, or to pictures from sparse points."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...hub_models.container_lpgs import LPGSSteps, encode_scene
from ...hub_models.gaussians_lpgs import LPGSGaussians
from ...hub_models.rendering.gaussians import Gaussians
from ...hub_models.rendering.splat_codec import unit_length
from ..inputs import check_choice, check_count, check_number, require
from .forest_lpgs import Forest, ForestFit, ForestRule
from .gaussian_fitting import Densification, gap_between
from .loop import FitSettings, fit
from .regression_lpgs import TreeRegression, tree_members
from .splat_views import SplatViews

# What a byte of the file buys, measured on scenes of 10,000 to 150,000 splats.
BYTES_A_PARENT = 4.0
BYTES_A_GRID_NUMBER = 0.55
PARENTS_SHARE = 0.4  # of the bytes that the networks leave
HEADER_BYTES = 1500
FINE_GAPS = 0.1  # of the gaps between sparse points are where splats will be small
NEARLY_ALL = 0.99  # of the points of a bounded scene lie in the box that is not contracted
HALF = 0.5  # of the points of a scene with a far background
POSITION_SHARE = 1 / 3  # of a typical splat's size, to which positions are rounded
COARSER = 1.15  # the grid's step, again and again, until the file is small enough
COARSEST = 16.0


@dataclass(frozen=True, kw_only=True)
class LPGSFit:
    """How a scene is fitted.

    Attributes:
        max_bytes: of the file.
        steps: of the fit, one view each.
        regression_steps: before it, where there are splats to regress to.
        seed: of everything random.
        children_per_parent: K.
        sh_degree: of the colours.
        preset: of `LPGSGaussians`, whose networks and grid are taken; "" takes those that suit the bytes.
        options: other arguments of `LPGSGaussians`, which come before all else.
        grow: whether trees come and go where a fit begins at sparse points.
        save_every: steps between checkpoints.
    """

    max_bytes: int
    steps: int = 30_000
    regression_steps: int = 1000
    seed: int = 0
    children_per_parent: int = 2
    sh_degree: int = 3
    preset: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    grow: bool = True
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "regression_steps", "save_every"):
            check_count(name, getattr(self, name))
        require(self.children_per_parent in (0, 1, 2), "children_per_parent", self.children_per_parent, "0, 1 or 2")
        if self.preset:
            check_choice("preset", self.preset, tuple(LPGSGaussians.presets))
        least = HEADER_BYTES + self.network_bytes + 2000
        check_number("max_bytes", self.max_bytes, least)

    @property
    def model(self) -> dict[str, Any]:
        """Arguments of `LPGSGaussians` that are known before the number of parents is."""
        own = {"children_per_parent": self.children_per_parent, "sh_degree": self.sh_degree}
        if self.preset:
            return {**LPGSGaussians.presets[self.preset], **own, **self.options}
        small = self.max_bytes < 400_000
        networks = {"grid_dim": 16, "head_width": 32} if small else {"grid_dim": 32, "head_width": 64}
        grid = {"hash_levels": 8, "hash_max_resolution": 512 if small else 1024}
        return {**networks, **grid, **own, **self.options}

    @property
    def network_bytes(self) -> int:
        """Of all networks, in half precision."""
        scene = self._with_grid(1)
        apart = (scene.grid.table, scene.parent_means, scene.parent_log_scales)
        return 2 * sum(weight.numel() for weight in scene.parameters() if all(weight is not one for one in apart))

    @property
    def parents(self) -> int:
        """As many as their share of the bytes holds."""
        return int(PARENTS_SHARE * self._rest / BYTES_A_PARENT)

    def hash_log2_size(self, parents: int) -> int:
        """The largest tables of which all levels fit into the bytes that so many parents leave; a preset has its own.

        Args:
            parents: stored points.
        """
        if self.preset:
            default = inspect.signature(LPGSGaussians.__init__).parameters["hash_log2_size"].default
            return self.model.get("hash_log2_size", default)
        numbers = (self._rest - BYTES_A_PARENT * parents) / BYTES_A_GRID_NUMBER
        sizes = [size for size in range(1, 23) if self._grid_numbers(size) <= numbers]
        return max(sizes, default=1)

    @property
    def _rest(self) -> int:
        return self.max_bytes - self.network_bytes - HEADER_BYTES

    def _grid_numbers(self, log2_size: int) -> int:
        return self._with_grid(log2_size).grid.table.numel()

    def _with_grid(self, log2_size: int) -> LPGSGaussians:
        with torch.device("meta"):
            return LPGSGaussians(**{**self.model, "hash_log2_size": log2_size})


@dataclass(frozen=True)
class FittedScene:
    """What a fit leaves.

    Attributes:
        scene: as the file holds it, up to rounding.
        steps: of the file.
        data: the file.
    """

    scene: LPGSGaussians
    steps: LPGSSteps
    data: bytes


def fit_scene_to_splats(
    source: Gaussians,
    importance: Float[Tensor, " gaussians"],
    views: SplatViews,
    how: LPGSFit,
    output: str | Path | None = None,
    **running: Any,
) -> FittedScene:
    """Fits a scene to splats: their most important ones are regressed as trees, then rendered views are matched.

    Args:
        source: what is fitted to.
        importance: of each of its splats, such as `blending_weights`.
        views: of the source.
        how: bytes and steps.
        output: folder of checkpoints, metrics and previews; None keeps none.
        running: `resume` and `progress` of `fit`.

    Raises:
        ValueError: when no scene of so few bytes can be made.
    """
    nodes = 1 + how.children_per_parent
    count = min(how.parents, len(source) // nodes)
    require(count >= 1, "source", len(source), f"at least {nodes} Gaussians")
    kept = importance.topk(count * nodes).indices
    chosen = source.select(kept).with_sh_degree(how.sh_degree)
    trees = tree_members(chosen, importance[kept], how.children_per_parent)
    targets = chosen.select(trees.T.flatten())
    start = targets.select(slice(0, count))
    # Of a bounded scene the contraction would leave half of the grid unused.
    forest, radius = _plant(start.means, start.log_scales, source.means, how, "box", NEARLY_ALL)
    folders = _folders(output)
    regression = TreeRegression(forest, targets)
    settings = _settings(how, how.regression_steps, forest.scene)
    fit(regression, regression.batches(how.seed), settings, folders["regression"], **running)
    return _match(forest, views, how, _rule(how, unit_length(source), None), radius, folders["fit"], **running)


def fit_scene_to_pictures(
    views: SplatViews,
    points: Float[Tensor, "points 3"],
    how: LPGSFit,
    output: str | Path | None = None,
    **running: Any,
) -> FittedScene:
    """Fits a scene to pictures: parents begin at sparse points, grow alone for a quarter of the steps, then as trees.

    Args:
        views: the pictures and their cameras.
        points: at least 2, as structure from motion gives them.
        how: bytes and steps.
        output: folder of checkpoints, metrics and previews; None keeps none.
        running: `resume` and `progress` of `fit`.

    Raises:
        ValueError: for too few points, or when no scene of so few bytes can be made.
    """
    forest, rule, radius = plant_in_points(points, how)
    return _match(forest, views, how, rule, radius, _folders(output)["fit"], **running)


def plant_in_points(points: Float[Tensor, "points 3"], how: LPGSFit) -> tuple[Forest, ForestRule, float]:
    """The start of a fit to pictures: a forest, how it grows, and the radius of its scene.

    Args:
        points: at least 2, as structure from motion gives them.
        how: bytes and steps.

    Raises:
        ValueError: for too few points.
    """
    require(len(points) >= 2, "points", len(points), "at least 2")
    draw = torch.Generator().manual_seed(how.seed)
    kept = points[torch.randperm(len(points), generator=draw)[: how.parents]]
    gaps = gap_between(kept).clamp_min(1e-7)
    log_scales = gaps.log()[:, None].expand(-1, 3)
    forest, radius = _plant(kept, log_scales, points, how, "mipnerf360", HALF, how.parents)
    trees = Densification(
        start=how.steps // 60,
        stop=how.steps // 2,
        every=max(1, how.steps // 300),
        reset_every=how.steps + 1,
        max_splats=how.parents,
    )
    return forest, _rule(how, float(gaps.quantile(FINE_GAPS)), trees if how.grow else None), radius


def _plant(
    means: Tensor, log_scales: Tensor, all_points: Tensor, how: LPGSFit, contraction: str, share: float, most: int = 0
) -> tuple[Forest, float]:
    """A new scene with these parents, which may become so many, and its radius, within which a share of points lies."""
    center = all_points.median(0).values
    radius = float((all_points - center).abs().amax(1).quantile(share)) if len(all_points) > 1 else 1.0
    torch.manual_seed(how.seed)
    place = {"contraction": contraction, "center": tuple(center.tolist()), "radius": max(radius, 1e-6)}
    grid = {"hash_log2_size": how.hash_log2_size(max(len(means), most))}
    scene = LPGSGaussians(**{"num_parents": len(means), **grid, **place, **how.model})
    with torch.no_grad():
        scene.parent_means.copy_(means)
        scene.parent_log_scales.copy_(log_scales)
    return Forest(scene.to(means.device)).to(means.device), radius


def _rule(how: LPGSFit, unit: float, trees: Densification | None) -> ForestRule:
    """Positions are as exact as a third of a typical splat, of size `unit`."""
    return ForestRule(
        file=LPGSSteps(position_step=POSITION_SHARE * unit),
        warmup=how.steps // 4 if trees else 0,
        trees=trees,
        noise_from=how.steps // 2,
        round_from=how.steps * 2 // 3,
    )


def _match(
    forest: Forest,
    views: SplatViews,
    how: LPGSFit,
    rule: ForestRule,
    radius: float,
    output: Path | None,
    **running: Any,
) -> FittedScene:
    """Fits to views, and writes the file."""
    objective = ForestFit(forest, views, rule, radius)
    settings = _settings(how, how.steps, forest.scene, views=[len(views), *views.size])
    fit(objective, views.batches(how.seed), settings, output, **running)
    return encode_within(forest.scene, rule.file, how.max_bytes)


def encode_within(scene: LPGSGaussians, steps: LPGSSteps, max_bytes: int) -> FittedScene:
    """The file with the finest grid that is small enough.

    Raises:
        ValueError: none is.
    """
    factor = 1.0
    while factor <= COARSEST:
        coarser = replace(steps, grid_step=steps.grid_step * factor)
        data = encode_scene(scene, coarser)
        if len(data) <= max_bytes:
            return FittedScene(scene, coarser, data)
        factor *= COARSER
    raise ValueError(f"max_bytes must be at least what the parents and networks take, not {max_bytes}.")


def _settings(how: LPGSFit, steps: int, scene: LPGSGaussians, **about: Any) -> FitSettings:
    """What a run is; the box of the scene tells it from that of another source."""
    wishes = {name: value for name, value in asdict(how).items() if name not in ("steps", "seed", "save_every")}
    box = {"center": list(scene.config.center), "radius": scene.config.radius}
    return FitSettings(
        steps=steps,
        seed=how.seed,
        schedule="cosine",
        max_grad_norm=None,
        save_every=how.save_every,
        preview_every=how.save_every,
        identity={**wishes, **box, **about},
    )


def _folders(output: str | Path | None) -> dict[str, Path | None]:
    return {name: None if output is None else Path(output) / name for name in ("regression", "fit")}
