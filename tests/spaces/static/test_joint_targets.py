"""Targets of joints in the browser, beside Python's controls and their loss."""

import shutil

import numpy as np
import torch

from pocket_diffusers.pipelines.motion.motion_controls import MotionControls, control_features
from pocket_diffusers.pipelines.motion.motion_objectives import ControlTargets
from pocket_diffusers.spaces.build_static import SHARED

FRAMES, CONTROL_JOINTS = 24, (0, 10, 15)
CELLS = ((0, 0), (0, 15), (7, 10), (8, 10), (9, 3), (23, 0))
"""Frames and joints; the control branch does not know joint 3."""


def test_control_gradient_and_misses_are_python_s(tmp_path, serve_folder, open_page):
    shutil.copyfile(SHARED / "joint_targets.js", tmp_path / "joint_targets.js")
    (tmp_path / "index.html").write_text('<!doctype html><title>blank</title><link rel="icon" href="data:,">')
    draw = torch.Generator().manual_seed(0)
    joints = torch.randn(FRAMES, 22, 3, generator=draw)
    targets, mask = torch.randn(FRAMES, 22, 3, generator=draw), torch.zeros(FRAMES, 22, dtype=torch.bool)
    places = tuple(torch.tensor(CELLS).T)
    mask[places] = True
    asked = MotionControls(targets, mask)
    listed = [{"frame": frame, "joint": joint, "position": targets[frame, joint].tolist()} for frame, joint in CELLS]
    code = """async ([listed, joints, known]) => {
        const { JointTargets } = await import("/joint_targets.js");
        const [targets, now] = [new JointTargets(listed, 22), Float32Array.from(joints)];
        return [targets.control(now, known), targets.gradient(now), targets.misses(now)].map((one) => Array.from(one));
    }"""
    given = [listed, joints.flatten().tolist(), CONTROL_JOINTS]
    control, gradient, misses = open_page(serve_folder(tmp_path)).evaluate(code, given)
    expected = control_features(joints, asked.targets, asked.mask, CONTROL_JOINTS)
    np.testing.assert_allclose(control, expected.flatten(), atol=1e-6)
    now = joints[None].requires_grad_(True)
    ControlTargets(asked.targets, asked.mask)(now).backward()
    np.testing.assert_allclose(gradient, now.grad.flatten(), atol=1e-7)
    np.testing.assert_allclose(misses, (joints - asked.targets)[places].norm(dim=-1), rtol=1e-5)
