"""A light field fitted to whole pictures, each seen as the rays of its blocks of pixels (arXiv 2212.08057)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, Self, TypeVar

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from ...hub_models.losses.photometric import psnr
from ...hub_models.rendering.pixel_rays import pixel_rays
from ..inputs import PosedImages, require
from ..scene_cameras import Cameras
from .loop import Batches

GRID = "grid"
"""Parameters of whose path a part is this word learn at a rate of their own, and do not decay."""
PREVIEWS = 4
Seen = TypeVar("Seen", PosedImages, Cameras)


class StepViews(NamedTuple):
    """What a step looks at: a sub-scene and some of its views."""

    sub_scene: int
    views: Int[Tensor, " batch"]


@dataclass(frozen=True)
class RayViews:
    """Pictures and, of each block of `scale` x `scale` pixels, the ray through its middle.

    Attributes:
        images: in [0, 1], or in bytes where there are very many [views, 3, scale * height, scale * width].
        origins, directions: in scene units [views, 3, height, width].
        groups: which views each sub-scene learns from.
    """

    images: Float[Tensor, "views 3 tall wide"] | UInt8[Tensor, "views 3 tall wide"]
    origins: Float[Tensor, "views 3 height width"]
    directions: Float[Tensor, "views 3 height width"]
    groups: tuple[Int[Tensor, " group"], ...]

    @classmethod
    def of_pictures(
        cls, posed: PosedImages, scale: int, weights: Float[Tensor, "views sub_scenes"] | None = None
    ) -> Self:
        """Views of photographs, without the rows and columns at their edges that `whole_blocks` leaves out.

        Args:
            posed: pictures with cameras.
            scale: pixels along a side of a block.
            weights: above 0 where a sub-scene takes part in a view, of which each has one at least; all views are of
                one if None.

        Raises:
            ValueError: for pictures smaller than a block.
        """
        return cls.of_cameras(posed.images, Cameras.of_pictures(posed), scale, weights)

    @classmethod
    def of_cameras(
        cls,
        images: Float[Tensor, "views 3 height width"] | UInt8[Tensor, "views 3 height width"],
        cameras: Cameras,
        scale: int,
        weights: Float[Tensor, "views sub_scenes"] | None = None,
    ) -> Self:
        """As `of_pictures`, of pictures that may be in bytes."""
        rows, columns = _filling(cameras, scale)
        cameras = whole_blocks(cameras, scale)
        rays = pixel_rays(cameras.viewmats, cameras.Ks, cameras.height, cameras.width, scale)
        origins, directions = (value.movedim(-1, 1).float().contiguous() for value in rays)
        weights = torch.ones(len(cameras), 1) if weights is None else weights
        groups = tuple(taking_part.nonzero()[:, 0].cpu() for taking_part in (weights > 0).unbind(1))
        return cls(images[:, :, rows, columns].contiguous(), origins, directions, groups)

    def __len__(self) -> int:
        return len(self.images)

    def truth(self, views: Int[Tensor, " batch"]) -> Float[Tensor, "batch 3 tall wide"]:
        """Pictures of some views, in [0, 1]."""
        images = self.images[views]
        return images if images.is_floating_point() else images / 255

    def to(self, device: torch.device | str) -> Self:
        """The same views on another device."""
        names = ("images", "origins", "directions")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def batches(self, seed: int, size: int) -> Batches:
        """`size` views a step, of each sub-scene in turn, each as often, in an order that depends on `seed` alone."""

        def from_step(start: int, rank: int, world: int) -> Iterator[StepViews]:
            for step in count(start):
                turn, sub_scene = divmod(step, len(self.groups))
                views = self.groups[sub_scene]
                places = _places(len(views), (turn * world + rank) * size, size, seed * len(self.groups) + sub_scene)
                yield StepViews(sub_scene, views[places])

        return from_step


def _places(total: int, first: int, size: int, seed: int) -> Int[Tensor, " size"]:
    """Numbers `first` to `first + size` of an endless row of permutations of `total`, each made of (seed, number)."""
    epochs, places = torch.arange(first, first + size).div(total, rounding_mode="floor"), []
    for epoch in epochs.unique().tolist():
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        places.append(order[torch.arange(first, first + size)[epochs == epoch] % total])
    return torch.cat(places)


def whole_blocks(seen: Seen, scale: int) -> Seen:
    """Pictures, or cameras, without the rows and columns that do not fill a block, half of them at each side.

    Raises:
        ValueError: for pictures smaller than a block.
    """
    rows, columns = _filling(seen, scale)
    Ks = seen.Ks.clone()
    Ks[:, :2, 2] -= Ks.new_tensor([columns.start, rows.start])
    if isinstance(seen, Cameras):
        return replace(seen, Ks=Ks, width=columns.stop - columns.start, height=rows.stop - rows.start)
    cut = {name: getattr(seen, name) for name in ("depths", "masks")}
    cut = {name: value if value is None else value[:, rows, columns] for name, value in cut.items()}
    return replace(seen, images=seen.images[:, :, rows, columns].contiguous(), Ks=Ks, **cut)


def _filling(seen: PosedImages | Cameras, scale: int) -> tuple[slice, slice]:
    """Rows and columns that fill blocks."""
    require(min(seen.height, seen.width) >= scale, "pictures", f"{seen.height} x {seen.width}",
            f"at least {scale} x {scale} pixels")  # fmt: skip
    top, left = seen.height % scale // 2, seen.width % scale // 2
    rows, columns = seen.height // scale * scale, seen.width // scale * scale
    return slice(top, top + rows), slice(left, left + columns)


class LightFieldFit:
    """Mean squared error of whole pictures, with AdamW, as MobileR2L learns.

    Args:
        field: `field(origins, directions, sub_scene)` is pictures in [0, 1].
        views: what it shall show, on its device.
        learning_rate: of all but grids.
        grid_rate: of parameters under the name `GRID`.
    """

    def __init__(self, field: nn.Module, views: RayViews, learning_rate: float = 5e-4, grid_rate: float = 5e-3) -> None:
        self.parts = {"field": field}
        self.views = views
        self.learning_rate, self.grid_rate = learning_rate, grid_rate

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        """As `Objective.optimizer`."""
        named = list(self.parts[part].named_parameters())
        grids = [value for name, value in named if GRID in name.split(".")]
        others = [value for name, value in named if GRID not in name.split(".")]
        groups = [
            {"params": others, "lr": self.learning_rate},
            {"params": grids, "lr": self.grid_rate, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]])

    def loss(self, part: str, batch: StepViews, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """As `Objective.loss`."""
        views, seen = batch.views, self.views
        shown = self.parts[part](seen.origins[views], seen.directions[views], batch.sub_scene)
        truth = seen.truth(views)
        return (shown - truth).square().mean(), {"psnr": float(psnr(shown.detach(), truth, peak=1.0).mean())}

    def preview(self, modules: dict[str, nn.Module]) -> Image.Image:
        """What is learned from, above what the field shows there: one view of each of the first sub-scenes."""
        seen, pairs = self.views, []
        for sub_scene, views in list(enumerate(seen.groups))[:PREVIEWS]:
            first = views[:1].to(seen.images.device)
            shown = modules["field"](seen.origins[first], seen.directions[first], sub_scene)
            truth = seen.truth(first)
            pairs.append(torch.cat((truth, shown.to(truth)), 2))
        pixels = (torch.cat(pairs, 3)[0].clamp(0, 1) * 255).round().byte()
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
