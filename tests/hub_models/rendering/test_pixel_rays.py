"""Rays through pixels against PocketWorld's projection, and against the pixels of the whole picture."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import camera_centres, intrinsics, look_at
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays, rays_through
from pocket_diffusers.training.datasets.pocketworld.cameras import default_camera, project, ring
from pocket_diffusers.training.datasets.pocketworld.render import render
from pocket_diffusers.training.datasets.pocketworld.scene import Scene, SceneObject

EYES = st.tuples(*(3 * [st.floats(-5, 5)]))


def skewed(fov_y, height, width):
    K = intrinsics(fov_y, height, width, torch.float64)
    K[0, 1], K[0, 2] = 0.3, K[0, 2] + 1.7  # skew and an off-centre principal point
    return K


@settings(max_examples=40, deadline=None)
@given(EYES, st.floats(20, 100), st.integers(1, 5), st.integers(1, 5), st.integers(1, 12), st.integers(0, 99))
def test_a_ray_projects_back_to_the_centre_of_its_block_of_pixels(eye, fov_y, rows, columns, scale, seed):
    assume(math.hypot(eye[0], eye[2]) > 0.05)
    viewmat = look_at(torch.tensor(eye, dtype=torch.float64), (0.0, 0.0, 0.0))
    K = skewed(fov_y, scale * rows, scale * columns)
    origins, directions = pixel_rays(viewmat, K, scale * rows, scale * columns, scale)
    assert origins.shape == directions.shape == (rows, columns, 3)
    depth = torch.rand(rows, columns, 1, generator=torch.Generator().manual_seed(seed)).double() * 9 + 0.1
    uv, z = project((origins + depth * directions).reshape(-1, 3), viewmat, K)
    centres = [[(column + 0.5) * scale, (row + 0.5) * scale] for row in range(rows) for column in range(columns)]
    assert_close(uv, torch.tensor(centres, dtype=torch.float64), atol=1e-6, rtol=0)
    assert_close(z, depth.flatten(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("scale", [2, 3, 8, 12])
def test_rays_of_a_smaller_picture_are_not_shifted(scale):
    viewmats, K = ring(3).double(), skewed(50.0, 24, 48)
    origins, directions = pixel_rays(viewmats, K, 24, 48)
    small_origins, small = pixel_rays(viewmats, K, 24, 48, scale)
    averaged = F.avg_pool2d(directions.movedim(-1, 1), scale).movedim(1, -1)  # directions are linear in the pixel
    assert_close(small, averaged)
    assert_close(small_origins, origins[:, ::scale, ::scale])
    in_small_pixels = torch.tensor([1 / scale, 1 / scale, 1], dtype=torch.float64)[:, None] * K
    assert_close(small, pixel_rays(viewmats, in_small_pixels, 24 // scale, 48 // scale)[1])


def test_a_ray_meets_the_object_that_its_pixel_shows():
    height, width, scale = 32, 48, 4
    viewmat, K = default_camera((height, width))
    ball = SceneObject("sphere", "red", "large", (0.4, 0.9, -0.3), yaw=0.0)
    shown = render([Scene((ball,))], viewmat, K, (height, width)).instances[0] == 0
    assert shown.sum() > 50
    assert_close(_meets(ball, *pixel_rays(viewmat, K, height, width)), shown)
    small = _meets(ball, *pixel_rays(viewmat, K, height, width, scale))
    blocks = F.avg_pool2d(shown[None].float(), scale)[0]
    assert small[blocks == 1].all() and not small[blocks == 0].any()


def _meets(ball, origins, directions):
    aside = torch.linalg.cross(F.normalize(directions, dim=-1), torch.tensor(ball.position) - origins)
    return aside.norm(dim=-1) < ball.radius


def test_leading_dimensions_broadcast():
    viewmats, Ks = ring(4).double(), torch.stack([skewed(fov_y, 6, 8) for fov_y in (40.0, 60.0)])[:, None]
    origins, directions = pixel_rays(viewmats, Ks, 6, 8, 2)
    assert origins.shape == directions.shape == (2, 4, 3, 4, 3)
    assert_close(directions[1, 2], pixel_rays(viewmats[2], Ks[1, 0], 6, 8, 2)[1])
    assert_close(origins[1, 2, 2, 3], camera_centres(viewmats)[2])
    assert_close(camera_centres(viewmats), torch.linalg.inv(viewmats)[:, :3, 3])


@pytest.mark.parametrize(
    ("size", "scale", "message"),
    [
        ((0, 8), 1, "size must be a whole number of pixels"),
        ((8, 8), 0, "scale must be a whole number of pixels, at least 1, not 0."),
        ((8, 8), 1.5, "scale must be a whole number of pixels, at least 1, not 1.5."),
        ((8, 12), 8, "height and width must be multiples of 8, not 8 and 12."),
    ],
)
def test_sizes_out_of_range_are_refused(size, scale, message):
    with pytest.raises(ValueError, match=message):
        pixel_rays(torch.eye(4), torch.eye(3), *size, scale)


def test_a_ray_through_a_pixel_of_any_camera_is_that_of_its_whole_picture():
    viewmats = look_at(torch.tensor([[0.0, 1.0, 3.0], [2.0, -1.0, 1.0]], dtype=torch.float64), (0.1, 0.2, 0.3))
    Ks = torch.stack([skewed(40.0, 6, 9), skewed(70.0, 6, 9)]).double()
    view, row, column = torch.tensor([1, 0, 1]), torch.tensor([0, 5, 3]), torch.tensor([8, 2, 4])
    places = torch.stack([column, row], 1).double() + 0.5
    for some, whole in zip(rays_through(viewmats[view], Ks[view], places), pixel_rays(viewmats, Ks, 6, 9), strict=True):
        assert_close(some, whole[view, row, column])
