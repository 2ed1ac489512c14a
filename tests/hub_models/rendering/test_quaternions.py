"""Rotations and quaternions against scipy's."""

import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.quaternions import quaternions_of, rotation_matrices


def drawn(count: int = 200) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def test_rotations_are_those_of_scipy():
    expected = torch.from_numpy(Rotation.from_quat(drawn().roll(-1, 1).numpy()).as_matrix())
    assert_close(rotation_matrices(drawn()), expected)
    assert_close(rotation_matrices(drawn().view(4, 50, 4)), expected.view(4, 50, 3, 3))


def test_quaternions_of_rotations_are_unit_and_half_turns_too():
    half_turns = torch.eye(4, dtype=torch.double)
    given = torch.nn.functional.normalize(torch.cat([drawn(), half_turns]), dim=1)
    found = quaternions_of(rotation_matrices(given))
    assert_close((found * given).sum(1).abs(), torch.ones(204, dtype=torch.double))
    assert bool((found[:, 0] >= 0).all())
