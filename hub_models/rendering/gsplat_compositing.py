"""Compositing by gsplat's CUDA kernels (nerfstudio-project/gsplat, Apache-2.0), where that library is installed."""

import torch
from jaxtyping import Float
from torch import Tensor

from .gaussian_projection import Ellipses

TILE = 16  # pixels a side


def composite_gsplat(ellipses: Ellipses, width: int, height: int) -> Float[Tensor, "5 height width"]:
    """What `gaussian_compositing.composite` gives."""
    from gsplat import isect_offset_encode, isect_tiles, rasterize_to_pixels

    columns, rows = -(-width // TILE), -(-height // TILE)
    radii = ellipses.extents.ceil().int()[None]
    with torch.no_grad():
        _, keys, members = isect_tiles(ellipses.means[None], radii, ellipses.depths[None], TILE, columns, rows)
        starts = isect_offset_encode(keys, 1, columns, rows)
    channels = torch.cat([ellipses.colors, ellipses.depths[:, None]], 1)
    drawn, alphas = rasterize_to_pixels(
        ellipses.means[None].contiguous(),
        ellipses.conics[None].contiguous(),
        channels[None].contiguous(),
        ellipses.opacities[None].contiguous(),
        width,
        height,
        TILE,
        starts,
        members,
    )
    return torch.cat([drawn, alphas], -1)[0].permute(2, 0, 1)  # from [1, height, width, 5]
