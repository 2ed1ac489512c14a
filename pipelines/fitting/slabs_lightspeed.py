"""Where LightSpeed's light slabs are: two planes for each group of cameras, by how those stand."""

import math
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ...hub_models.field_lightspeed import LightSpeedField
from ...hub_models.rendering.cameras import camera_centres, mean_camera
from ...hub_models.rendering.light_slab import LightSlab, ndc_frame
from ...hub_models.rendering.pixel_rays import pixel_rays
from ...hub_models.rendering.view_clusters import ViewClusters, planes_of_box
from ..inputs import Captures, PosedImages, check_choice, check_number, require
from ..scene_cameras import Cameras, Circle
from ..view_ranges import focus_of
from .light_field_fitting import whole_blocks

Slab = Literal["auto", "grid", "ndc", "box"]
PARALLEL = math.cos(math.radians(1.0))  # of axes of cameras of a grid
FLAT = 0.05  # of a grid's extent, that its cameras may stand off their plane
FACING = math.cos(math.radians(60.0))  # of axes of a forward-facing scene, from their mean
ALL_AROUND = 0.5  # of the cross product of cameras' mean axes, which is 1 for cameras that are turned alike
ONE_PLACE = 1e-6  # of cameras' distance from the origin, within which they all stand in one place
DEFAULT_FOCUS = 4.0  # extents of a grid, where neither views nor points tell a depth
FEW = 0.02  # of points, beyond a box or before a near plane
NEAR_SHARE = 0.75  # of the nearest depth, where NDC's near plane is, as LLFF's `bd_factor`
BOX_SHARE = 1 / 3  # of the cameras' distance, half a box's side where there are no points


@dataclass(frozen=True)
class SceneHints:
    """What else is known of a scene, in scene units.

    Attributes:
        points: on its surfaces, as structure from motion gives them.
        nearest: its smallest depth from any camera.

    Raises:
        ValueError: for points or a depth that are none.
    """

    points: Float[Tensor, "points 3"] | None = None
    nearest: float | None = None

    def __post_init__(self) -> None:
        if self.nearest is not None:
            check_number("nearest", self.nearest, 1e-9)
        if self.points is not None:
            is_tensor = isinstance(self.points, Tensor)
            found = list(self.points.shape) if is_tensor else type(self.points).__name__
            require(is_tensor and found[1:] == [3], "points", found, "a tensor [points, 3]")
            if not self.points.isfinite().all():
                raise ValueError("points must be finite, but hold NaN or infinity.")

    def box(self, posed: PosedImages | Cameras) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Opposite corners around nearly all points, or else around what all cameras look at."""
        if self.points is not None and len(self.points):
            low, high = self.points.quantile(FEW, 0), self.points.quantile(1 - FEW, 0)
            least = (high - low).max() * FEW  # a flat thing's box has a thickness
            return low - least, high + least
        circle = Circle.of_cameras(posed.viewmats)
        center, half = torch.tensor(circle.center), BOX_SHARE * circle.distance
        return center - half, center + half

    def depths(self, viewmat: Float[Tensor, "4 4"]) -> Float[Tensor, " depths"]:
        """Of the points before a camera; none where there are none."""
        if self.points is None:
            return torch.zeros(0)
        depths = self.points.to(viewmat) @ viewmat[2, :3] + viewmat[2, 3]
        return depths[depths > 0].float()

    @classmethod
    def of_captures(cls, captures: Captures) -> Self:
        """What a capture knows of its scene beside the pictures."""
        nearest = None if captures.bounds is None else float(captures.bounds.min())
        return cls(captures.positions if len(captures.positions) else None, nearest)


def place_slabs(
    field: LightSpeedField,
    posed: PosedImages | Cameras,
    slab: Slab = "auto",
    hints: SceneHints | None = None,
    seed: int = 0,
) -> Float[Tensor, "views sub_scenes"]:
    """Gives each sub-scene of a field its light slab, which just holds the rays of the pictures that it serves.

    - "grid": the plane on which the cameras stand, and the one on which their views agree, or the points' middle depth;
    - "ndc": normalised device coordinates of the mean camera, for forward-facing scenes;
    - "box": for each cluster of cameras two planes across its line of sight, before and behind the scene's box;
    - "auto": "box" for several sub-scenes; else "grid" for parallel cameras on a plane, "ndc" for cameras that look
      about the same way at a scene of known depth, "grid" for other parallel cameras, and "box" for all others.

    Args:
        field: whose slabs are set.
        posed: the pictures that it will learn from, of which only the cameras count.
        slab: which of these.
        hints: what else is known of the scene.
        seed: of the clustering.

    Returns:
        how much each sub-scene counts in each picture.

    Raises:
        ValueError: for one view only, or for cameras to which no such slab can be given, in one sentence.
    """
    check_choice("slab", slab, get_args(Slab))
    centres = camera_centres(posed.viewmats)
    require(len(posed) >= 2, "pictures", len(posed), "at least 2, from different places")
    if float(_extent(centres)) <= ONE_PLACE * float(centres.abs().max()):
        raise ValueError("pictures must be from different places, not all from one.")
    cameras = posed if isinstance(posed, Cameras) else Cameras.of_pictures(posed)
    posed, hints = whole_blocks(cameras, field.scale), hints or SceneHints()
    if slab == "auto":
        slab = _fitting_slab(field, posed, hints)
    if slab == "box":
        return _place_boxes(field, posed, hints, seed)
    require(field.config.num_sub_scenes == 1, "num_sub_scenes", field.config.num_sub_scenes, f"1 for slab {slab!r}")
    frame, near, far = (_grid_planes if slab == "grid" else _ndc_planes)(posed, hints)
    field.set_slab(0, _holding(frame, near, far, posed, field.scale), centres.mean(0))
    return torch.ones(len(posed), 1)


def _fitting_slab(field: LightSpeedField, posed: Cameras, hints: SceneHints) -> Slab:
    axes = posed.viewmats[:, 2, :3]
    mean = axes.mean(0)
    alike = float((axes @ mean / mean.norm().clamp_min(1e-9)).min())
    if field.config.num_sub_scenes > 1 or alike < FACING or is_from_all_around(posed):
        return "box"
    known = hints.nearest is not None or len(hints.depths(mean_camera(posed.viewmats))) > 0
    if alike > PARALLEL:
        places = camera_centres(posed.viewmats)
        is_flat = float(_extent(places @ mean / mean.norm())) <= FLAT * float(_extent(places))
        return "grid" if is_flat or not known else "ndc"
    return "ndc" if known else "box"


def is_from_all_around(posed: PosedImages | Cameras) -> bool:
    """Whether cameras look so many ways, or are turned so differently, that none stands for them all."""
    ahead, down = (posed.viewmats[:, row, :3].mean(0) for row in (2, 1))
    return float(torch.linalg.cross(ahead, down).norm()) < ALL_AROUND


def _extent(places: Tensor) -> Tensor:
    """The longest side of a box around places."""
    return (places.amax(0) - places.amin(0)).max()


def _grid_planes(posed: Cameras, hints: SceneHints) -> tuple[Tensor, float, float]:
    frame = mean_camera(posed.viewmats.double())
    focus, depths = focus_of(frame, posed), hints.depths(frame)
    if focus is None and len(depths):
        focus = float(depths.median())
    if focus is None:
        focus = DEFAULT_FOCUS * float(_extent(camera_centres(posed.viewmats)))
    return frame.float(), 0.0, focus


def _ndc_planes(posed: Cameras, hints: SceneHints) -> tuple[Tensor, float, float]:
    viewmat = mean_camera(posed.viewmats.double())
    nearest = hints.nearest
    if nearest is None:
        depths = hints.depths(viewmat)
        require(len(depths) > 0, "points", "none", "given for slab 'ndc', or the scene's nearest depth")
        nearest = float(depths.quantile(FEW))
    K = posed.Ks.double().mean(0)
    frame = ndc_frame(viewmat, K, posed.height, posed.width, near=NEAR_SHARE * nearest)
    return frame.float(), -1.0, 1.0


def _place_boxes(field: LightSpeedField, posed: Cameras, hints: SceneHints, seed: int) -> Tensor:
    count, centres = field.config.num_sub_scenes, camera_centres(posed.viewmats)
    clusters = ViewClusters.of_cameras(centres, count, seed)
    weights, low_high = clusters.weights(centres), hints.box(posed)
    for sub_scene, cluster_centre in enumerate(clusters.centres):
        mine = posed.select(weights[:, sub_scene] > 0)
        frame, near, far = planes_of_box(mine.viewmats, *low_high)
        field.set_slab(sub_scene, _holding(frame, near, far, mine, field.scale), cluster_centre)
    return weights


def _holding(frame: Tensor, near: float, far: float, posed: Cameras, scale: int) -> LightSlab:
    """The slab that just holds all rays of pictures, of which the four outermost of each suffice."""
    rays = pixel_rays(posed.viewmats, posed.Ks, posed.height, posed.width, scale)
    corners = [value[:, [0, 0, -1, -1], [0, -1, 0, -1]] for value in rays]  # [views, 4, 3]
    return LightSlab.of_rays(frame, near, far, *corners)
