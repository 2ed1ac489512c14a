"""The light slab against the two-plane formula, NeRF's NDC and its own way back."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import intrinsics, look_at
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab, ndc_frame
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.training.datasets.pocketworld.cameras import planar_grid

SEEDS = st.integers(0, 2**31)


def random_frame(generator):
    """World to a slab's frame: a camera anywhere that looks anywhere."""
    return look_at(*(3 * torch.randn(3, 3, generator=generator, dtype=torch.float64)))


def random_rays(frame, generator, count=50):
    """Rays in the world that in the frame start before z = 1 and run ahead."""
    origins = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    directions = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    origins[:, 2] = 1 - origins[:, 2].abs() - 0.1
    directions[:, 2] = directions[:, 2].abs() + 0.1
    rotation, translation = frame[:3, :3], frame[:3, 3]
    return (origins - translation) @ rotation, directions @ rotation


def naive_coordinates(slab, origin, direction):
    """The two-plane formula of one ray, in numbers."""
    o = [sum(float(slab.frame[i, j] * origin[j]) for j in range(3)) + float(slab.frame[i, 3]) for i in range(3)]
    d = [sum(float(slab.frame[i, j] * direction[j]) for j in range(3)) for i in range(3)]
    hits = [o[axis] + (z - o[2]) / d[2] * d[axis] for z in (slab.near, slab.far) for axis in (0, 1)]
    return [2 * (hit - low) / (high - low) - 1 for hit, low, high in zip(hits, slab.low, slab.high, strict=True)]


def nerf_ndc(origins, directions, focal, height, width, near):
    """NDC rays as NeRF's appendix C writes them, in OpenGL axes (x right, y up, z backward)."""
    t = -(near + origins[:, 2]) / directions[:, 2]
    (ox, oy, oz), (dx, dy, dz) = (origins + t[:, None] * directions).T, directions.T
    a, b = -focal / (width / 2), -focal / (height / 2)
    ndc_origins = torch.stack((a * ox / oz, b * oy / oz, 1 + 2 * near / oz), -1)
    return ndc_origins, torch.stack((a * (dx / dz - ox / oz), b * (dy / dz - oy / oz), -2 * near / oz), -1)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_coordinates_are_the_two_plane_formula(seed):
    generator = torch.Generator().manual_seed(seed)
    frame = random_frame(generator)
    origins, directions = random_rays(frame, generator, 5)
    low, high = torch.tensor([[-1, -2, -3, -4], [1, 3, 2, 1]], dtype=torch.float64)
    slab = LightSlab(frame, -0.4, 1.3, low, high)
    naive = [naive_coordinates(slab, o, d) for o, d in zip(origins, directions, strict=True)]
    assert_close(slab.coordinates(origins, directions), torch.tensor(naive, dtype=torch.float64), atol=1e-9, rtol=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_coordinates_of_rays_and_rays_of_coordinates_undo_each_other(seed):
    generator = torch.Generator().manual_seed(seed)
    frame = random_frame(generator)
    origins, directions = random_rays(frame, generator)
    slab = LightSlab.of_rays(frame, -0.4, 1.0, origins, directions)
    coordinates = slab.coordinates(origins, directions)
    assert_close(coordinates.amin(0), -torch.ones(4, dtype=torch.float64))
    assert_close(coordinates.amax(0), torch.ones(4, dtype=torch.float64))

    on_first, to_second = slab.rays_of(coordinates)
    z = frame[2, :3]
    assert_close(on_first @ z + frame[2, 3], torch.full((50,), -0.4, dtype=torch.float64))
    assert_close((on_first + to_second) @ z + frame[2, 3], torch.ones(50, dtype=torch.float64))
    cosines = torch.nn.functional.cosine_similarity(to_second, directions)
    assert_close(cosines, torch.ones(50, dtype=torch.float64))  # the same way along ...
    away = torch.linalg.cross(on_first - origins, torch.nn.functional.normalize(directions, dim=-1))
    assert away.norm(dim=-1).max() < 1e-9  # ... the same line
    assert_close(slab.coordinates(on_first, to_second), coordinates)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(-5, 5), st.floats(0.01, 100))
def test_a_ray_is_its_line_wherever_it_starts(seed, shift, length):
    generator = torch.Generator().manual_seed(seed)
    frame = random_frame(generator)
    origins, directions = random_rays(frame, generator)
    slab = LightSlab(frame, -0.4, 1.0, low=-torch.ones(4), high=torch.ones(4))
    moved = slab.coordinates(origins + shift * directions, length * directions)
    assert_close(moved, slab.coordinates(origins, directions), atol=1e-8, rtol=1e-8)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.1, 10))
def test_ndc_is_a_slab_with_its_second_plane_at_infinity(seed, near):
    generator = torch.Generator().manual_seed(seed)
    frame = random_frame(generator)
    origins, directions = random_rays(frame, generator)
    K = intrinsics(50.0, 63, 84, dtype=torch.float64)
    ends = {"low": -torch.ones(4, dtype=torch.float64), "high": torch.ones(4, dtype=torch.float64)}
    slab = LightSlab(ndc_frame(frame, K, 63, 84, near), -1.0, 1.0, **ends)
    coordinates = slab.coordinates(origins, directions)

    opengl = torch.tensor([1.0, -1, -1], dtype=torch.float64)
    in_camera = (origins @ frame[:3, :3].mT + frame[:3, 3]) * opengl, directions @ frame[:3, :3].mT * opengl
    o_ndc, d_ndc = nerf_ndc(*in_camera, float(K[0, 0]), 63, 84, near)
    up = torch.tensor([1.0, -1], dtype=torch.float64)
    expected = torch.cat((o_ndc[:, :2] * up, (o_ndc + d_ndc)[:, :2] * up), -1)
    assert_close(coordinates, expected, atol=1e-8, rtol=1e-8)

    slab.check_rays(origins, directions)
    back = slab.rays_of(coordinates)
    assert_close(back[0] @ frame[2, :3] + frame[2, 3], torch.full((50,), near, dtype=torch.float64))
    assert_close(torch.nn.functional.cosine_similarity(back[1], directions), torch.ones(50, dtype=torch.float64))
    assert_close(slab.coordinates(*back), coordinates, atol=1e-8, rtol=1e-8)


def grid_rays(size=9):
    viewmats, K = planar_grid(3, 3, 0.25), intrinsics(40.0, size, size)
    return viewmats[1, 1], *pixel_rays(viewmats, K.expand(3, 3, 3, 3), size, size)


def test_a_camera_grid_gives_places_and_points_of_focus():
    frame, origins, directions = grid_rays()
    slab = LightSlab.of_rays(frame, 0.0, 6.0, origins, directions)
    coordinates = slab.coordinates(origins, directions)
    row = torch.tensor([-1.0, 0, 1])
    places = torch.stack(torch.meshgrid(row, row, indexing="xy"), -1)[:, :, None, None].expand(3, 3, 9, 9, 2)
    assert_close(coordinates[..., :2], places, atol=1e-5, rtol=0)  # each camera at its place in the grid

    focus = torch.tensor([0.3, -0.2, 6.0])  # a point of the second plane has one (u, v) from all cameras
    in_world = (focus - frame[:3, 3]) @ frame[:3, :3]
    seen = slab.coordinates(origins[:, :, 0, 0], in_world - origins[:, :, 0, 0])[..., 2:].reshape(9, 2)
    assert_close(seen, seen[:1].expand(9, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("projective", [False, True])
def test_the_outermost_rays_of_the_pictures_make_the_slab_of_all(projective):
    frame, origins, directions = grid_rays()
    turn = look_at((0.2, 0.1, 0.0), (0.0, 0.0, 5.0), (0, -1, 0.0))  # so that no plane is a picture's
    planes = (0.0, 6.0)
    if projective:
        turn, planes = ndc_frame(turn, intrinsics(40.0, 9, 9), 9, 9), (-1.0, 1.0)
    ends = torch.tensor([0, -1])
    corners = [values[:, :, ends][:, :, :, ends] for values in (origins, directions)]
    whole = LightSlab.of_rays(turn @ frame, *planes, origins, directions)
    outer = LightSlab.of_rays(turn @ frame, *planes, *corners)
    assert_close((outer.low, outer.high), (whole.low, whole.high))


def test_coordinates_have_gradients_and_need_no_look_at_values():
    frame, origins, directions = grid_rays()
    slab = LightSlab.of_rays(frame, 0.0, 6.0, origins, directions)
    planes = torch.tensor(slab.near), torch.tensor(slab.far)
    empty = [value.to("meta") for value in (slab.frame, *planes, slab.low, slab.high, origins, directions)]
    assert LightSlab(*empty[:5]).coordinates(*empty[5:]).shape == (3, 3, 9, 9, 4)

    inputs = [value[0, 0, 0, :2].double().requires_grad_() for value in (origins, directions)]
    exact = LightSlab(frame.double(), 0.0, 6.0, slab.low.double(), slab.high.double())
    assert torch.autograd.gradcheck(exact.coordinates, inputs)


TO_SECOND = "rays must run from the light slab's first plane to its second"
LEVEL = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
STARTS = torch.tensor([[0.0, 0.0, -1.0]])


@pytest.mark.parametrize(
    ("origins", "directions", "message"),
    [
        (STARTS, torch.tensor([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0]]), f"{TO_SECOND}, .* direction [1.0, 2.0, 0.0]."),
        (STARTS, torch.tensor([[1000.0, 0.0, 0.9]]), f"{TO_SECOND}, .* direction [1000.0, 0.0, 0.9]."),
        (STARTS, torch.tensor([[0.0, 0.0, -1.0]]), f"{TO_SECOND}, .* back as in direction [0.0, 0.0, -1.0]."),
        (STARTS, torch.zeros(1, 3), f"{TO_SECOND}, .* direction [0.0, 0.0, 0.0]."),
        (torch.tensor([[0.0, 1.0, 2.0]]), LEVEL, "before the light slab's second plane, .* at [0.0, 1.0, 2.0]."),
        (STARTS, torch.tensor([[0.0, torch.nan, 1.0]]), "directions of rays must be finite, not [0.0, nan, 1.0]."),
        (torch.full((1, 3), torch.inf), LEVEL, "origins of rays must be finite, not [inf, inf, inf]."),
        (torch.tensor([[0.0, 0.0, 0.0]]), LEVEL, "rays must differ in x, y, u and v, not share x = 0;"),
    ],
)
def test_rays_that_a_slab_cannot_tell_apart_are_refused_in_one_sentence(origins, directions, message):
    pattern = re.escape(message).replace(re.escape(".*"), ".*")
    with pytest.raises(ValueError, match=pattern) as caught:
        LightSlab.of_rays(torch.eye(4), 0.0, 2.0, origins, directions)
    assert len(str(caught.value).splitlines()) == 1


def test_planes_in_the_wrong_order_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="far must be above near, which is 2.0, not 1.0."):
        LightSlab.of_rays(torch.eye(4), 2.0, 1.0, STARTS, LEVEL)
    with pytest.raises(ValueError, match=re.escape("high must be [4], not [3].")):
        LightSlab(torch.eye(4), 0.0, 1.0, torch.zeros(4), torch.ones(3))
    with pytest.raises(ValueError, match="near must be above 0, not 0.0."):
        ndc_frame(torch.eye(4), torch.eye(3), 10, 10, near=0.0)
