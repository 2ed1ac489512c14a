"""Rotations of joints: what turns the skeleton at rest into them again."""

import math

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.pipelines.motion.forward_kinematics import chained, joints_of
from pocket_diffusers.pipelines.motion.inverse_kinematics import bones_of, facing, heading, rotations_of
from pocket_diffusers.pipelines.motion.rotations import about_vertical, turned_about_vertical
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS, bone_lengths, rest_directions


def poses(*batch: int, seed: int = 0) -> torch.Tensor:
    """Joints of any poses whatever, [*batch, 22, 3]."""
    draw = torch.Generator().manual_seed(seed)
    rotations = torch.randn(*batch, 22, 4, generator=draw, dtype=torch.double)
    return joints_of(rotations, torch.randn(*batch, 3, generator=draw, dtype=torch.double))


def at_rest() -> torch.Tensor:
    return chained(rest_directions() * bone_lengths()[:, None], torch.tensor([0.0, 0.9, 0]))


def test_forward_kinematics_of_the_rotations_are_the_joints():
    joints = poses(3, 40)
    assert_close(joints_of(rotations_of(joints), joints[..., 0, :]), joints)
    assert_close(joints_of(rotations_of(joints.float()), joints[..., 0, :].float()), joints.float(), atol=2e-5, rtol=0)


def test_bones_of_any_length_keep_their_directions():
    joints = poses(40)
    lengths = torch.rand(22, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    other = chained(bones_of(joints) * lengths, joints[:, 0])
    assert_close(joints_of(rotations_of(other), joints[:, 0]), joints)


def test_one_at_rest_is_not_turned_and_one_turned_at_rest_turns_at_the_pelvis_alone():
    still = torch.tensor([1.0, 0, 0, 0]).expand(22, 4)
    assert_close(rotations_of(at_rest()), still)
    for angle in (-3.0, -1.0, 0.5, 3.1):
        rotations = rotations_of(turned_about_vertical(at_rest(), torch.tensor(angle)))
        assert_close(rotations[1:], still[1:], atol=1e-5, rtol=0)
        assert_close(rotations[0], about_vertical(torch.tensor(angle)))


def test_turning_in_the_world_changes_the_pelvis_alone():
    joints = poses(30)
    turned = rotations_of(turned_about_vertical(joints, torch.full((30, 1), 2.0).double()) + 5)
    assert_close(turned[:, 1:], rotations_of(joints)[:, 1:])


def test_the_heading_is_square_to_hips_and_shoulders():
    # The shoulders hang on bones of unlike lengths: the line between them is not quite level.
    assert_close(facing(at_rest()), torch.tensor([0.0, 1]), atol=1e-3, rtol=0)
    for angle in (-3.0, -1.0, 0.5, 3.1):
        joints = turned_about_vertical(at_rest(), torch.tensor(angle))
        assert_close(facing(joints), torch.tensor([math.sin(angle), math.cos(angle)]), atol=1e-3, rtol=0)
        assert_close(heading(joints), torch.tensor(angle))
    on_a_side = torch.zeros(22, 3)
    on_a_side[[1, 16], 1] = 0.3
    assert not facing(on_a_side).any() and heading(on_a_side) == 0


def test_bones_lead_from_parents_to_joints():
    joints = poses(4)
    for joint in range(1, 22):
        assert_close(bones_of(joints)[:, joint], joints[:, joint] - joints[:, PARENTS[joint]])
    assert not bones_of(joints)[:, 0].any()


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(rotations_of, poses(2).requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("function", [rotations_of, bones_of, facing, heading])
def test_a_wrong_shape_is_refused(function):
    with pytest.raises(ValueError, match=rf"joints must be \[..., {len(JOINTS)}, 3\], not \[5, 21, 3\]\."):
        function(torch.ones(5, 21, 3))
