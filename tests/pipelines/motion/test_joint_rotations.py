"""Rigs of clips: joints that come back, and twists that neither flip nor wander."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pocket_diffusers.pipelines.motion.forward_kinematics import chained
from pocket_diffusers.pipelines.motion.joint_rotations import rig_of
from pocket_diffusers.pipelines.motion.rotations import about_vertical, rotated, shortest_arc
from pocket_diffusers.pipelines.motion.skeleton import CHAINS, PARENTS, bone_lengths

IDENTITY = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)


def joints_by_scipy(rig):
    """Forward kinematics of a tree whose joints turn what lies below them."""
    turns, places = [], []
    for joint, parent in enumerate(PARENTS):
        local = Rotation.from_quat(rig.rotations[:, joint].numpy(), scalar_first=True)
        turns.append(local if parent < 0 else turns[parent] * local)
        place = rig.places[:, joint].numpy()
        places.append(place if parent < 0 else places[parent] + turns[parent].apply(place))
    return np.stack(places, 1)


def steps(rotations):
    """Angles in radians from frame to frame [frames - 1, ...], whatever the signs."""
    return 2 * (rotations[1:] * rotations[:-1]).sum(-1).abs().clamp(max=1).acos()


def clips(dance):
    generator = torch.Generator().manual_seed(0)
    return {
        "rigid": dance,
        "one frame": dance[:1],
        "unsteady bones": dance + 0.02 * torch.randn(dance.shape, generator=generator),
        "no person": torch.randn(40, 22, 3, generator=generator),
        "all in one place": torch.ones(3, 22, 3),
        "half precision": dance.half(),
    }


@pytest.mark.parametrize("name", clips(torch.zeros(1, 22, 3)))
def test_joints_come_back(dance, name):
    joints = clips(dance)[name]
    rig = rig_of(joints)
    assert np.abs(joints_by_scipy(rig) - joints.double().numpy()).max() < 1e-3
    assert torch.allclose(rig.rotations.norm(dim=-1), torch.ones(1, dtype=torch.float64))
    assert ((rig.rotations[1:] * rig.rotations[:-1]).sum(-1) >= 0).all(), "signs of neighbours"
    fixed = [joint for joint in range(1, 22) if joint not in rig.loose]
    assert (rig.places[:, fixed] == rig.offsets[fixed]).all()


def test_a_rigid_body_has_no_loose_joint_and_keeps_its_bones(dance):
    rig = rig_of(dance)
    assert rig.loose == () and len(rig) == 60
    assert torch.allclose(rig.offsets.norm(dim=-1).float(), bone_lengths(), atol=1e-5)
    assert steps(rig.rotations).max() < math.radians(30)


def test_joints_that_leave_their_place_are_loose(dance):
    stretched = dance.clone()
    stretched[30:, 20] += 0.5 * (stretched[30:, 20] - stretched[30:, 18])
    assert rig_of(stretched).loose == (20,)
    shrugged = dance.clone()
    shrugged[30:, [13, 16, 18, 20, 14, 17, 19, 21]] += 0.05 * (dance[30:, 12] - dance[30:, 9])[:, None]
    assert rig_of(shrugged).loose == (13, 14), "the arms below go along"


def test_rest_is_a_t_pose_that_has_no_rotations(dance):
    offsets = rig_of(dance).offsets
    rest = chained(offsets, torch.zeros(3, dtype=torch.float64))[None]
    left, right = rest[0, [16, 18, 20]], rest[0, [17, 19, 21]]
    assert (left[1:, 0] > left[:-1, 0] + 0.2).all() and (right[1:, 0] < right[:-1, 0] - 0.2).all()
    assert rest[0, [10, 11], 2].min() > rest[0, [7, 8], 2].max(), "toes in front: it faces +Z"
    again = rig_of(rest)
    assert torch.allclose(again.rotations, IDENTITY.expand(1, 22, 4), atol=1e-6)
    assert torch.allclose(again.offsets, offsets, atol=1e-9)


def test_turning_the_clip_turns_the_pelvis_alone(dance):
    turn = about_vertical(torch.tensor(2.0, dtype=torch.float64))
    moved = rotated(dance.double(), turn) + torch.tensor([1.0, 0, -2])
    rig, other = rig_of(dance), rig_of(moved)
    assert torch.allclose(rig.offsets, other.offsets, atol=1e-6)
    assert torch.allclose(rig.rotations[:, 1:], other.rotations[:, 1:], atol=1e-5)
    assert steps(torch.stack([rig.rotations[:, 0], other.rotations[:, 0]])).sub(2.0).abs().max() < 1e-5


def test_the_spine_shares_the_twist_of_the_chest(dance):
    upright = rig_of(dance[:1]).offsets
    rest = chained(upright, torch.zeros(3, dtype=torch.float64))
    above = [joint for joint in range(22) if joint in {*CHAINS[2][4:], *CHAINS[3][1:], *CHAINS[4][1:]}]
    twisted = rest.clone()
    twisted[above] = rest[9] + rotated(rest[above] - rest[9], about_vertical(torch.tensor(0.9).double()))
    rig = rig_of(twisted[None])
    angles = Rotation.from_quat(rig.rotations[0, [3, 6, 9]].numpy(), scalar_first=True).magnitude()
    assert np.allclose(angles, 0.3, atol=0.02)


def folding(dance):
    """A forearm that is folded right back past the upper arm, four degrees beside it."""
    joints = dance[:1].double().repeat(41, 1, 1)
    straight = torch.nn.functional.normalize(joints[0, 18] - joints[0, 16], dim=0)
    across = torch.nn.functional.normalize(torch.linalg.cross(straight, torch.tensor([0.0, 0, 1]).double()), dim=0)
    beside = torch.linalg.cross(straight, across)
    angles = torch.linspace(math.radians(100), math.radians(260), 41).double()[:, None]
    directions = torch.nn.functional.normalize(
        straight * angles.cos() + across * angles.sin() + beside * math.tan(math.radians(4)), dim=-1
    )
    joints[:, 20] = joints[:, 18] + 0.266 * directions
    return joints, straight, directions


def test_a_bone_that_turns_right_back_does_not_spin(dance):
    joints, straight, directions = folding(dance)
    assert steps(shortest_arc(straight, directions)).max() > math.radians(40), "the shortest rotation alone spins"
    rig = rig_of(joints)
    assert steps(rig.rotations[:, 18]).max() < math.radians(9), "its direction goes four degrees a frame"
    assert np.abs(joints_by_scipy(rig) - joints.numpy()).max() < 1e-6


def test_a_bone_without_length_goes_on_evenly(dance):
    joints = dance.double().clone()
    joints[20:25, 20] = joints[20:25, 18]
    joints[40:43, [1, 2]] = joints[40:43, :1]  # nor can the hips tell how the pelvis is turned
    rig = rig_of(joints)
    assert np.abs(joints_by_scipy(rig) - joints.numpy()).max() < 1e-6
    assert steps(rig.rotations[:, [0, 18]]).max() < math.radians(40)


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (torch.zeros(5, 21, 3), r"joints must be \[frames, 22, 3\] with at least one frame, not \[5, 21, 3\]\."),
        (torch.zeros(22, 3), r"not \[22, 3\]"),
        (torch.zeros(0, 22, 3), r"not \[0, 22, 3\]"),
        (torch.zeros(2, 22, 3, dtype=torch.long), "joints must be a floating point tensor, not torch.int64"),
        (np.zeros((2, 22, 3)), "joints must be a floating point tensor, not ndarray"),
        (torch.full((2, 22, 3), float("nan")), "joints must be finite, but hold NaN or infinity"),
        (torch.full((2, 22, 3), float("inf")), "joints must be finite"),
    ],
)
def test_bad_joints(joints, message):
    with pytest.raises(ValueError, match=message):
        rig_of(joints)
