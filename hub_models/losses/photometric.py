"""Distances between pictures, unreduced where a mean would hide what a caller wants to weigh."""

import torch
from jaxtyping import Float
from torch import Tensor

Pictures = Float[Tensor, "batch channels height width"]


def edge_distance(prediction: Pictures, target: Pictures) -> Float[Tensor, " batch"]:
    """Mean absolute difference of the finite differences along x and y: what a blurred outline costs, [B]."""
    error = prediction - target
    along_x = (error[..., :, 1:] - error[..., :, :-1]).abs().mean(dim=(1, 2, 3))
    along_y = (error[..., 1:, :] - error[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    return along_x + along_y


def psnr(prediction: Pictures, target: Pictures, peak: float = 2.0) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio in dB, [B]; `peak` is the range of values, 2 for pictures in [-1, 1]."""
    mse = (prediction - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(peak**2 / mse)
