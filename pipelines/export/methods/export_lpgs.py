"""How LPGS is exported: the scene itself is the network, from numbers of parents to the splats of their trees."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from ....hub_models.gaussians_lpgs import LPGSGaussians
from ....hub_models.rendering.gaussians import Gaussians
from ....hub_models.rendering.spherical_harmonics import num_coefficients
from ...pipeline_lpgs import LPGSPipeline
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..stand_ins import Runner, StandIn
from . import Export

SETTINGS = ("position_step", "scale_step", "grid_step", "circle")
TREES_A_CALL = 4096
"""When a bundle unpacks its scene: enough to keep a processor busy, in a few megabytes."""
GOLDEN = (math.sqrt(5) - 1) / 2

LOOP = """\
once, when the scene is opened, for the numbers 0 .. {last} of its parents, some at a time:
    means, log_scales, quaternions, opacity_logits, sh = trees(numbers)
each row is a tree of {nodes}; all of them together are the scene's {splats} Gaussians,
which no camera changes and any renderer of 3D Gaussian splats draws, each with
    center = means, in scene units
    R = rotation matrix of quaternions / |quaternions|, w x y z
    covariance = R * diag(exp(log_scales))^2 * transpose(R)
    opacity = sigmoid(opacity_logits)
    color seen along the direction d = max(0, 0.5 + sum of sh[k] * Y[k](d) over k = 0 .. {last_coefficient}),
        d = (center - camera) / |center - camera|, Y = the real spherical harmonics in the order and with the signs
        of 3D Gaussian splatting, so that Y[0] = 0.28209479
"""


class Trees(nn.Module):
    """Numbers of parents to the splats of their trees, the parent first."""

    def __init__(self, scene: LPGSGaussians) -> None:
        super().__init__()
        self.scene = scene

    def forward(self, index: Tensor) -> tuple[Tensor, ...]:
        rows, scene = index.long(), self.scene
        return scene(scene.parent_means[rows], scene.parent_log_scales[rows])


class SceneStandIn(StandIn):
    """In place of an `LPGSGaussians`, to be unpacked."""

    def expand(self, trees: Int[Tensor, " trees"] | None = None) -> Gaussians:
        """As `LPGSGaussians.expand`."""
        index = torch.arange(self.config["num_parents"]) if trees is None else trees
        pieces = [self.run(piece.int()) for piece in index.split(TREES_A_CALL)]
        attributes = (torch.cat(values) for values in zip(*pieces, strict=True))
        return Gaussians(*(value.transpose(0, 1).flatten(0, 1) for value in attributes))


class SceneExport(Export):
    """The whole scene in one network."""

    network = "trees"
    command = "render THIS_FOLDER --output frames"

    def contract(self, pipeline: LPGSPipeline) -> PipelineContract:
        """As `Export.contract`."""
        scene = pipeline.scene
        parents, nodes = scene.num_parents, 1 + scene.config.children_per_parent
        coefficients = num_coefficients(scene.config.sh_degree)
        return PipelineContract(
            slug="lpgs",
            components=(_trees(parents, nodes, coefficients),),
            scheduler={},
            loop=LOOP.format(
                last=parents - 1,
                nodes=("one Gaussian", "two Gaussians", "three Gaussians")[nodes - 1],
                splats=parents * nodes,
                last_coefficient=coefficients - 1,
            ),
            constants={
                "num_parents": parents,
                "gaussians_per_parent": nodes,
                "sh_degree": scene.config.sh_degree,
                "circle": pipeline.config.circle,
            },
            configs={
                "pipeline": {key: pipeline.config[key] for key in SETTINGS},
                "scene": {"num_parents": parents},
            },
        )

    def modules(self, pipeline: LPGSPipeline) -> dict[str, nn.Module]:
        """As `Export.modules`."""
        return {self.network: Trees(pipeline.scene).eval()}

    def assemble(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> LPGSPipeline:
        """As `Export.assemble`."""
        scene = SceneStandIn(runners[self.network], contract.configs["scene"])
        return LPGSPipeline(scene, **contract.configs["pipeline"])

    @torch.no_grad()
    def rehearse(self, pipeline: LPGSPipeline, samples: range) -> np.ndarray:
        """All numbers of a tree's splats, one row [values] a tree; trees from all over the scene."""
        parents = pipeline.scene.config["num_parents"]
        stride = next(step for step in range(math.ceil(GOLDEN * parents), 0, -1) if math.gcd(step, parents) == 1)
        trees = torch.tensor([stride * sample % parents for sample in samples])
        splats = pipeline.scene.expand(trees=trees)
        values = [value.unflatten(0, (-1, len(trees))) for value in splats.tensors().values()]
        return torch.cat([value.transpose(0, 1).flatten(1) for value in values], 1).numpy()


EXPORTS = {LPGSPipeline: SceneExport()}


def _trees(parents: int, nodes: int, coefficients: int) -> ComponentContract:
    def spec(name: str, shape: tuple[int, ...], meaning: str) -> TensorSpec:
        return TensorSpec(name, ("batch", nodes, *shape), "float32", None, None, meaning)

    return ComponentContract(
        name="trees",
        inputs=(TensorSpec("index", ("batch",), "int32", 0, parents - 1, "numbers of parents"),),
        outputs=(
            spec("means", (3,), "centers in scene units, the parent's first"),
            spec("log_scales", (3,), "natural logarithms of the standard deviations along a Gaussian's own axes"),
            spec("quaternions", (4,), "rotations w x y z from a Gaussian's axes to the scene's, of any length but 0"),
            spec("opacity_logits", (), "opacities before the sigmoid"),
            spec("sh", (coefficients, 3), "spherical harmonics of red, green and blue, degree 0 first"),
        ),
        purpose="holds the scene: says which Gaussians there are, once a scene",
    )
