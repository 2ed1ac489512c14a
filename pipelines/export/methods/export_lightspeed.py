"""How LightSpeed is exported: a camera in, its picture out, with the rays and the grids' look-up inside."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....hub_models.field_lightspeed import SubScene
from ....hub_models.rendering.cameras import camera_centres
from ....hub_models.rendering.view_clusters import BORDER, ViewClusters
from ...inputs import check_side, require
from ...pipeline_lightspeed import LightSpeedPipeline
from ...scene_cameras import Cameras
from ...view_ranges import GridViews, OrbitViews
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..gathered_grid import GatheredGrid
from ..stand_ins import Runner, StandIn
from . import Export

GOLDEN, PLASTIC = (math.sqrt(5) - 1) / 2, 0.7548776662466927
"""Fractions of whose multiples a rehearsal's cameras stand at: places evenly spread, however many there are."""
SAMPLES, TRIES = 1024, 256
"""Numbers that a rehearsal's inputs may have, and cameras that are tried for each, to find one for every sub-scene."""

LOOP = """\
viewmat = world to camera, 4x4 row by row, in axes x right, y down, z forward
K = [fx 0 cx; 0 fy cy; 0 0 1] in pixels of a picture of {width} x {height}, whose first pixel is centred at (0.5, 0.5)
{picture}
A ray stands for a block of {scale} x {scale} pixels of that size, so fx and fy must be about those of `views`.

{views}"""

BLENDED = """\
camera = -transpose(R) * t, with viewmat = [R t; 0 1]
i, j = the nearest and the second nearest of `centres` to the camera
apart = |centres[i] - centres[j]|
from_border = (|camera - centres[j]|^2 - |camera - centres[i]|^2) / (2 * apart)
weight = min(1, 0.5 + 0.5 * from_border / (border * apart / 2))
pictures = {calls}
image = weight * pictures[i] + (1 - weight) * pictures[j], of which the second counts where weight < 1 alone
"""

VIEWS = {
    GridViews: """\
Cameras stand at (x, y, 0), x up to half_width and y up to half_height to both sides, of the frame of views.viewmat:
viewmat = views.viewmat, from whose last column x is subtracted above and y below
cx = width / 2 + fx * x / focus, cy = height / 2 + fy * y / focus, or the middle where focus is null
""",
    OrbitViews: """\
Cameras stand at `distance` from `center`, `low` to `high` degrees above it along the axis `up`, and look there:
rows of R = x, y, z with z towards center, x = cross(z, up) of length 1, y = cross(z, x)
cx = width / 2, cy = height / 2
""",
}


class SeenSubScene(nn.Module):
    """A sub-scene as seen by cameras.

    Rays are those of `pixel_rays` and the slab, in sums of products, which every runtime rounds alike: products of
    matrices differ in their last bits, of which the finest grid and the decoder make a hundred times as much.

    Args:
        sub_scene: whose slab and decoder are shared.
        height, width: of a picture in pixels, multiples of the decoder's scale.
    """

    def __init__(self, sub_scene: SubScene, height: int, width: int) -> None:
        super().__init__()
        self.slab = sub_scene.slab
        self.grid = GatheredGrid(sub_scene.grid)
        self.decoder = sub_scene.decoder
        self.height, self.width = height, width

    def forward(
        self, viewmat: Float[Tensor, "batch 4 4"], K: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        features = self.grid(self.coordinates(viewmat, K).movedim(-1, 1))
        return self.decoder(features.to(self.decoder.head[0].bias.dtype))

    def coordinates(
        self, viewmat: Float[Tensor, "batch 4 4"], K: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch rows columns 4"]:
        """x, y, u, v of the rays through the middles of blocks of pixels."""
        rotation, translation, slab = viewmat[:, :3, :3], viewmat[:, :3, 3:], self.slab.slab()
        place = -(rotation * translation).sum(1)[:, None, None]  # [batch, 1, 1, 3]
        x, y = self._slopes(K)
        axes = rotation[:, :, None, None]  # of the camera in the world [batch, 3, 1, 1, 3]
        directions = x * axes[:, 0] + y * axes[:, 1] + axes[:, 2]  # [batch, rows, columns, 3]
        linear, shift = slab.frame[:, :3], slab.frame[:, 3]
        start, step = ((linear * vectors[..., None, :]).sum(-1) for vectors in (place, directions))  # [..., 4]
        return slab.hits(start + shift, step)

    def _slopes(self, K: Float[Tensor, "batch 3 3"]) -> tuple[Tensor, Tensor]:
        """x and y of rays where z of the camera is 1, [batch, rows, columns, 1] and [batch, rows, 1, 1]."""
        scale = self.decoder.scale
        u = (torch.arange(self.width // scale)[:, None] + 0.5) * scale
        v = (torch.arange(self.height // scale)[:, None, None] + 0.5) * scale
        fx, skew, cx, fy, cy = (K[:, i, j, None, None, None] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
        y = (v - cy) / fy
        return (u - cx - skew * y) / fx, y


class FieldStandIn(StandIn):
    """In place of a `LightSpeedField`, for pictures of one size.

    Args:
        runners: of the sub-scenes.
        config: with `centres` of their cameras, `scale`, `height` and `width`.
    """

    def __init__(self, runners: Sequence[Runner], config: dict[str, Any]) -> None:
        super().__init__(runners[0], config)
        self.runners = tuple(runners)

    @property
    def scale(self) -> int:
        return self.config["scale"]

    @property
    def clusters(self) -> ViewClusters:
        """As `LightSpeedField.clusters`."""
        return ViewClusters(torch.tensor(self.config["centres"]))

    def show(
        self, viewmats: Float[Tensor, "batch 4 4"], Ks: Float[Tensor, "batch 3 3"], height: int, width: int
    ) -> Float[Tensor, "batch 3 height width"]:
        """As `LightSpeedField.show`.

        Raises:
            ValueError: for pictures of another size.
        """
        own = self.config["height"], self.config["width"]
        require((height, width) == own, "height and width", [height, width], f"{list(own)}, the size of this export")
        return self.clusters.blended(
            camera_centres(viewmats), lambda sub_scene, mine: self.runners[sub_scene](viewmats[mine], Ks[mine])[0]
        )


class FieldExport(Export):
    """A network for each sub-scene: `field`, or `field_0`, `field_1` and so on where there are several."""

    network = "field"
    command = "render THIS_FOLDER --output frames"
    calibrated = False
    """Of a field's pictures 8 bits of weights keep 56 dB, and 8 bits of what layers pass on 32 dB."""

    def contract(self, pipeline: LightSpeedPipeline) -> PipelineContract:
        """As `Export.contract`, for pictures of the size of the pipeline's `views`."""
        field, views = pipeline.field, pipeline.view_range
        require(views is not None, "views", None, "given for an export, which has the size of their pictures")
        for side in ("height", "width"):
            check_side(f"{side} of views", getattr(views, side), field.scale)
        names, sizes = _names(pipeline), {"height": views.height, "width": views.width, "scale": field.scale}
        centres = field.clusters.centres.tolist()
        blending = {"centres": centres, "border": BORDER} if len(names) > 1 else {}
        return PipelineContract(
            slug="lightspeed",
            components=tuple(_component(name, views) for name in names),
            scheduler={},
            loop=LOOP.format(picture=_picture(names), views=VIEWS[type(views)], **sizes),
            constants={**sizes, "views": views.to_config(), **blending},
            configs={"pipeline": {"views": views.to_config()}, "field": {**sizes, "centres": centres}},
        )

    def modules(self, pipeline: LightSpeedPipeline) -> dict[str, nn.Module]:
        """As `Export.modules`."""
        views, sub_scenes = pipeline.view_range, pipeline.field.sub_scenes
        return {
            name: SeenSubScene(sub_scene, views.height, views.width).eval()
            for name, sub_scene in zip(_names(pipeline), sub_scenes, strict=True)
        }

    def assemble(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> LightSpeedPipeline:
        """As `Export.assemble`."""
        ordered = [runners[component.name] for component in contract.components]
        return LightSpeedPipeline(FieldStandIn(ordered, contract.configs["field"]), **contract.configs["pipeline"])

    def rehearse(self, pipeline: LightSpeedPipeline, samples: range) -> np.ndarray:
        """Pictures of every sub-scene, from a camera that it serves [n, sub_scenes, height, width, 3]."""
        views, clusters = pipeline.view_range, pipeline.field.clusters
        cameras = [camera for sample in samples for camera in _one_each(views, clusters, sample)]
        shown = [pipeline(camera, output_type="np").images for camera in cameras]
        return np.stack(shown).reshape(len(samples), len(clusters), views.height, views.width, 3)


EXPORTS = {LightSpeedPipeline: FieldExport()}


def _one_each(views: GridViews | OrbitViews, clusters: ViewClusters, sample: int) -> list[Cameras]:
    """For each cluster a camera within `views` that it serves, others for each sample."""
    found: dict[int, Cameras] = {}
    for camera in islice(_spread(views, sample), TRIES):
        found.setdefault(int(clusters.route(camera_centres(camera.viewmats))), camera)
        if len(found) == len(clusters):
            return [found[cluster] for cluster in range(len(clusters))]
    idle = next(cluster for cluster in range(len(clusters)) if cluster not in found)
    raise ValueError(f"views must be such that every sub-scene serves a part of them, but {idle} serves none.")


def _spread(views: GridViews | OrbitViews, sample: int) -> Iterator[Cameras]:
    for place in count(sample, SAMPLES):
        right, up = (2 * math.modf(share * (place + 0.5))[0] - 1 for share in (GOLDEN, PLASTIC))
        yield views.camera(right, up)


def _names(pipeline: LightSpeedPipeline) -> list[str]:
    several = len(pipeline.field.sub_scenes)
    return ["field"] if several == 1 else [f"field_{index}" for index in range(several)]


def _picture(names: Sequence[str]) -> str:
    if len(names) == 1:
        return "image = field(viewmat, K)"
    return BLENDED.format(calls=", ".join(f"{name}(viewmat, K)" for name in names))


def _component(name: str, views: GridViews | OrbitViews) -> ComponentContract:
    return ComponentContract(
        name=name,
        inputs=(
            TensorSpec("viewmat", ("batch", 4, 4), "float32", None, None, "world to camera, OpenCV axes"),
            TensorSpec("K", ("batch", 3, 3), "float32", None, None, "intrinsics in pixels"),
        ),
        outputs=(TensorSpec("image", ("batch", 3, views.height, views.width), "float32", 0, 1, "red, green and blue"),),
        purpose="shows what a camera sees, once a picture",
    )
