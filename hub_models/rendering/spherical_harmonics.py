"""Real spherical harmonics up to degree 3, in the order and with the signs of 3D Gaussian Splatting files."""

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3
SH_C0 = 0.28209479177387814  # 1 / (2 sqrt(pi))


def num_coefficients(degree: int) -> int:
    """Coefficients a colour channel of all degrees up to `degree`."""
    return (degree + 1) ** 2


def basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch coefficients"]:
    """Values of the real spherical harmonics, with the Condon-Shortley phase, m from -l to l within a degree.

    Args:
        directions: unit vectors.
        degree: 0 to 3.

    Returns:
        (degree + 1)^2 values a direction.
    """
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree > 0:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree > 2:
        values += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(values, -1)


def colors(
    sh: Float[Tensor, "*batch coefficients 3"], directions: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """RGB seen along `directions`, 0.5 + the sum of coefficients times basis, clamped below at 0.

    Args:
        sh: coefficients of all degrees up to 0, 1, 2 or 3.
        directions: unit vectors from the camera to the Gaussian.
    """
    degree = {1: 0, 4: 1, 9: 2, 16: 3}[sh.shape[-2]]
    return (0.5 + (basis(directions, degree)[..., None] * sh).sum(-2)).clamp_min(0)
