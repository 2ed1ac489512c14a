"""Unbounded space squeezed into a cube (mip-NeRF 360: Barron et al. 2022, arXiv 2111.12077, equation 10)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def contract(points: Float[Tensor, "*batch 3"], center: Sequence[float], radius: float) -> Float[Tensor, "*batch 3"]:
    """Where in the unit cube points of the scene lie; differentiable.

    A ball keeps its shape and becomes one of radius 1/4 about the cube's middle; all that is farther is squeezed, along
    the lines to the ball's centre, into the shell around it up to radius 1/2.

    Args:
        points: in scene units.
        center, radius: of the ball, in scene units.
    """
    local = (points - points.new_tensor(center)) / radius
    length = local.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    squeezed = torch.where(length > 1, (2 - 1 / length) / length, 1.0) * local
    return (squeezed + 2) / 4
