"""BVH files, read back by a reader of their own."""

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.bvh_file import write_bvh
from pocket_diffusers.pipelines.motion.forward_kinematics import chained
from pocket_diffusers.pipelines.motion.joint_rotations import rig_of
from pocket_diffusers.pipelines.motion.rotations import from_axis_angles, rotated
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS


def about(axis, degrees):
    """Matrices [frames, 3, 3] of turns about one axis of the frame."""
    angle = np.radians(degrees)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.tile(np.eye(3), (len(angle), 1, 1))
    matrices[:, first, first] = matrices[:, second, second] = np.cos(angle)
    matrices[:, first, second], matrices[:, second, first] = -np.sin(angle), np.sin(angle)
    return matrices


def read_bvh(path):
    """Names, parents, world places [frames, joints, 3], channels by joint, and seconds a frame."""
    words = path.read_text().split()
    names, parents, offsets, channels, open_nodes, position = [], [], [], [], [], 1
    assert words[0] == "HIERARCHY"
    while words[position] != "MOTION":
        word = words[position]
        if word in ("ROOT", "JOINT", "End"):
            names.append(words[position + 1])
            parents.append(open_nodes[-1] if open_nodes else -1)
            channels.append([])
            assert words[position + 2] == "{"
            open_nodes.append(len(names) - 1)
            position += 3
        elif word == "OFFSET":
            offsets.append([float(value) for value in words[position + 1 : position + 4]])
            position += 4
        elif word == "CHANNELS":
            count = int(words[position + 1])
            channels[open_nodes[-1]] = words[position + 2 : position + 2 + count]
            position += 2 + count
        else:
            assert word == "}"
            open_nodes.pop()
            position += 1
    assert (
        not open_nodes and words[position + 1] == "Frames:" and words[position + 3 : position + 5] == ["Frame", "Time:"]
    )
    frames, seconds = int(words[position + 2]), float(words[position + 5])
    values = np.array(words[position + 6 :], float).reshape(frames, -1)
    turns, places, column = [], [], 0
    for node, parent in enumerate(parents):
        turn, place = np.tile(np.eye(3), (frames, 1, 1)), np.tile(offsets[node], (frames, 1))
        for channel in channels[node]:
            axis = "XYZ".index(channel[0])
            if channel[1:] == "position":
                place[:, axis] = values[:, column]
            else:
                turn = turn @ about(axis, values[:, column])
            column += 1
        places.append(place if parent < 0 else places[parent] + np.einsum("fij,fj->fi", turns[parent], place))
        turns.append(turn if parent < 0 else turns[parent] @ turn)
    assert column == values.shape[1]
    return names, parents, np.stack(places, 1), dict(zip(names, channels, strict=False)), seconds


def places_of_joints(path):
    names, _, places, *_ = read_bvh(path)
    return places[:, [names.index(joint) for joint in JOINTS]]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_joints_come_back_within_a_millimetre(dance, tmp_path, noise):
    joints = dance + noise * torch.randn(dance.shape, generator=torch.Generator().manual_seed(1))
    assert write_bvh(tmp_path / "a.bvh", rig_of(joints)) == tmp_path / "a.bvh"
    assert np.abs(places_of_joints(tmp_path / "a.bvh") - joints.numpy()).max() < 1e-4


def test_the_skeleton_and_its_clock(dance, tmp_path):
    names, parents, places, channels, seconds = read_bvh(write_bvh(tmp_path / "a.bvh", rig_of(dance)))
    assert seconds == 0.05 and len(places) == 60
    for joint, parent in enumerate(PARENTS):
        node = names.index(JOINTS[joint])
        assert parents[node] == (-1 if parent < 0 else names.index(JOINTS[parent]))
    ends = [names[parent] for name, parent in zip(names, parents, strict=True) if name == "Site"]
    assert sorted(ends) == ["head", "left_foot", "left_wrist", "right_foot", "right_wrist"]
    turns = ["Zrotation", "Xrotation", "Yrotation"]
    assert channels["pelvis"] == ["Xposition", "Yposition", "Zposition", *turns]
    assert all(channels[joint] == turns for joint in JOINTS[1:]), "a rigid body has no other positions"
    assert "-0.000000" not in (tmp_path / "a.bvh").read_text()


def test_only_loose_joints_have_positions(dance, tmp_path):
    stretched = dance.clone()
    stretched[30:, 20] += 0.5 * (stretched[30:, 20] - stretched[30:, 18])
    _, _, _, channels, _ = read_bvh(write_bvh(tmp_path / "a.bvh", rig_of(stretched)))
    assert [joint for joint in JOINTS if len(channels[joint]) == 6] == ["pelvis", "left_wrist"]


def test_curves_have_no_jumps(dance, tmp_path):
    """Two turns about the vertical and a somersault, through the angle where Z and Y turn about one axis."""
    rest = chained(rig_of(dance).offsets, torch.zeros(3, dtype=torch.float64))
    turn = torch.linspace(0, 4 * torch.pi, 81, dtype=torch.float64)[:, None, None]
    for axis in ([0.0, 1, 0], [1.0, 0, 0], [0.1, 0.9, 0.3]):
        joints = rotated(rest, from_axis_angles(turn * torch.tensor(axis, dtype=torch.float64)))
        path = write_bvh(tmp_path / "a.bvh", rig_of(joints))
        assert np.abs(places_of_joints(path) - joints.numpy()).max() < 1e-5
        lines = path.read_text().splitlines()
        values = np.array([line.split() for line in lines[-81:]], float)
        assert np.abs(np.diff(values[:, 3:6], axis=0)).max() < (100 if axis[0] == 1 else 30), axis


@pytest.mark.parametrize("degrees", [90, -90, 90 - 1e-6])
def test_angles_where_two_axes_coincide(dance, tmp_path, degrees):
    rest = chained(rig_of(dance).offsets, torch.zeros(3, dtype=torch.float64))
    lying = rotated(rest, from_axis_angles(torch.tensor([np.radians(degrees), 0, 0])))[None]
    path = write_bvh(tmp_path / "a.bvh", rig_of(lying))
    assert np.abs(places_of_joints(path) - lying.numpy()).max() < 1e-5


def test_a_file_that_cannot_be_written_leaves_nothing(dance, tmp_path):
    (tmp_path / "a.bvh").mkdir()
    with pytest.raises(OSError, match="cannot write .*a.bvh"):
        write_bvh(tmp_path / "a.bvh", rig_of(dance))
    assert [path.name for path in tmp_path.iterdir()] == ["a.bvh"]
