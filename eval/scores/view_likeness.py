"""How far pictures of a scene are from those that they should be: PSNR and SSIM over the pixels that count."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Bool, Float
from torch import Tensor

from ...hub_models.losses.photometric import SSIM_WINDOW, ssim
from ...hub_models.rendering.gaussians import Gaussians
from ...pipelines.fitting.splat_views import SplatViews
from ...pipelines.inputs import PosedImages
from ...pipelines.scene_cameras import Cameras
from ...pipelines.splat_compression import COUNTED_ALPHA

LEAST_ERROR = 1e-12  # where pictures are equal, 120 dB

Comparison = tuple[Float[Tensor, "3 height width"], Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]
"""A picture, what it should be, and which pixels count."""


class Likeness(NamedTuple):
    """How alike pictures are: PSNR in dB, at most 120, of all pixels of all pictures together; and mean SSIM."""

    psnr: float
    ssim: float


@torch.no_grad()
def likeness(comparisons: Iterable[Comparison]) -> Likeness:
    """PSNR and SSIM of pictures, clamped to [0, 1].

    A value of SSIM counts where the pixel in the middle of its window does.

    Args:
        comparisons: of pictures with at least 11 pixels a side.

    Raises:
        ValueError: when no pixel counts.
    """
    squares, values, structure, windows = 0.0, 0, 0.0, 0
    edge = SSIM_WINDOW // 2
    for picture, truth, counted in comparisons:
        one, other = picture.clamp(0, 1), truth.clamp(0, 1)
        squares += float((one - other)[:, counted].double().square().sum())
        values += 3 * int(counted.sum())
        inner = counted[edge:-edge, edge:-edge]
        structure += float(ssim(one[None], other[None])[0][:, inner].double().sum())
        windows += 3 * int(inner.sum())
    if values == 0 or windows == 0:
        raise ValueError("pictures must have a pixel that counts, but no camera sees the scene.")
    return Likeness(-10 * math.log10(max(squares / values, LEAST_ERROR)), structure / windows)


def splat_likeness(gaussians: Gaussians, views: Sequence[SplatViews]) -> Likeness:
    """How well splats show what views show.

    Where views know how much of a pixel their scene covers, those count that it covers by more than 0.01.
    """
    return likeness(_comparisons(gaussians, views))


def shown_likeness(pipeline: DiffusionPipeline, posed: PosedImages) -> Likeness:
    """How like pictures is what a pipeline of one scene shows from their cameras."""
    height, width = posed.images.shape[2:]
    cameras = Cameras(posed.viewmats, posed.Ks, width, height)
    return likeness_of(pipeline(cameras, output_type="pt").images, posed.images)


def likeness_of(
    pictures: Iterable[Float[Tensor, "3 height width"]], truths: Float[Tensor, "views 3 height width"]
) -> Likeness:
    """How like pictures are what they should be, where all their pixels count."""
    everywhere = torch.ones(truths.shape[2:], dtype=torch.bool)
    return likeness((picture, truth, everywhere) for picture, truth in zip(pictures, truths, strict=True))


@torch.no_grad()
def _comparisons(gaussians: Gaussians, views: Sequence[SplatViews]) -> Iterator[Comparison]:
    for circle in views:
        for view, truth in enumerate(circle.rgb):
            everywhere = torch.ones(truth.shape[1:], dtype=torch.bool)
            counted = everywhere if circle.alpha is None else circle.alpha[view] > COUNTED_ALPHA
            yield circle.draw(gaussians, view).rgb[0], truth, counted
