"""Distances between pictures, unreduced where a mean would hide what a caller wants to weigh."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pictures = Float[Tensor, "batch channels height width"]


def edge_distance(
    prediction: Pictures, target: Pictures, weight: Float[Tensor, "batch 1 height width"] | None = None
) -> Float[Tensor, " batch"]:
    """Mean absolute difference of the finite differences along x and y: what a blurred outline costs, [B].

    `weight` multiplies what each pixel adds; a difference counts for the pixel on its right or below.
    """
    error = prediction - target
    along_x = (error[..., :, 1:] - error[..., :, :-1]).abs()
    along_y = (error[..., 1:, :] - error[..., :-1, :]).abs()
    if weight is not None:
        along_x, along_y = along_x * weight[..., :, 1:], along_y * weight[..., 1:, :]
    return along_x.mean(dim=(1, 2, 3)) + along_y.mean(dim=(1, 2, 3))


def psnr(prediction: Pictures, target: Pictures, peak: float = 2.0) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio in dB, [B]; `peak` is the range of values, 2 for pictures in [-1, 1]."""
    mse = (prediction - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(peak**2 / mse)


SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels


def ssim(prediction: Pictures, target: Pictures, peak: float = 1.0) -> Pictures:
    """Structural similarity at each pixel whose window of 11 x 11 lies in the picture, 1 where both are alike.

    Args:
        prediction, target: pictures of at least 11 pixels a side.
        peak: the range of values.

    Returns:
        [batch, channels, height - 10, width - 10].

    Source: Wang et al. 2004, "Image quality assessment", equation 13 with K1 = 0.01 and K2 = 0.03.
    """
    offsets = torch.arange(SSIM_WINDOW, device=target.device, dtype=target.dtype) - SSIM_WINDOW // 2
    window = torch.softmax(-(offsets**2) / (2 * SSIM_SIGMA**2), 0)
    batch, channels, height, width = target.shape
    maps = torch.stack([prediction, target, prediction**2, target**2, prediction * target], 1)
    flat = maps.view(-1, 1, height, width)
    means = F.conv2d(F.conv2d(flat, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))
    x, y, xx, yy, xy = means.view(batch, 5, channels, *means.shape[2:]).unbind(1)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    likeness = (2 * x * y + c1) / (x * x + y * y + c1)
    structure = (2 * (xy - x * y) + c2) / (xx - x * x + yy - y * y + c2)
    return likeness * structure
