"""Cameras on a circle, and one for many."""

import math

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import camera_centres, look_at, mean_camera, orbit


@pytest.mark.parametrize("up", [(0, 1, 0), (0, -1, 0), (0, 0, 1), (1, 0, 0), (1.0, 2.0, -0.5)])
@pytest.mark.parametrize("elevation", [-40.0, 0.0, 60.0])
def test_cameras_stand_evenly_on_a_circle_and_see_its_centre(up, elevation):
    center, axis = torch.tensor([1.0, -2.0, 0.5]), torch.nn.functional.normalize(torch.tensor(up).float(), dim=0)
    viewmats = orbit(center.tolist(), 3.0, 5, elevation, up)
    rotation, translation = viewmats[:, :3, :3], viewmats[:, :3, 3]
    assert_close(rotation @ rotation.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(rotation), torch.ones(5), atol=1e-5, rtol=0)
    seen = rotation @ center + translation
    assert_close(seen, torch.tensor([0.0, 0.0, 3.0]).expand(5, 3), atol=1e-5, rtol=0)  # ahead, in the middle
    eyes = -(rotation.mT @ translation[..., None])[..., 0] - center
    assert_close(eyes @ axis, torch.full((5,), 3 * math.sin(math.radians(elevation))), atol=1e-5, rtol=0)
    flat = eyes - (eyes @ axis)[:, None] * axis
    turns = torch.nn.functional.cosine_similarity(flat, flat.roll(-1, 0))
    assert_close(turns, torch.full((5,), math.cos(2 * math.pi / 5)), atol=1e-5, rtol=0)
    turning = torch.linalg.cross(flat, flat.roll(-1, 0)) @ axis
    assert (turning > 0).all(), "counter-clockwise seen from above"
    assert ((rotation @ axis)[:, 1] < 0).all() and ((rotation @ axis)[:, 0].abs() < 1e-5).all()  # up is up, not aslant


@pytest.mark.parametrize("arguments", [(0.0, 3), (-1.0, 3), (math.nan, 3), (1.0, 0), (1.0, 3, 90.0), (1.0, 3, -90.0)])
def test_no_circle_is_refused_in_one_sentence(arguments):
    with pytest.raises(ValueError, match="orbit needs a positive radius") as caught:
        orbit((0, 0, 0), *arguments)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_camera_stands_in_the_middle_and_looks_between_all_others_upright_as_they_are(dtype):
    draw = torch.Generator().manual_seed(0)
    eyes, targets = torch.randn(2, 9, 3, generator=draw, dtype=dtype).unbind(0)
    targets[:, 2] += 6
    viewmats = look_at(eyes, targets, torch.tensor([0.2, -1.0, 0.1], dtype=dtype))
    found = mean_camera(viewmats)
    right, down, forward = found[:3, :3]
    tolerance = {"atol": 1e-5, "rtol": 0}
    assert found.dtype == dtype
    assert_close(found[:3, :3] @ found[:3, :3].mT, torch.eye(3, dtype=dtype), **tolerance)
    assert_close(torch.linalg.det(found[:3, :3]), torch.ones((), dtype=dtype), **tolerance)
    assert_close(camera_centres(found), eyes.mean(0), **tolerance)
    assert_close(forward, torch.nn.functional.normalize(viewmats[:, 2, :3].mean(0), dim=0), **tolerance)
    ups = -viewmats[:, 1, :3].mean(0)
    assert abs(float(right @ ups)) < 1e-5 and float(down @ ups) < 0


def test_the_mean_of_cameras_that_are_turned_alike_is_turned_so_too():
    viewmats = look_at((1.0, 2, 3), (2.0, 0, 8), (0.1, 1, 0)).repeat(4, 1, 1)
    viewmats[:, :3, 3] += torch.tensor([[1.0, 0, 2], [-1, 0, 2], [0, 3, -2], [0, -3, -2]])
    assert_close(mean_camera(viewmats), look_at((1.0, 2, 3), (2.0, 0, 8), (0.1, 1, 0)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("elevation", [0.0, 20.0, 60.0])
def test_cameras_around_a_scene_have_no_mean(elevation):
    with pytest.raises(ValueError, match=r"^cameras must look about the same way, not all around\.$"):
        mean_camera(orbit((0, 0, 0), 3.0, 8, elevation))
