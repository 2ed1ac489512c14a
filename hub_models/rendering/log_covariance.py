"""A Gaussian's scales and rotation as one symmetric matrix, half the logarithm of its covariance.

With covariance R diag(s^2) R^T the matrix is R diag(ln s) R^T. Unlike scales and a quaternion it has no permutation or
sign left to choose, is smooth where axes have equal lengths, and an error in it turns the axes the less the more their
lengths differ: uniform steps in its six coefficients spend bits where they are seen (the log-Euclidean metric of
Arsigny et al. 2006, doi 10.1002/mrm.20965).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .quaternions import quaternions_of, rotation_matrices

NUM_COEFFICIENTS = 6


def log_covariances(
    log_scales: Float[Tensor, "gaussians 3"], quaternions: Float[Tensor, "gaussians 4"]
) -> Float[Tensor, "gaussians 6"]:
    """Coefficients of the matrices in an orthonormal basis: the trace first, as sqrt(3) times the mean logarithm.

    Args:
        log_scales: natural logarithms of the standard deviations.
        quaternions: w x y z, of any length but 0.

    Returns:
        In double precision; the distance of two rows is the Frobenius distance of the matrices.
    """
    rotations = rotation_matrices(quaternions.double())
    return torch.einsum("bij,gik,gk,gjk->gb", _basis().to(rotations), rotations, log_scales.double(), rotations)


def scales_and_rotations(
    coefficients: Float[Tensor, "gaussians 6"],
) -> tuple[Float[Tensor, "gaussians 3"], Float[Tensor, "gaussians 4"]]:
    """Log scales, in ascending order, and unit quaternions w x y z of what `log_covariances` gives."""
    matrices = torch.einsum("bij,gb->gij", _basis().to(coefficients), coefficients)
    log_scales, axes = torch.linalg.eigh(matrices)
    axes = axes * torch.det(axes).sign()[:, None, None]  # a rotation, not a reflection
    return log_scales, quaternions_of(axes)


def _basis() -> Float[Tensor, "6 3 3"]:
    diagonal = torch.tensor([[1.0, 1, 1], [-1, 2, -1], [1, 0, -1]], dtype=torch.double)
    basis = torch.zeros(NUM_COEFFICIENTS, 3, 3, dtype=torch.double)
    basis[:3] = torch.diag_embed(diagonal)
    for number, (row, column) in enumerate([(0, 1), (1, 2), (0, 2)], 3):
        basis[number, row, column] = basis[number, column, row] = 1
    return basis / basis.flatten(1).norm(dim=1)[:, None, None]
