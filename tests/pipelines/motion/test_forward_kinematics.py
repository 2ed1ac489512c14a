"""Joints of rotations against matrices that are multiplied one joint after the other."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from pocket_diffusers.pipelines.motion.forward_kinematics import joints_of, world_rotations
from pocket_diffusers.pipelines.motion.rotations import about_vertical
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS, bone_lengths, rest_directions

LEFT_LEG, LEFT_ARM = (1, 4, 7, 10), (13, 16, 18, 20)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def at_rest(*batch: int) -> torch.Tensor:
    return torch.tensor([1.0, 0, 0, 0]).expand(*batch, 22, 4).clone()


def by_matrices(rotations: np.ndarray, root: np.ndarray) -> np.ndarray:
    """One pose: each joint's matrix is the product of those on the way down from the pelvis."""
    offsets = (rest_directions() * bone_lengths()[:, None]).numpy()
    joints = np.zeros((22, 3))
    for joint in range(22):
        matrix, place, way = np.eye(3), root.copy(), [joint]
        while PARENTS[way[0]] >= 0:
            way.insert(0, PARENTS[way[0]])
        for step in way:
            matrix = matrix @ Rotation.from_quat(np.roll(rotations[step], -1)).as_matrix()
            place = place + matrix @ offsets[step]
        joints[joint] = place
    return joints


def test_joints_are_those_of_matrices():
    rotations, root = drawn(2, 3, 22, 4), drawn(2, 3, 3, seed=1)
    expected = [
        by_matrices(*pose) for pose in zip(rotations.view(6, 22, 4).numpy(), root.view(6, 3).numpy(), strict=True)
    ]
    assert_close(joints_of(rotations, root), torch.from_numpy(np.stack(expected)).view(2, 3, 22, 3))


def test_bones_keep_their_lengths_and_the_pelvis_its_place():
    joints = joints_of(drawn(5, 22, 4).float(), drawn(5, 3, seed=1).float())
    bones = joints[:, 1:] - joints[:, list(PARENTS[1:])]
    assert_close(bones.norm(dim=-1), bone_lengths()[1:].expand(5, 21))
    assert_close(joints[:, 0], drawn(5, 3, seed=1).float())


def test_at_rest_a_person_stands_upright_and_faces_z_with_the_left_on_x():
    joints = dict(zip(JOINTS, joints_of(at_rest(), torch.tensor([0.0, 0.9, 0])), strict=True))
    assert joints["left_hip"][0] > 0 > joints["right_hip"][0]
    assert joints["left_foot"][2] > joints["left_ankle"][2] + 0.1
    assert joints["neck"][1] > joints["pelvis"][1] > joints["left_knee"][1] > joints["left_ankle"][1]
    assert joints["left_wrist"][1] < joints["left_shoulder"][1]


def test_a_rotation_at_a_joint_moves_it_and_what_hangs_on_it():
    still, root = at_rest(), torch.zeros(3)
    for joint, moved in ((4, LEFT_LEG[1:]), (1, LEFT_LEG), (13, LEFT_ARM), (15, (15,))):
        rotations = still.clone()
        rotations[joint] = torch.tensor([0.8, 0.2, 0.3, 0.5])
        shift = (joints_of(rotations, root) - joints_of(still, root)).norm(dim=-1)
        assert {int(place) for place in (shift > 1e-6).nonzero()} == set(moved), JOINTS[joint]


def test_the_rotation_of_spine3_takes_the_arms_along():
    rotations = at_rest()
    rotations[9] = torch.tensor([0.8, 0.6, 0, 0])
    shift = (joints_of(rotations, torch.zeros(3)) - joints_of(at_rest(), torch.zeros(3))).norm(dim=-1)
    assert {int(place) for place in (shift > 1e-6).nonzero()} == {9, *range(12, 22)}


def test_the_pelvis_turns_the_whole_body():
    rotations = at_rest()
    rotations[0] = about_vertical(torch.tensor(torch.pi / 2))
    x, y, z = joints_of(at_rest(), torch.zeros(3)).unbind(-1)
    assert_close(joints_of(rotations, torch.zeros(3)), torch.stack([z, y, -x], -1), atol=1e-6, rtol=0)


def test_world_rotations_turn_each_bone():
    rotations = drawn(22, 4)
    joints = joints_of(rotations, torch.zeros(3, dtype=torch.double))
    turned = Rotation.from_quat(world_rotations(rotations).roll(-1, -1).numpy())
    bones = turned.apply((rest_directions() * bone_lengths()[:, None]).numpy())
    assert_close(joints[1:] - joints[list(PARENTS[1:])], torch.from_numpy(bones)[1:])


def test_gradients_are_those_of_finite_differences():
    given = drawn(2, 22, 4).requires_grad_(), drawn(2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(joints_of, given, fast_mode=True)


def test_one_root_serves_many_poses_and_the_precision_is_the_root_s():
    joints = joints_of(drawn(4, 22, 4), torch.zeros(3))
    assert joints.shape == (4, 22, 3) and joints.dtype == torch.float32


@pytest.mark.parametrize(
    ("rotations", "root", "sentence"),
    [
        ((21, 4), (3,), r"rotations must be \[..., 22, 4\], not \[21, 4\]\."),
        ((22, 3), (3,), r"rotations must be \[..., 22, 4\], not \[22, 3\]\."),
        ((22, 4), (2,), r"root must be \[..., 3\], not \[2\]\."),
        ((22, 4), (), r"root must be \[..., 3\], not \[\]\."),
    ],
)
def test_a_wrong_shape_is_refused(rotations, root, sentence):
    with pytest.raises(ValueError, match=sentence):
        joints_of(torch.ones(rotations), torch.ones(root))
