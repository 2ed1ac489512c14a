"""Rays through the pixels of a picture, or through the blocks of pixels that one pixel of a smaller picture covers."""

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import camera_centres, picture_size


def pixel_rays(
    viewmats: Float[Tensor, "*batch 4 4"],
    Ks: Float[Tensor, "*batch 3 3"],
    height: int,
    width: int,
    scale: int = 1,
) -> tuple[Float[Tensor, "*batch rows columns 3"], Float[Tensor, "*batch rows columns 3"]]:
    """Rays in the world through the centres of `scale` x `scale` blocks of pixels, as (origins, directions).

    Directions have length 1 along the camera's z axis, so that `origin + t * direction` has z-depth t. Rows are
    `height / scale` and columns `width / scale`; what upsamples a picture of these rays by `scale` lands on the
    pixels of the whole one, without a shift of half a pixel.

    Args:
        viewmats: world to camera in OpenCV axes; leading dimensions broadcast with those of `Ks`.
        Ks: intrinsics in pixels of the whole picture, pixel centres at +0.5; may be skewed.
        height, width: of the whole picture in pixels, multiples of `scale`.
        scale: pixels along a side of a block, at least 1.

    Raises:
        ValueError: if the size or the scale is out of range.
    """
    height, width = picture_size((height, width))
    if int(scale) != scale or scale < 1:
        raise ValueError(f"scale must be a whole number of pixels, at least 1, not {scale}.")
    if height % scale or width % scale:
        raise ValueError(f"height and width must be multiples of {scale}, not {height} and {width}.")
    u = (torch.arange(width // scale, dtype=Ks.dtype, device=Ks.device) + 0.5) * scale
    v = (torch.arange(height // scale, dtype=Ks.dtype, device=Ks.device)[:, None] + 0.5) * scale
    in_camera = _in_camera(Ks[..., None, None, :, :], u, v)  # [*batch, rows, columns, 3]
    rotation = viewmats[..., None, :3, :3]  # [*batch, 1, 3, 3]: rows are the camera axes in the world
    directions = in_camera @ rotation
    return camera_centres(viewmats)[..., None, None, :].expand(directions.shape), directions


def rays_through(
    viewmats: Float[Tensor, "rays 4 4"], Ks: Float[Tensor, "rays 3 3"], places: Float[Tensor, "rays 2"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """Rays in the world as of `pixel_rays`, each through a place in the picture of a camera of its own.

    Args:
        viewmats, Ks: of each ray's camera.
        places: right and down in pixels from the picture's corner, pixel centres at +0.5.
    """
    in_camera = _in_camera(Ks, *places.unbind(-1))
    return camera_centres(viewmats), (in_camera[:, None] @ viewmats[:, :3, :3])[:, 0]


def _in_camera(Ks: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Directions in cameras' axes, with length 1 along z, through pixels (u, v)."""
    fx, skew, cx, fy, cy = (Ks[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    y = y.expand_as(x)
    return torch.stack((x, y, torch.ones_like(y)), -1)
