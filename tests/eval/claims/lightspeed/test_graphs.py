"""Graphs that are timed show what their fields show."""

import numpy as np
import onnxruntime
import pytest
import torch

from pocket_diffusers.eval.claims.lightspeed.contenders import build_graph
from pocket_diffusers.eval.claims.lightspeed.graphs import Frame, lightspeed_view, mobile_r2l_view, write_graph
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays

FRAME = Frame("nano", "8x", height=16, width=24)


def test_a_graph_goes_from_pose_to_pixels(tmp_path):
    made = lightspeed_view(FRAME)
    write_graph(made, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    pose = torch.eye(4)[None]
    pose[0, :3, 3] = torch.tensor([0.3, -0.2, 0.1])
    (shown,) = session.run(None, {session.get_inputs()[0].name: pose.numpy()})
    rays = (value.movedim(-1, 1) for value in pixel_rays(pose, made.K, 16, 24, 8))
    with torch.no_grad():
        assert np.allclose(shown, made.field.eval()(*rays).numpy(), atol=1e-5)
    assert shown.shape == (1, 3, 16, 24)
    work = build_graph(str(tmp_path / "a.onnx"), threads=1)
    assert work.facts["graph_bytes"] == (tmp_path / "a.onnx").stat().st_size and work.facts["imports_mb"] > 10
    assert work.call()[0].shape == shown.shape


def test_mobile_r2l_has_its_published_size_and_the_same_frame():
    made = mobile_r2l_view(FRAME)
    assert sum(value.numel() for value in made.field.parameters()) == 4_305_539
    with torch.no_grad():
        assert made.eval()(torch.eye(4)[None]).shape == (1, 3, 16, 24)


def test_rays_of_a_camera_at_the_origin_spread_over_the_whole_second_plane():
    made = lightspeed_view(FRAME)
    seen = []
    made.field.sub_scenes[0].grid.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    made.eval()(torch.eye(4)[None])
    (coordinates,) = seen
    assert torch.allclose(coordinates[:, :2], torch.zeros(()), atol=1e-6)
    assert coordinates[:, 2].max() == pytest.approx(1 - 8 / 24, abs=1e-4), "the middle of the last block"
    assert 0.2 < float(coordinates[:, 3].max()) <= 1
