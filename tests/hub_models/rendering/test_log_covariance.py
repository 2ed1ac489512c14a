import pytest
import torch
from scipy.linalg import logm
from scipy.spatial.transform import Rotation

from pocket_diffusers.hub_models.rendering.log_covariance import log_covariances, scales_and_rotations


def _draw(count=200, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=draw) * 2 - 4, torch.randn(count, 4, generator=draw)


def _covariances(log_scales, quaternions):
    rotations = torch.tensor(Rotation.from_quat(quaternions[:, [1, 2, 3, 0]].numpy()).as_matrix())
    return rotations @ torch.diag_embed((2 * log_scales.double()).exp()) @ rotations.mT


def test_the_covariance_comes_back():
    log_scales, quaternions = _draw()
    wanted = _covariances(log_scales, quaternions)
    got = _covariances(*scales_and_rotations(log_covariances(log_scales, quaternions)))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-12)


def test_distances_are_those_of_matrix_logarithms():
    log_scales, quaternions = _draw(12)
    coefficients = log_covariances(log_scales, quaternions)
    logarithms = (
        torch.stack([torch.tensor(logm(matrix.numpy())) for matrix in _covariances(log_scales, quaternions)]) / 2
    )
    torch.testing.assert_close(
        torch.cdist(coefficients, coefficients), torch.cdist(logarithms.flatten(1), logarithms.flatten(1)),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    torch.testing.assert_close(coefficients[:, 0], log_scales.double().sum(1) / 3**0.5)


def test_names_of_one_ellipsoid_have_the_same_coefficients():
    log_scales, quaternions = (values.double() for values in _draw(50))
    coefficients = log_covariances(log_scales, quaternions)
    w, x, y, z = quaternions.unbind(1)
    turned = torch.stack([-x, w, z, -y], 1)  # half a turn about the first axis
    torch.testing.assert_close(log_covariances(log_scales, turned), coefficients)
    torch.testing.assert_close(log_covariances(log_scales, -3 * quaternions), coefficients)
    quarter = torch.stack([w - z, x + y, y - x, z + w], 1)  # a quarter turn about the third: first and second swap
    torch.testing.assert_close(log_covariances(log_scales[:, [1, 0, 2]], quarter), coefficients)


@pytest.mark.parametrize(
    "quaternion", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 1, -1, 0), (1, -1, 1, -1)]
)
def test_half_turns_and_spheres_are_exact(quaternion):
    quaternions = torch.tensor([quaternion], dtype=torch.double)
    for log_scales in ([-3.0, -2, -1], [-1.0, -1, -5], [-2.0, -2, -2]):
        log_scales = torch.tensor([log_scales], dtype=torch.double)
        got = _covariances(*scales_and_rotations(log_covariances(log_scales, quaternions)))
        torch.testing.assert_close(got, _covariances(log_scales, quaternions), rtol=1e-9, atol=1e-12)


def test_results_are_ascending_scales_and_unit_rotations():
    log_scales, quaternions = scales_and_rotations(log_covariances(*_draw()))
    assert (log_scales.diff(dim=1) >= 0).all() and (quaternions[:, 0] >= 0).all()
    torch.testing.assert_close(quaternions.norm(dim=1), torch.ones(200, dtype=torch.double))
