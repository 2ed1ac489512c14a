"""The projection beside the same problem written out and solved by brute force."""

import numpy as np
import pytest
import torch

from pocket_diffusers.eval.claims.controlmm.conditions import at_density, cells
from pocket_diffusers.eval.claims.controlmm.motions import Motions
from pocket_diffusers.eval.claims.controlmm.projection import SMOOTHNESS, STAYING, moved, projected
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_features import features_of, joints_of_features
from pocket_diffusers.pipelines.motion.skeleton import PARENTS
from pocket_diffusers.training.datasets.motionworld.records import clips


def controls(joints, mask, shift):
    return MotionControls(joints + torch.tensor(shift), mask)


def test_the_change_is_the_least_by_brute_force():
    torch.manual_seed(0)
    frames, joints = 6, torch.randn(6, 22, 3)
    mask = cells(frames, [1, 4], [0]) | cells(frames, [3], [20, 15])
    asked = MotionControls(torch.randn(6, 22, 3), mask)
    rows = []
    index = np.arange(frames * 22).reshape(frames, 22)
    for frame in range(1, frames - 1):
        for joint in range(22):
            row = np.zeros(frames * 22)
            row[index[frame - 1, joint]], row[index[frame, joint]], row[index[frame + 1, joint]] = 1, -2, 1
            rows.append(row * SMOOTHNESS**0.5)
    for frame in range(frames):
        for joint in range(1, 22):
            row = np.zeros(frames * 22)
            row[index[frame, joint]], row[index[frame, PARENTS[joint]]] = 1, -1
            rows.append(row)
    system = np.concatenate([np.array(rows), STAYING**0.5 * np.eye(frames * 22)])
    places = index[mask.numpy()]
    wanted = (asked.targets - joints)[mask].double().numpy()
    kkt = np.zeros((frames * 22 + len(places),) * 2)
    kkt[: frames * 22, : frames * 22] = system.T @ system
    for row, place in enumerate(places):
        kkt[frames * 22 + row, place] = kkt[place, frames * 22 + row] = 1
    right = np.concatenate([np.zeros((frames * 22, 3)), wanted])
    change = np.linalg.solve(kkt, right)[: frames * 22].reshape(frames, 22, 3)
    np.testing.assert_allclose((moved(joints, asked) - joints).numpy(), change, atol=1e-5)


@pytest.mark.parametrize("density", [1, 5, 196])
def test_targets_are_met_exactly_and_the_body_comes_along(density):
    clip = next(clips("test", [0]))
    mask = at_density(density, [0])(len(clip.joints), torch.Generator().manual_seed(0))
    found = moved(clip.joints, controls(clip.joints, mask, (0.5, 0.0, 0.0)))
    torch.testing.assert_close(found[mask], (clip.joints + torch.tensor([0.5, 0, 0]))[mask], rtol=0, atol=1e-6)
    change = found - clip.joints
    frames = mask.any(1)
    assert change[frames][:, 15, 0].min() > 0.4, "the head goes with the pelvis"
    assert change[..., 1:].abs().max() < 1e-5, "only the axis that is asked for"


def test_a_motion_at_its_targets_stays_and_every_frame_has_features():
    clip = next(clips("test", [3]))
    features = features_of(clip.joints)[:36]
    joints = joints_of_features(features)
    made = projected(Motions([features], [joints]), [controls(joints, cells(36, [0, 20], [0, 10]), (0.0, 0.0, 0.0))])
    assert torch.equal(made.joints[0], joints) and made.features[0].shape == (36, 263)
    torch.testing.assert_close(joints_of_features(made.features[0][:35]), joints[:35], rtol=0, atol=0.02)
