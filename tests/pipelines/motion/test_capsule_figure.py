"""The figure of capsules: closed, outward, of a person's size, and around the bones in every pose."""

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.capsule_figure import CAPSULES, LEFT, RIGHT, capsule_figure, posed_axes
from pocket_diffusers.pipelines.motion.forward_kinematics import chained
from pocket_diffusers.pipelines.motion.joint_rotations import rig_of
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS

trimesh = pytest.importorskip("trimesh", reason="the figure is checked with the extra 'train'")


@pytest.fixture(scope="module")
def figure(dance):
    return capsule_figure(rig_of(dance))


def solids(figure):
    mesh = trimesh.Trimesh(figure.positions.numpy(), figure.faces.numpy(), process=False)
    return mesh, mesh.split(only_watertight=True)


def test_every_capsule_is_closed_and_faces_outward(figure):
    mesh, parts = solids(figure)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert len(parts) == len(CAPSULES) and all(part.volume > 0 for part in parts)
    assert mesh.referenced_vertices.all()
    assert np.allclose(figure.normals.norm(dim=1), 1, atol=1e-5)
    assert (mesh.vertex_normals * figure.normals.numpy()).sum(1).min() > 0.98


def test_volumes_are_those_of_capsules(figure):
    """A ball's and a cone's closed forms, less what the facets cut off."""
    surfaces = figure.positions.double().numpy().reshape(len(CAPSULES), -1, 3)
    for part, surface, (joint, end, start_radius, end_radius, _) in zip(
        solids(figure)[1], surfaces, CAPSULES, strict=True
    ):
        if joint != end:
            length = np.linalg.norm(surface[-1] - surface[0]) - start_radius - end_radius  # from pole to pole
            fall = (start_radius - end_radius) / length
            base, top = start_radius * np.sqrt(1 - fall**2), end_radius * np.sqrt(1 - fall**2)
            height = length * (1 - fall**2)
            frustum = np.pi * height / 3 * (base**2 + base * top + top**2)
            caps = sum(
                np.pi * radius**3 * (2 + 3 * sign * fall - sign * fall**3) / 3
                for radius, sign in ((start_radius, 1), (end_radius, -1))
            )
            assert part.volume == pytest.approx(frustum + caps, rel=0.09)
            assert part.volume < frustum + caps


def test_it_is_a_person(figure):
    low, high = figure.positions.min(0).values, figure.positions.max(0).values
    width, height, depth = (high - low).tolist()
    assert 1.5 < height < 1.9 and 1.5 < width < 1.9 and 0.2 < depth < 0.45
    head = figure.positions[figure.joints == JOINTS.index("head")]
    assert head[:, 1].max() == high[1], "the head is on top"
    assert figure.positions[figure.joints == JOINTS.index("left_wrist"), 0].max() == high[0]


def test_left_and_right_differ_in_colour(figure):
    for side, color in (("left", LEFT), ("right", RIGHT)):
        limbs = [f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist")]
        mine = torch.isin(figure.joints, torch.tensor([JOINTS.index(limb) for limb in limbs]))
        assert (figure.colors[mine] == torch.tensor(color)).all()


def test_every_bone_has_a_capsule_from_joint_to_joint(dance):
    axes = posed_axes(rig_of(dance))
    bones = {(joint, end): index for index, (joint, end, *_) in enumerate(CAPSULES) if joint != end}
    assert sorted(bones) == sorted((parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0)
    for (joint, end), index in bones.items():
        assert torch.allclose(axes[:, 0, index].float(), dance[:, joint], atol=1e-3)
        assert torch.allclose(axes[:, 1, index].float(), dance[:, end], atol=1e-3)


def test_a_figure_without_size_stays_closed():
    figure = capsule_figure(rig_of(torch.zeros(1, 22, 3)))
    assert figure.positions.isfinite().all() and figure.normals.isfinite().all()
    mesh, _ = solids(figure)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0


def test_the_pose_at_rest_is_the_rigs(dance):
    rig = rig_of(dance)
    rest = chained(rig.offsets, rig.offsets[0])
    figure = capsule_figure(rig)
    for joint, place in enumerate(rest.float()):
        mine = figure.positions[figure.joints == joint]
        if len(mine):
            assert (mine - place).norm(dim=1).min() < 0.13
