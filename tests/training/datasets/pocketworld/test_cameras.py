"""Cameras against projective geometry worked out by hand and by an independent route."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.pocketworld.cameras import (
    PATHS,
    CameraPath,
    Viewpoint,
    default_camera,
    dolly,
    frozen_orbit,
    intrinsics,
    look_at,
    orbit,
    pan,
    picture_size,
    planar_grid,
    project,
    ring,
    still,
)

DISTANCE = 5.8  # of the default camera from its target
TARGET = torch.tensor([[0.0, 0.55, 0.0]])
coordinate = st.floats(-5.0, 5.0)
points = st.tuples(coordinate, coordinate, coordinate)


def centres(viewmats):
    return torch.linalg.inv(viewmats.double())[..., :3, 3]


def assert_rigid(viewmats):
    rotation = viewmats[..., :3, :3].double()
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation).gt(0.99).all()
    bottom = viewmats.new_tensor([0, 0, 0, 1.0]).expand(*viewmats.shape[:-2], 4)
    assert torch.equal(viewmats[..., 3, :], bottom)


@settings(max_examples=60, deadline=None)
@given(points, points)
def test_look_at_is_rigid_right_handed_and_centres_its_target(eye, target):
    eye, target = torch.tensor(eye, dtype=torch.float64), torch.tensor(target, dtype=torch.float64)
    across = (target - eye)[[0, 2]].norm()
    assume(across > 0.05)
    viewmat = look_at(eye, target)
    assert viewmat.dtype == torch.float64
    assert_rigid(viewmat)
    torch.testing.assert_close(centres(viewmat), eye, atol=1e-9, rtol=0)
    uv, depth = project(target[None], viewmat, intrinsics(50.0, 30, 40, torch.float64))
    torch.testing.assert_close(uv[0], torch.tensor([20.0, 15.0]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(depth[0], (target - eye).norm(), atol=1e-9, rtol=0)


def test_right_is_right_and_up_is_up_in_the_picture():
    viewmat, K = look_at((0.0, 0.0, 4.0), (0.0, 0.0, 0.0)), intrinsics(90.0, 100, 100)
    # focal = 50 pixels; all three points lie 4 in front of the camera, the last one 5
    uv, depth = project(torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.0, 2, 0], [-1.0, -1, -1]]), viewmat, K)
    torch.testing.assert_close(uv, torch.tensor([[50.0, 50], [62.5, 50], [50, 25], [40, 60]]))
    torch.testing.assert_close(depth, torch.tensor([4.0, 4, 4, 5]))


def test_look_at_broadcasts_and_keeps_dtype():
    eyes = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 0, 9])
    viewmats = look_at(eyes, (0.0, 0.0, 0.0))
    assert viewmats.shape == (2, 5, 4, 4)
    assert viewmats.dtype == torch.float32
    torch.testing.assert_close(viewmats[1, 3], look_at(eyes[1, 3], torch.zeros(3)))


def test_default_camera_matches_the_world_description():
    viewmat, K = default_camera(64)
    eye = centres(viewmat)
    offset = eye - TARGET[0].double()
    assert offset.norm().item() == pytest.approx(DISTANCE, abs=1e-5)
    assert math.degrees(math.asin(offset[1] / offset.norm())) == pytest.approx(24.0, abs=1e-4)
    assert abs(offset[0]) < 1e-6
    assert offset[2] > 0
    assert K[1, 1].item() == pytest.approx(32 / math.tan(math.radians(20)))
    assert K[0, 0] == K[1, 1]
    assert K[:2, 2].tolist() == [32, 32]
    wide = default_camera((48, 96))[1]
    assert wide[:2, 2].tolist() == [48, 24]
    assert wide[0, 0].item() == pytest.approx(24 / math.tan(math.radians(20)))


def test_project_broadcasts_leading_dimensions():
    viewmats, K = ring(4).double(), intrinsics(40.0, 6, 8, torch.float64)
    cloud = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
    uv, depth = project(cloud, viewmats, K)
    assert uv.shape == (4, 7, 2)
    assert depth.shape == (4, 7)
    homogeneous = torch.cat((cloud, torch.ones(7, 1)), -1)
    for view in range(4):
        by_hand = (K @ (viewmats[view] @ homogeneous.T)[:3]).T
        torch.testing.assert_close(uv[view], by_hand[:, :2] / by_hand[:, 2:])
        torch.testing.assert_close(depth[view], by_hand[:, 2])


def test_field_of_view_spans_the_outer_pixel_edges():
    viewmat, K = look_at((0.0, 0.0, 1.0), (0.0, 0.0, 0.0)), intrinsics(60.0, 40, 80)
    top = torch.tensor([[0.0, math.tan(math.radians(30)), 0.0], [2 * math.tan(math.radians(30)), 0.0, 0.0]])
    uv, _ = project(top, viewmat, K)
    torch.testing.assert_close(uv, torch.tensor([[40.0, 0.0], [80.0, 20.0]]), atol=1e-4, rtol=0)


def test_ring_cameras_stand_evenly_and_look_at_the_target():
    viewmats = ring(6, elevation=30.0, radius=5.0, target=(0.2, 0.5, -0.1), azimuth=15.0)
    target = torch.tensor([[0.2, 0.5, -0.1]])
    assert_rigid(viewmats)
    uv, depth = project(target, viewmats, intrinsics(40.0, 64, 64))
    torch.testing.assert_close(uv, torch.full((6, 1, 2), 32.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, torch.full((6, 1), 5.0))
    offsets = centres(viewmats) - target
    torch.testing.assert_close(offsets[:, 1], torch.full((6,), 2.5).double(), atol=1e-5, rtol=0)
    azimuths = torch.rad2deg(torch.atan2(offsets[:, 0], offsets[:, 2])) % 360
    torch.testing.assert_close(azimuths, torch.arange(15.0, 375, 60).double(), atol=1e-3, rtol=0)


def test_planar_grid_is_rectified():
    grid = planar_grid(3, 5, 0.2)
    assert grid.shape == (3, 5, 4, 4)
    assert_rigid(grid)
    assert torch.equal(grid[..., :3, :3], grid[0, 0, :3, :3].expand(3, 5, 3, 3))
    torch.testing.assert_close(grid[1, 2], default_camera(8)[0])
    cloud = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    K = default_camera(64)[1]
    uv, depth = project(cloud, grid, K)  # [3, 5, 20, 2]
    torch.testing.assert_close(depth, depth[:1, :1].expand_as(depth), atol=1e-5, rtol=0)
    torch.testing.assert_close(uv[..., 1], uv[:, :1, :, 1].expand(3, 5, 20), atol=1e-3, rtol=0)
    torch.testing.assert_close(uv[..., 0], uv[:1, :, :, 0].expand(3, 5, 20), atol=1e-3, rtol=0)
    disparity = K[0, 0] * 0.2 / depth[1, 2]  # focal * baseline / depth
    torch.testing.assert_close(uv[1, 1, :, 0] - uv[1, 2, :, 0], disparity, atol=1e-3, rtol=0)
    torch.testing.assert_close(uv[0, 2, :, 1] - uv[1, 2, :, 1], disparity, atol=1e-3, rtol=0)
    assert centres(grid)[0, 0, 1] > centres(grid)[2, 0, 1]  # row 0 is the highest
    assert centres(grid)[0, 0, 0] < centres(grid)[0, 4, 0]  # column 0 the leftmost


@pytest.mark.parametrize("name", PATHS)
def test_paths_have_one_rigid_camera_and_one_time_a_frame(name):
    path = PATHS[name](5, (24, 32))
    assert isinstance(path, CameraPath)
    assert path.viewmats.shape == (5, 4, 4)
    assert path.Ks.shape == (5, 3, 3)
    assert path.times.shape == (5,)
    assert_rigid(path.viewmats)
    default, K = default_camera((24, 32))
    torch.testing.assert_close(path.viewmats[2], default)  # the middle of every path is the default view
    assert torch.equal(path.Ks, K.expand(5, 3, 3))
    torch.testing.assert_close(PATHS[name](1, 24).viewmats[0], default)


def test_still_keeps_the_camera_and_runs_the_clock():
    path = still(8, 16, duration=2.0)
    assert torch.equal(path.viewmats, path.viewmats[:1].expand(8, 4, 4))
    torch.testing.assert_close(path.times, torch.arange(8) / 4)


def test_pan_turns_right_in_place():
    path = pan(3, 64, degrees=10.0)
    torch.testing.assert_close(centres(path.viewmats), centres(path.viewmats)[:1].expand(3, 3))
    forward = path.viewmats[:, 2, :3].double()
    bearing = torch.rad2deg(torch.atan2(forward[:, 0], -forward[:, 2]))
    torch.testing.assert_close(bearing, torch.tensor([-5.0, 0, 5]).double(), atol=1e-3, rtol=0)
    uv, _ = project(TARGET, path.viewmats, path.Ks)
    assert (uv[:, 0, 0].diff() < 0).all()  # the world moves left as the camera turns right


def test_orbit_keeps_distance_height_and_target():
    path = orbit(5, 64, degrees=60.0)
    offsets = centres(path.viewmats) - TARGET
    torch.testing.assert_close(offsets.norm(dim=1), torch.full((5,), DISTANCE).double(), atol=1e-5, rtol=0)
    azimuths = torch.rad2deg(torch.atan2(offsets[:, 0], offsets[:, 2]))
    torch.testing.assert_close(azimuths, torch.arange(-30.0, 31, 15).double(), atol=1e-3, rtol=0)
    uv, _ = project(TARGET, path.viewmats, path.Ks)
    torch.testing.assert_close(uv, torch.full((5, 1, 2), 32.0), atol=1e-3, rtol=0)
    assert (path.times.diff() > 0).all()


def test_frozen_orbit_is_the_same_orbit_at_one_time():
    frozen, moving = frozen_orbit(5, 64, time=0.75, degrees=60.0), orbit(5, 64, degrees=60.0)
    assert torch.equal(frozen.viewmats, moving.viewmats)
    assert torch.equal(frozen.times, torch.full((5,), 0.75))


def test_dolly_nears_its_target_on_a_line():
    path = dolly(3, 64, nearer=0.3)
    uv, depth = project(TARGET, path.viewmats, path.Ks)
    torch.testing.assert_close(depth.flatten(), DISTANCE * torch.tensor([1.15, 1.0, 0.85]))
    torch.testing.assert_close(uv, torch.full((3, 1, 2), 32.0), atol=1e-3, rtol=0)
    assert torch.equal(path.viewmats[:, :3, :3], path.viewmats[:1, :3, :3].expand(3, 3, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: look_at((0.0, 1, 2), (0.0, 1, 2)), "eye and target must differ"),
        (lambda: look_at((0.0, 5, 0), (0.0, 1, 0)), "must not look along up"),
        (lambda: intrinsics(180.0, 8, 8), "fov_y_degrees .* 180.0"),
        (lambda: intrinsics(40.0, 0, 8), r"size .* \(0, 8\)"),
        (lambda: picture_size((3, 4, 5)), r"size .* \(3, 4, 5\)"),
        (lambda: default_camera(6.5), "size .* 6.5"),
        (lambda: Viewpoint(elevation=90.0), "elevation .* 90.0"),
        (lambda: Viewpoint(distance=0.0), "distance .* 0.0"),
        (lambda: Viewpoint(fov_y=0.0), "fov_y .* 0.0"),
        (lambda: still(0, 16), "frames .* 0"),
        (lambda: orbit(4, 16, duration=-1.0), "duration .* -1.0"),
        (lambda: dolly(4, 16, nearer=2.0), "nearer .* 2.0"),
        (lambda: ring(0), "views .* 0"),
        (lambda: planar_grid(0, 3, 0.1), "rows and cols .* 0 and 3"),
        (lambda: planar_grid(2, 3, 0.0), "spacing .* 0.0"),
        (lambda: project(torch.zeros(3), torch.eye(4), torch.eye(3)), r"points .* \[3\]"),
    ],
)
def test_bad_cameras_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
