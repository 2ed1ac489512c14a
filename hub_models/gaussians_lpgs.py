"""LPGS: splats of which only parent points are stored and everything else is predicted (arXiv 2406.19434).

A scene is a forest of trees of depth one. A parent keeps its position and scale; a shared hash grid and four small
networks predict its other attributes, and its children's positions and attributes. No prediction looks at the camera,
so that a scene unpacks once, into plain Gaussians that any viewer shows.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from .layers.hash_grid import HashGrid
from .layers.parameter_rows import GrowingModule
from .layers.quantization_noise import with_quantization_noise
from .presets import PresetMixin
from .rendering.contraction import contract
from .rendering.gaussians import Gaussians
from .rendering.spherical_harmonics import num_coefficients

START_OPACITY = 0.1
MAX_CHILD_LOG_SCALE = 4.0  # a child is at most exp(4) times larger or smaller than its parent


class LPGSGaussians(GrowingModule, ModelMixin, ConfigMixin, PresetMixin):
    """Parents, and the predictor of all splats.

    Args:
        num_parents: stored points.
        grid_dim: D, the numbers that the hash grid says of a point: levels times features a level.
        hash_levels, hash_log2_size, hash_base_resolution, hash_max_resolution: of the hash grid.
        encoding: "hash", or "frequency" for sines and cosines of the position, which the paper's ablation tries.
        children_per_parent: K, 0 to 2 in the paper.
        child_offset_radius: how far a child may be along each axis, in largest standard deviations of its parent. The
            paper's equation has no bound; without one, children leave the region whose features describe them.
        attention: whether the nodes of a tree look at each other.
        head_width: hidden units of each network.
        sh_degree: of the predicted colour, 0 to 3. It costs no storage, colour being predicted.
        mlp_position, mlp_distance: whether the networks are told the contracted position, and the distance between
            child and parent in parent's scales.
        contraction: "mipnerf360" maps space to a ball of radius 2 (Barron et al. 2022, arXiv 2111.12077, equation 10);
            "box" clamps to the box.
        center, radius: of the box of most points, in scene units; the contraction leaves it as it is.

    Raises:
        ValueError: for a value that is out of range, naming it.
    """

    rows = ("parent_means", "parent_log_scales")
    _keep_in_fp32_modules = list(rows)
    _supports_gradient_checkpointing = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "nano": {"grid_dim": 16, "hash_levels": 8, "hash_log2_size": 12, "hash_max_resolution": 256, "head_width": 32},
        "C1": {"grid_dim": 32},
        "C2": {"grid_dim": 48},
        "C3": {"grid_dim": 64},
    }

    @register_to_config
    def __init__(
        self,
        num_parents: int = 1,
        grid_dim: int = 64,
        hash_levels: int = 16,
        hash_log2_size: int = 18,
        hash_base_resolution: int = 16,
        hash_max_resolution: int = 2048,
        encoding: Literal["hash", "frequency"] = "hash",
        children_per_parent: int = 2,
        child_offset_radius: float = 4.0,
        attention: bool = True,
        head_width: int = 64,
        sh_degree: int = 3,
        mlp_position: bool = True,
        mlp_distance: bool = True,
        contraction: Literal["mipnerf360", "box"] = "mipnerf360",
        center: tuple[float, float, float] = (0.0, 0.0, 0.0),
        radius: float = 1.0,
    ) -> None:
        super().__init__()
        _check(**self._internal_dict)
        self.gradient_checkpointing = False
        self.parent_means = nn.Parameter(torch.zeros(num_parents, 3))
        self.parent_log_scales = nn.Parameter(torch.zeros(num_parents, 3))
        if encoding == "hash":
            features = grid_dim // hash_levels
            self.grid = HashGrid(hash_levels, features, hash_log2_size, hash_base_resolution, hash_max_resolution)
        else:
            self.grid = FrequencyGrid(grid_dim, hash_max_resolution)
        self.attribute_features = nn.Linear(grid_dim, grid_dim)
        self.displacement_features = nn.Linear(grid_dim, grid_dim)
        self.tree_attention = TreeAttention(grid_dim) if attention else None
        told = grid_dim + 3 * mlp_position + mlp_distance
        self.position_head = _mlp(grid_dim, head_width, 3 * children_per_parent) if children_per_parent else None
        self.shape_head = _mlp(told, head_width, 3 + 4)
        self.opacity_head = _mlp(told, head_width, 1)
        self.color_head = _mlp(told, head_width, 3 * num_coefficients(sh_degree))

    def expand(
        self,
        parents_only: bool = False,
        grid_step: float | None = None,
        generator: torch.Generator | None = None,
        trees: Int[Tensor, " trees"] | None = None,
    ) -> Gaussians:
        """All splats, parents first, then first children, then second ones; differentiable.

        Args:
            parents_only: leaves the children out, as while a fit warms up.
            grid_step: adds to each number of the grid the noise of rounding to multiples of this step, so that training
                learns numbers that survive it; None takes them as they are.
            generator: of that noise.
            trees: only these, in this order; None for all.
        """
        table = None
        if grid_step is not None:
            table = with_quantization_noise(self.grid.table, grid_step, generator)
        means, log_scales = self.parent_means, self.parent_log_scales
        if trees is not None:
            means, log_scales = means[trees], log_scales[trees]
        attributes = self(means, log_scales, parents_only, table)
        flat = [value.to(means.dtype).transpose(0, 1).flatten(0, 1) for value in attributes]  # [(1 + K) trees, ...]
        return Gaussians(*flat)

    def forward(
        self,
        means: Float[Tensor, "trees 3"],
        log_scales: Float[Tensor, "trees 3"],
        parents_only: bool = False,
        table: Float[Tensor, "rows features"] | None = None,
    ) -> tuple[Tensor, ...]:
        """The splats of trees, from what is stored of their parents.

        Args:
            means, log_scales: of the parents.
            parents_only: leaves the children out.
            table: of the hash grid, instead of its own.

        Returns:
            means, log scales, quaternions, opacity logits and spherical harmonics as in `Gaussians`, each
            [trees, 1 + K, ...], the parent first.
        """
        children = 0 if parents_only else self.config.children_per_parent
        of_parents = self._grid_features(means, table)  # [trees, D]
        nodes = [means]
        if children:
            radius = self.config.child_offset_radius * log_scales.detach().amax(-1, keepdim=True).exp()  # [trees, 1]
            offsets = self.position_head(self.displacement_features(of_parents)).view(-1, children, 3).tanh()
            nodes += (means[:, None] + radius[:, None] * offsets).unbind(1)
        positions = torch.stack(nodes, 1)  # [trees, 1 + K, 3]
        features = of_parents[:, None]
        if children:
            of_children = self._grid_features(positions[:, 1:].flatten(0, 1), table)
            features = torch.cat([features, of_children.view(-1, children, features.shape[-1])], 1)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            attributes: tuple[Tensor, ...] = self._gradient_checkpointing_func(
                self._attributes, positions, log_scales, features
            )
            return attributes
        return self._attributes(positions, log_scales, features)

    def _grid_features(self, points: Tensor, table: Tensor | None) -> Tensor:
        """In the precision of the networks; the lookup has that of the points."""
        return self.grid(self.contract(points), table).to(self.attribute_features.weight.dtype)

    def _attributes(self, positions: Tensor, parent_log_scales: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        features = self.attribute_features(features)  # [trees, 1 + K, D]
        if self.tree_attention is not None:
            features = self.tree_attention(features)
        told = [features]
        if self.config.mlp_position:
            told.append(self.contract(positions).to(features.dtype))
        if self.config.mlp_distance:
            distance = (positions - positions[:, :1]).norm(dim=-1, keepdim=True)
            in_scales = distance / parent_log_scales.detach().amax(-1).exp()[:, None, None]
            told.append(in_scales.to(features.dtype))
        told = torch.cat(told, -1)
        shape = self.shape_head(told)
        change = shape[..., :3].clamp(-MAX_CHILD_LOG_SCALE, MAX_CHILD_LOG_SCALE)
        own = (torch.arange(positions.shape[1], device=positions.device) > 0)[:, None]
        upright = torch.tensor([1.0, 0, 0, 0], device=shape.device, dtype=shape.dtype)
        return (
            positions,
            parent_log_scales[:, None] + own * change,  # the parent's own scale is the stored one
            shape[..., 3:] + upright,
            self.opacity_head(told)[..., 0] + math.log(START_OPACITY / (1 - START_OPACITY)),
            self.color_head(told).unflatten(-1, (-1, 3)),
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Parents keep their precision when the networks go to half: rounded, they would stand elsewhere."""
        exact = {name: getattr(self, name).data for name in self.rows}
        super()._apply(fn, recurse)
        for name, values in exact.items():
            parameter = getattr(self, name)
            if parameter.dtype.itemsize < values.dtype.itemsize:
                parameter.data = values.to(parameter.device)
        return self

    def contract(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Where in the unit cube of the grid points of the scene lie."""
        if self.config.contraction == "box":
            local = (points - points.new_tensor(self.config.center)) / self.config.radius
            return (local.clamp(-1, 1) + 1) / 2
        return contract(points, self.config.center, self.config.radius)

    @property
    def num_parents(self) -> int:
        """Parents there are now; a fit adds and removes them."""
        return len(self.parent_means)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make this network again, with the parents there are now."""
        if self._internal_dict["num_parents"] != self.num_parents:
            self.register_to_config(num_parents=self.num_parents)
        return self._internal_dict

    def to_json_string(self) -> str:
        """`config` as JSON, which `save_pretrained` writes."""
        self.register_to_config(num_parents=self.num_parents)
        return super().to_json_string()


class TreeAttention(nn.Module):
    """Self-attention among the nodes of a tree, without positions or an output projection, added through a gate.

    That one projection was found unnecessary is the paper's; which one, and the gate, a learned sigmoid that starts at
    one half, are choices.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, nodes: Float[Tensor, "trees nodes dim"]) -> Float[Tensor, "trees nodes dim"]:
        q, k, v = self.query(nodes), self.key(nodes), self.value(nodes)
        weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)  # plain: trees are tiny, batches huge
        return nodes + torch.sigmoid(self.gate) * (weights @ v)


class FrequencyGrid(nn.Module):
    """Sines and cosines of a position, from one period of the cube to `max_frequency` of them, learned by a layer."""

    def __init__(self, dim: int, max_frequency: int) -> None:
        super().__init__()
        self.octaves = max(2, round(math.log2(max_frequency)) + 1)
        self.mix = nn.Linear(6 * self.octaves, dim)

    @property
    def table(self) -> Tensor:
        """What stands in for the rows of a hash grid: the weights of the layer."""
        return self.mix.weight

    def forward(self, points: Float[Tensor, "points 3"], table: Tensor | None = None) -> Float[Tensor, "points dim"]:
        table = self.mix.weight if table is None else table
        frequencies = 2 * math.pi * 2 ** torch.arange(self.octaves, device=points.device, dtype=points.dtype)
        angles = (points[..., None] * frequencies).flatten(-2)
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        return F.linear(waves.to(table.dtype), table, self.mix.bias)


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(width, outputs)
    nn.init.uniform_(last.weight, -1e-3, 1e-3)  # all splats begin alike
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), last)


def _check(**options: Any) -> None:
    levels, coarsest = options["hash_levels"], options["hash_base_resolution"]
    finest, dim, center = options["hash_max_resolution"], options["grid_dim"], options["center"]
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in center)
    ranges = {
        "num_parents": (options["num_parents"] >= 1, "at least 1"),
        "hash_levels": (levels >= 1, "at least 1"),
        "grid_dim": (levels < 1 or (dim >= levels and dim % levels == 0), f"a multiple of hash_levels={levels}"),
        "hash_log2_size": (options["hash_log2_size"] >= 0, "at least 0"),
        "hash_base_resolution": (coarsest >= 1, "at least 1"),
        "hash_max_resolution": (finest >= coarsest, f"at least hash_base_resolution={coarsest}"),
        "encoding": (options["encoding"] in ("hash", "frequency"), "'hash' or 'frequency'"),
        "children_per_parent": (options["children_per_parent"] in (0, 1, 2), "0, 1 or 2"),
        "child_offset_radius": (0 <= options["child_offset_radius"] < math.inf, "at least 0 and finite"),
        "head_width": (options["head_width"] >= 1, "at least 1"),
        "sh_degree": (options["sh_degree"] in (0, 1, 2, 3), "0, 1, 2 or 3"),
        "contraction": (options["contraction"] in ("mipnerf360", "box"), "'mipnerf360' or 'box'"),
        "center": (len(center) == 3 and numbers, "three finite numbers"),
        "radius": (0 < options["radius"] < math.inf, "above 0 and finite"),
    }
    for name, (right, wanted) in ranges.items():
        if not right:
            raise ValueError(f"{name} must be {wanted}, not {options[name]!r}.")
