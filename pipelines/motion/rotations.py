"""Rotations of human motion: unit quaternions w x y z, and what other formats write in their place.

All functions take any number of leading dimensions and are differentiable. Matrices of quaternions and back are in
`hub_models/rendering/quaternions.py`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...hub_models.rendering.quaternions import quaternions_of, rotation_matrices

OPPOSITE = 1e-6
"""Length of the sum of two unit directions below which they count as opposite, in single precision."""


def product(after: Float[Tensor, "*batch 4"], before: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The rotation `before`, then the rotation `after`: Hamilton's product of unit quaternions."""
    w, xyz = after[..., :1], after[..., 1:]
    other_w, other_xyz = before[..., :1], before[..., 1:]
    scalar = w * other_w - (xyz * other_xyz).sum(-1, keepdim=True)
    vector = w * other_xyz + other_w * xyz + _cross(xyz, other_xyz)
    return torch.cat([scalar, vector], -1)


def inverse(quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The rotations backwards: conjugates of unit quaternions."""
    return torch.cat([quaternions[..., :1], -quaternions[..., 1:]], -1)


def rotated(vectors: Float[Tensor, "*batch 3"], quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Vectors turned by unit quaternions."""
    w, xyz = quaternions[..., :1], quaternions[..., 1:]
    crossed = 2 * _cross(xyz, vectors)
    return vectors + w * crossed + _cross(xyz, crossed)


def about_vertical(angles: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    """Turns about the vertical axis Y by angles in radians; a quarter turn takes +Z to +X."""
    zero = torch.zeros_like(angles)
    return torch.stack([(angles / 2).cos(), zero, (angles / 2).sin(), zero], -1)


def turned_about_vertical(
    vectors: Float[Tensor, "*batch 3"], angles: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3"]:
    """Vectors turned about the vertical axis Y by angles in radians, as `about_vertical` turns them."""
    x, y, z = vectors.unbind(-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack(torch.broadcast_tensors(cosine * x + sine * z, y, cosine * z - sine * x), -1)


def shortest_arc(start: Float[Tensor, "*batch 3"], end: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """The smallest rotations that turn directions into others.

    Args:
        start: directions of any length but 0.
        end: directions of any length but 0. Where one is opposite to its start, the rotation is a half turn about
            some axis square to both.

    Returns:
        Unit quaternions with w at least 0.
    """
    start, end = torch.broadcast_tensors(F.normalize(start, dim=-1), F.normalize(end, dim=-1))
    total = start + end
    # 1 + start . end and start x end, written with the sum so that they stay exact where it is all but 0.
    arcs = torch.cat([total.square().sum(-1, keepdim=True) / 2, _cross(start, total)], -1)
    axis = F.one_hot(start.abs().argmin(-1), 3).to(start)
    half_turns = torch.cat([torch.zeros_like(start[..., :1]), _cross(start, axis)], -1)
    opposite = total.detach().norm(dim=-1, keepdim=True) < OPPOSITE
    return F.normalize(torch.where(opposite, half_turns, arcs), dim=-1)


def from_axis_angles(axis_angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions of rotations about an axis, whose length is the angle in radians (SMPL's form)."""
    squares = axis_angles.square().sum(-1, keepdim=True)
    # The root of a zero has no gradient, so that the angle is kept off 0, where sin(angle / 2) / angle is 1/2.
    angles = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
    return torch.cat([(angles / 2).cos(), axis_angles * (angles / 2).sin() / angles], -1)


def axis_angles_of(quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Axes of unit quaternions, their length the angle in radians, from 0 to pi."""
    quaternions = torch.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    w, xyz = quaternions[..., :1], quaternions[..., 1:]
    sines = xyz.square().sum(-1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny).sqrt()
    return xyz * 2 * torch.atan2(sines, w) / sines


def six_numbers_of(quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 6"]:
    """The first two columns of the rotations' matrices, one after the other (Zhou et al., arXiv 1812.07035)."""
    return rotation_matrices(quaternions)[..., :2].mT.flatten(-2)


def from_six_numbers(six_numbers: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions, w at least 0, of two columns that a network may have left askew and of any length.

    The first column keeps its direction; the second is made square to it (arXiv 1812.07035, equation 15).
    """
    first, second = six_numbers.unflatten(-1, (2, 3)).unbind(-2)
    first = F.normalize(first, dim=-1)
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    matrices = torch.stack([first, second, _cross(first, second)], -1)
    return quaternions_of(matrices.reshape(-1, 3, 3)).view(*six_numbers.shape[:-1], 4)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.cross(*torch.broadcast_tensors(first, second))
