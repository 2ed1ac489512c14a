"""What a light field learns from beside real pictures: those that a teacher makes (arXiv 2212.08057)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...hub_models.radiance_lightspeed import LightSpeedRadianceField
from ..files import whole_file
from ..inputs import PosedImages
from ..scene_cameras import Cameras
from .progress import RunProgress
from .slabs_lightspeed import FEW, NEAR_SHARE, SceneHints, is_from_all_around
from .teacher_lightspeed import SceneBall, cameras_all_around, cameras_side_by_side

TOGETHER = 16
"""Pictures of a file."""


def scene_ball(posed: PosedImages, hints: SceneHints) -> SceneBall:
    """Where a teacher of pictures finds the details of their scene.

    Args:
        posed: pictures with cameras; depths of theirs tell how near the scene is.
        hints: which tell it too; else it is taken to be half as far as what cameras all around look at.

    Raises:
        ValueError: nothing tells it, and the cameras are not all around.
    """
    nearest = _nearest(posed, hints)
    if is_from_all_around(posed):
        return SceneBall.all_around(posed, nearest)
    if nearest is None:
        raise ValueError(
            "a teacher of pictures that are not from all around must be given points, depths or the scene's nearest "
            "depth, not none of them."
        )
    return SceneBall.forward_facing(posed, nearest)


def _nearest(posed: PosedImages, hints: SceneHints) -> float | None:
    if hints.nearest is not None:
        return hints.nearest
    if posed.depths is not None and posed.depths.any():
        return float(posed.depths[posed.depths > 0].min())
    depths = [depths for depths in map(hints.depths, posed.viewmats.cpu()) if len(depths)]
    return NEAR_SHARE * min(float(some.quantile(FEW)) for some in depths) if depths else None


@dataclass(frozen=True)
class PseudoViews:
    """Pictures that a teacher makes, and from where.

    Attributes:
        images: in bytes, for they are thousands [views, 3, height, width].
        cameras: of the pictures.
    """

    images: UInt8[Tensor, "views 3 height width"]
    cameras: Cameras

    @classmethod
    def read(cls, cameras: Cameras, folder: Path) -> Self:
        """What `render_pseudo_views` left, on the device of the cameras.

        Raises:
            ValueError: a file is damaged, naming it.
            FileNotFoundError: one is missing.
        """
        images = cameras.Ks.new_empty(len(cameras), 3, cameras.height, cameras.width, dtype=torch.uint8)
        for file, views in _files(cameras, folder):
            try:
                images[views] = load_file(file)["images"].to(images.device)
            except SafetensorError:
                raise ValueError(f"{file} is damaged: remove it, and its pictures are made again.") from None
        return cls(images, cameras)

    def beside(self, posed: PosedImages) -> tuple[UInt8[Tensor, "views 3 height width"], Cameras]:
        """All pictures and their cameras, the real ones first."""
        return torch.cat([in_bytes(posed.images), self.images]), real_and_pseudo(posed, self.cameras)


def pseudo_cameras(posed: PosedImages, views: int, seed: int = 0) -> Cameras:
    """Random cameras about those of pictures, all around or side by side, on their device.

    Args:
        posed: pictures with cameras.
        views: how many.
        seed: of the draw.
    """
    draw = cameras_all_around if is_from_all_around(posed) else cameras_side_by_side
    return draw(posed.to("cpu"), views, seed).to(posed.viewmats.device)


def real_and_pseudo(posed: PosedImages, cameras: Cameras) -> Cameras:
    """The cameras of pictures, and others of such pictures behind them."""
    real = Cameras.of_pictures(posed)
    both = {name: torch.cat([getattr(some, name) for some in (real, cameras)]) for name in ("viewmats", "Ks")}
    return replace(real, **both)


@torch.no_grad()
def render_pseudo_views(
    teacher: LightSpeedRadianceField,
    cameras: Cameras,
    folder: Path,
    rank: int = 0,
    world: int = 1,
    progress: bool = True,
) -> None:
    """Makes pictures in files, each whole or not there; those that are there already stay.

    Args:
        teacher: which makes them.
        cameras: from where; on the teacher's device.
        folder: of this teacher's pictures from these cameras and nothing else.
        rank, world: which of so many processes this is; each makes its share.
        progress: whether to show a bar.

    Raises:
        OSError: the folder cannot be written to.
    """
    mine = [(file, views) for file, views in _files(cameras, folder)[rank::world] if not file.exists()]
    with RunProgress(sum(len(views) for _, views in mine), 0, progress and bool(mine)) as shown:
        for file, views in mine:
            some = cameras.select(views)
            images, _ = teacher.render(some.viewmats, some.Ks, some.height, some.width)
            with whole_file(file) as draft:
                save_file({"images": in_bytes(images).cpu().contiguous()}, draft)
            shown.advance(shown.step + len(views), {})
            shown.mark()
            shown.line({})


def in_bytes(images: Float[Tensor, "*batch"]) -> UInt8[Tensor, "*batch"]:
    """Pictures in [0, 1] to the nearest of 256 steps."""
    return (images * 255).round().byte()


def _files(cameras: Cameras, folder: Path) -> list[tuple[Path, Tensor]]:
    """Files and the numbers of the views in them."""
    parts = torch.arange(len(cameras)).split(TOGETHER)
    return [(folder / f"views_{number:05}.safetensors", views) for number, views in enumerate(parts)]
