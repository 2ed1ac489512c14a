"""Views of a scene that splats are fitted to, and how far a rendering is from one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ...hub_models.losses.photometric import ssim
from ...hub_models.rendering.gaussian_rasterizer import Rendering, rasterize_gaussians
from ...hub_models.rendering.gaussians import Gaussians
from ..inputs import PosedImages
from ..scene_cameras import NEAR, Cameras
from .loop import Batches

SSIM_WEIGHT = 0.2  # Kerbl et al. 2023, equation 7


class StepView(NamedTuple):
    """Which view a step looks at; steps count from 0."""

    step: int
    view: int


@dataclass(frozen=True)
class SplatViews:
    """What a fit looks at.

    Attributes:
        rgb: [views, 3, height, width], over black where there is alpha.
        viewmats, Ks: OpenCV cameras, as in `PosedImages`.
        alpha: how much of each pixel the scene covers [views, height, width]; None where the pictures are all there is.
        near: smallest depth that is drawn, in scene units.
    """

    rgb: Float[Tensor, "views 3 height width"]
    viewmats: Float[Tensor, "views 4 4"]
    Ks: Float[Tensor, "views 3 3"]
    alpha: Float[Tensor, "views height width"] | None = None
    near: float = NEAR

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[3], self.rgb.shape[2]

    @classmethod
    def of_pictures(cls, posed: PosedImages) -> Self:
        """Views of photographs."""
        return cls(posed.images, posed.viewmats, posed.Ks)

    @classmethod
    @torch.no_grad()
    def of_splats(cls, source: Gaussians, cameras: Cameras) -> Self:
        """Views of splats that exist already."""
        drawn = [cameras.draw(source, camera) for camera in range(len(cameras))]
        rgb, alpha = torch.cat([one.rgb for one in drawn]), torch.cat([one.alpha for one in drawn])
        return cls(rgb, cameras.viewmats, cameras.Ks, alpha, cameras.near)

    def to(self, device: torch.device | str) -> Self:
        """The same views on another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})

    def draw(self, gaussians: Gaussians, view: int, offsets: Tensor | None = None) -> Rendering:
        """`gaussians` from the camera of a view, over black."""
        which = slice(view, view + 1)
        cameras = self.viewmats[which], self.Ks[which]
        return rasterize_gaussians(gaussians, *cameras, *self.size, near=self.near, offsets=offsets)

    def distance(self, drawn: Rendering, view: int, generator: torch.Generator) -> Tensor:
        """0.8 L1 + 0.2 (1 - SSIM), the loss of 3DGS; where there is alpha, both over one random colour.

        That colour shows a fit what must stay empty.
        """
        picture, target = drawn.rgb, self.rgb[view, None]
        if self.alpha is not None:
            behind = torch.rand(3, generator=generator).to(target.device)[:, None, None]
            picture = picture + (1 - drawn.alpha[:, None]) * behind
            target = target + (1 - self.alpha[view, None, None]) * behind
        likeness = ssim(picture, target).mean()
        return (1 - SSIM_WEIGHT) * (picture - target).abs().mean() + SSIM_WEIGHT * (1 - likeness)

    def batches(self, seed: int) -> Batches:
        """One view a step, without end, each as often as the others, in an order that depends on `seed` alone."""

        def from_step(start: int, rank: int, world: int) -> Iterator[StepView]:
            for step in count(start):
                epoch, place = divmod(step, len(self))
                if place == 0 or step == start:
                    order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
                yield StepView(step, int(order[place]))

        return from_step
