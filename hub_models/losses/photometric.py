"""Distances between pictures, unreduced where a mean would hide what a caller wants to weigh."""

import torch
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
