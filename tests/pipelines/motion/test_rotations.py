"""Rotations against scipy's."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from pocket_diffusers.pipelines.motion.rotations import (
    about_vertical,
    axis_angles_of,
    from_axis_angles,
    from_six_numbers,
    inverse,
    product,
    rotated,
    shortest_arc,
    six_numbers_of,
    turned_about_vertical,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(drawn(*shape, seed=seed), dim=-1)


def scipys(quaternions: torch.Tensor) -> Rotation:
    return Rotation.from_quat(quaternions.roll(-1, -1).numpy())


def assert_same_rotations(found: torch.Tensor, expected: Rotation) -> None:
    assert_close(found.norm(dim=-1), torch.ones(len(found), dtype=torch.double))
    assert (scipys(found) * expected.inv()).magnitude().max() < 1e-7


def test_product_inverse_and_rotated_are_those_of_scipy():
    first, second, vectors = units(100, 4), units(100, 4, seed=1), drawn(100, 3)
    assert_same_rotations(product(first, second), scipys(first) * scipys(second))
    assert_same_rotations(inverse(first), scipys(first).inv())
    assert_close(rotated(vectors, first), torch.from_numpy(scipys(first).apply(vectors.numpy())))


def test_leading_dimensions_are_kept_and_broadcast():
    quaternions, vectors = units(2, 5, 4), drawn(3)
    expected = torch.stack([rotated(vectors, quaternion) for quaternion in quaternions.view(10, 4)])
    assert_close(rotated(vectors, quaternions), expected.view(2, 5, 3))
    assert product(quaternions, quaternions[0, 0]).shape == (2, 5, 4)
    assert six_numbers_of(quaternions).shape == (2, 5, 6)
    assert from_six_numbers(six_numbers_of(quaternions)).shape == (2, 5, 4)


def test_a_quarter_turn_about_the_vertical_takes_z_to_x():
    angles = torch.tensor([0.0, np.pi / 2, -3.0], dtype=torch.double)
    assert_same_rotations(about_vertical(angles), Rotation.from_euler("y", angles[:, None].numpy()))
    assert_close(
        rotated(torch.tensor([0.0, 0, 1]).double(), about_vertical(angles)[1]), torch.tensor([1.0, 0, 0]).double()
    )


def test_vectors_turned_about_the_vertical_are_turned_by_that_rotation():
    vectors, angles = drawn(4, 5, 3), drawn(4, 1, seed=1) * 3
    assert_close(turned_about_vertical(vectors, angles), rotated(vectors, about_vertical(angles)))
    assert turned_about_vertical(vectors[0, 0], angles).shape == (4, 1, 3)


def test_the_shortest_arc_turns_one_direction_into_the_other_about_an_axis_square_to_both():
    start, end = drawn(200, 3), drawn(200, 3, seed=1)
    arcs = shortest_arc(start, end)
    turned = rotated(start, arcs)
    assert_close(turned / turned.norm(dim=1, keepdim=True), end / end.norm(dim=1, keepdim=True))
    angles = torch.acos((start * end).sum(1) / start.norm(dim=1) / end.norm(dim=1))
    assert_close(axis_angles_of(arcs).norm(dim=1), angles)


def test_the_shortest_arc_of_opposite_and_nearly_opposite_directions():
    start = units(50, 3).float()
    assert_close(rotated(start, shortest_arc(start, -start)), -start, atol=1e-6, rtol=0)
    for away in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        end = torch.nn.functional.normalize(-start + away * drawn(50, 3, seed=1).float(), dim=1)
        assert_close(rotated(start, shortest_arc(start, end)), end, atol=2e-6, rtol=0)
    for axis in torch.eye(3):
        assert_close(rotated(axis, shortest_arc(axis, -axis)), -axis)
        assert_close(shortest_arc(axis, axis), torch.tensor([1.0, 0, 0, 0]))


def test_axis_angles_are_those_of_scipy_and_0_has_a_gradient():
    axis_angles = drawn(200, 3)
    assert_same_rotations(from_axis_angles(axis_angles), Rotation.from_rotvec(axis_angles.numpy()))
    quaternions = units(200, 4)
    assert_close(axis_angles_of(quaternions), torch.from_numpy(scipys(quaternions).as_rotvec()))
    still = torch.zeros(3, requires_grad=True)
    from_axis_angles(still)[1:].sum().backward()
    assert_close(still.grad, torch.full((3,), 0.5))
    identity = torch.tensor([1.0, 0, 0, 0], requires_grad=True)
    axis_angles_of(identity).sum().backward()
    assert_close(identity.grad[1:], torch.full((3,), 2.0))


def test_six_numbers_are_two_columns_of_the_matrix_and_come_back():
    quaternions = units(100, 4)
    matrices = scipys(quaternions).as_matrix()
    assert_close(six_numbers_of(quaternions), torch.from_numpy(np.concatenate([matrices[..., 0], matrices[..., 1]], 1)))
    assert_same_rotations(from_six_numbers(six_numbers_of(quaternions)), scipys(quaternions))


def test_six_numbers_askew_keep_the_first_direction_and_the_plane():
    six = drawn(100, 6)
    columns = six_numbers_of(from_six_numbers(six)).view(100, 2, 3)
    given = six.view(100, 2, 3)
    assert_close(columns[:, 0], given[:, 0] / given[:, 0].norm(dim=1, keepdim=True))
    plane = torch.linalg.cross(given[:, 0], given[:, 1])
    assert_close((columns[:, 1] * plane).sum(1), torch.zeros(100, dtype=torch.double))
    assert bool(((columns[:, 1] * given[:, 1]).sum(1) > 0).all())


def test_gradients_are_those_of_finite_differences():
    for function, *given in (
        (product, units(4, 4), units(4, 4, seed=1)),
        (rotated, drawn(4, 3), units(4, 4)),
        (shortest_arc, drawn(4, 3), drawn(4, 3, seed=1)),
        (from_axis_angles, drawn(4, 3)),
        (axis_angles_of, units(4, 4)),
        (six_numbers_of, units(4, 4)),
        (from_six_numbers, drawn(4, 6)),
    ):
        assert torch.autograd.gradcheck(function, [value.requires_grad_() for value in given]), function.__name__
