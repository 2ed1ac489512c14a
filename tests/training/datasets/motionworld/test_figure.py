"""The figure's geometry: turns, arms and legs."""

import numpy as np

from pocket_diffusers.training.datasets.motionworld.figure import arm_directions, leg_bones, rotations


def test_turns_are_rotations_with_the_named_sense():
    matrices = rotations(np.random.default_rng(0).uniform(-180, 180, (50, 3)))
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0)
    left, forward, right = rotations(np.array([(90.0, 0, 0), (0, 90, 0), (0, 0, 90)]))
    np.testing.assert_allclose(left @ (0, 0, 1), (1, 0, 0), atol=1e-12)  # yaw turns who faces +Z to the left, +X
    np.testing.assert_allclose(forward @ (0, 1, 0), (0, 0, 1), atol=1e-12)  # pitch leans forward
    np.testing.assert_allclose(right @ (0, 1, 0), (-1, 0, 0), atol=1e-12)  # roll leans to the right, -X


def test_arms_point_where_their_angles_say():
    poses = np.radians([(0.0, 0, 0, 0), (90, 0, 90, 0), (0, 90, 0, 0), (90, 90, 90, 0), (0, 0, 90, 90), (180, 0, 0, 0)])
    upper, fore = arm_directions(poses, 1.0)
    down, up, ahead, left = (0, -1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)
    np.testing.assert_allclose(upper, [down, ahead, left, left, down, up], atol=1e-12)
    np.testing.assert_allclose(fore, [down, up, left, up, (-1, 0, 0), up], atol=1e-12)
    mirrored = arm_directions(poses, -1.0)
    np.testing.assert_allclose(mirrored[0], upper * (-1, 1, 1))
    np.testing.assert_allclose(mirrored[1], fore * (-1, 1, 1))


def test_legs_reach_the_ankle_with_the_knee_forward():
    rng = np.random.default_rng(1)
    reach = rng.normal(size=(400, 3))
    reach *= rng.uniform(0.1, 0.81, (400, 1)) / np.linalg.norm(reach, axis=-1, keepdims=True)
    left = np.tile((1.0, 0.0, 0.0), (400, 1))
    thigh, shin = leg_bones(reach, left, 0.39, 0.43)
    np.testing.assert_allclose(thigh + shin, reach, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(thigh, axis=-1), 0.39)
    np.testing.assert_allclose(np.linalg.norm(shin, axis=-1), 0.43)
    knee, _ = leg_bones(np.array([(0.0, -0.7, 0.0), (0.0, 0.0, 0.7)]), left[:2], 0.39, 0.43)
    assert knee[0, 2] > 0.1 and knee[1, 1] > 0.1  # forward of a leg that stands, above one that points forward


def test_a_leg_that_is_too_short_stretches_towards_the_ankle():
    thigh, shin = leg_bones(np.array([(0.0, -2.0, 0.0)]), np.array([(1.0, 0.0, 0.0)]), 0.39, 0.43)
    np.testing.assert_allclose(np.linalg.norm(thigh), 0.39)
    np.testing.assert_allclose(np.linalg.norm(shin), 0.43)
    np.testing.assert_allclose((thigh + shin)[0], (0, -0.82, 0), atol=1e-3)
