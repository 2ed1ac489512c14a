"""Rotations as quaternions w x y z."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rotation_matrices(quaternions: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotations of quaternions w x y z of any length but 0."""
    w, x, y, z = F.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def quaternions_of(rotations: Float[Tensor, "batch 3 3"]) -> Float[Tensor, "batch 4"]:
    """Unit quaternions of rotations, with w at least 0."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotations.unbind(-2))
    # Row k is the quaternion times four times its k-th component; the row of the largest component is the exact one.
    products = [
        *(1 + xx + yy + zz, zy - yz, xz - zx, yx - xy),
        *(zy - yz, 1 + xx - yy - zz, yx + xy, xz + zx),
        *(xz - zx, yx + xy, 1 - xx + yy - zz, zy + yz),
        *(yx - xy, xz + zx, zy + yz, 1 - xx - yy + zz),
    ]
    products = torch.stack(products, -1).unflatten(-1, (4, 4))
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    quaternions = F.normalize(products[torch.arange(len(products)), largest], dim=-1)
    return torch.where(quaternions[:, :1] < 0, -quaternions, quaternions)
