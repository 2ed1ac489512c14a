"""The ray caster against trimesh's ray-mesh intersection, closed forms, and other pictures of one scene."""

import math

import numpy as np
import pytest
import torch
import trimesh

from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.training.datasets.pocketworld.cameras import (
    default_camera,
    intrinsics,
    look_at,
    project,
    ring,
)
from pocket_diffusers.training.datasets.pocketworld.meshes import object_mesh
from pocket_diffusers.training.datasets.pocketworld.motion import PROGRAMS, Motion
from pocket_diffusers.training.datasets.pocketworld.placement import sample_scene
from pocket_diffusers.training.datasets.pocketworld.render import Rendering, render
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS, MAX_OBJECTS, SHAPES, Scene, SceneObject

FIELDS = tuple(Rendering.__annotations__)


def make(shape, position, size="large", color="red", yaw=0.0, motion=None):
    return SceneObject(shape, color, size, position, yaw, motion)


def random_scenes(count, seed):
    """`count` scenes of 1 to 5 objects."""
    rng = np.random.default_rng(seed)
    scenes = []
    while len(scenes) < count:
        pairs = [(str(rng.choice(SHAPES)), str(rng.choice(list(COLORS)))) for _ in range(1 + len(scenes) % 5)]
        scene = sample_scene(rng, pairs, hover=0.5)
        scenes += [scene] if scene else []
    return scenes


def random_cameras(count, seed):
    """Views of the middle of the floor from all around, low and high, near and far: [count, 4, 4]."""
    random = torch.rand(5, count, generator=torch.Generator().manual_seed(seed))
    azimuth, elevation, distance = random[0] * 2 * math.pi, random[1] * 1.1 + 0.03, random[2] * 4 + 3.5
    offset = torch.stack((elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()), -1)
    target = torch.stack((random[3] - 0.5, torch.full((count,), 0.5), random[4] - 0.5), -1)
    return look_at(target + distance[:, None] * offset, target)


def grown(mask):
    """The mask [..., H, W] and the 8 neighbours of its pixels."""
    return torch.nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0


def shrunk(mask):
    return ~grown(~mask)


def only(picture):
    """The single picture of a rendering as a dict of tensors."""
    return {name: getattr(picture, name)[0] for name in FIELDS}


def shoot(mesh, origins, directions):
    """First hits of rays [N, 3] with a mesh: which rays hit, their parameters and the face normals there."""
    points, index, faces = mesh.ray.intersects_location(origins, directions, multiple_hits=False)
    order = np.argsort(index)
    points, index, faces = points[order], index[order], faces[order]
    along = ((points - origins[index]) * directions[index]).sum(-1) / (directions[index] ** 2).sum(-1)
    return index, along, mesh.face_normals[faces]


# Geometry


@pytest.mark.parametrize("shape", SHAPES)
def test_depth_and_normals_agree_with_ray_mesh_intersection(shape):
    rng, size = np.random.default_rng(SHAPES.index(shape)), (40, 36)
    K = intrinsics(22.0, *size)
    heights = (0.62, 1.2, 2.6)  # at rest or nearly, hovering, and seen from below
    objects = [make(shape, (*rng.uniform(-0.3, 0.3, 1), y, 0.1), yaw=rng.uniform(-3, 3)) for y in heights]
    eyes = torch.tensor([[2.0, 3.5, 3.5], [-3.6, 0.9, 2.4], [1.5, 0.3, -3.0]])
    viewmats = look_at(eyes, torch.tensor([obj.position for obj in objects]))
    picture = render([Scene((obj,)) for obj in objects], viewmats, K, size)
    for view, obj in enumerate(objects):
        mesh, inside = object_mesh(obj), picture.instances[view] == 0
        chosen = rng.choice(inside.numel(), 300, replace=False)
        o, d = (x.reshape(-1, 3)[chosen].double().numpy() for x in pixel_rays(viewmats[view], K, *size))
        hits, depth, normal = shoot(mesh, o, d)
        hit = np.zeros(len(chosen), bool)
        hit[hits] = True
        sure_in = shrunk(inside[None])[0].flatten()[chosen].numpy()
        sure_out = ~grown(inside[None])[0].flatten()[chosen].numpy()
        assert hit[sure_in].all()
        assert not hit[sure_out].any()
        towards = -(d[hits] * normal).sum(-1) / np.linalg.norm(d[hits], axis=-1)
        compare = sure_in[hits] & (towards > 0.25)
        assert compare.sum() > 30
        pixels = chosen[hits[compare]]
        np.testing.assert_allclose(picture.depth[view].flatten()[pixels], depth[compare], atol=2.5e-3)
        exact = picture.normals[view].flatten(1).T[pixels].numpy()
        np.testing.assert_allclose(np.linalg.norm(exact, axis=-1), 1.0, atol=1e-4)
        cosine = (exact * normal[compare]).sum(-1)
        assert cosine.min() > math.cos(math.radians(4.0))  # facets of the mesh turn by up to 5.6 degrees


def test_sphere_and_ground_have_their_closed_form_depth():
    """A sphere seen straight on and the ground beside it, by the plane and sphere equations in float64."""
    viewmat, K = look_at((0.0, 1.5, 5.0), (0.0, 1.5, 0.0)), intrinsics(40.0, 33, 33)
    picture = only(render([Scene((make("sphere", (0.0, 1.5, 0.0)),))], viewmat, K, 33))
    offset = (torch.arange(33).double() + 0.5 - 16.5) / K[0, 0].double()
    v, u = torch.meshgrid(offset, offset, indexing="ij")
    a = u**2 + v**2 + 1
    square = 25 - a * (25 - 0.62**2)  # |t d - (0, 0, 5)|^2 = r^2
    sphere = (5 - square.clamp(min=0).sqrt()) / a
    ground = torch.where(v > 0, 1.5 / v.clamp(min=1e-9), 0.0)
    expected = torch.where(square > 0, sphere, ground).float()
    assert picture["depth"][16, 16].item() == pytest.approx(5 - 0.62, abs=1e-5)
    torch.testing.assert_close(picture["depth"], expected, rtol=1e-4, atol=2e-4)
    assert torch.equal(picture["instances"] == 0, square > 0)
    torch.testing.assert_close(picture["normals"][:, 16, 16], torch.tensor([0.0, 0.0, 1.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(picture["normals"][:, 32, 0], torch.tensor([0.0, 1.0, 0.0]))
    assert (picture["normals"][:, 0, 0] == 0).all()  # sky


def test_instances_are_the_nearest_surface_and_depth_is_its_depth():
    scenes, size = random_scenes(6, seed=1), 48
    viewmats, K = random_cameras(6, seed=1), default_camera(size)[1]
    together = render(scenes, viewmats, K, size)
    for view, scene in enumerate(scenes):
        alone = render([Scene((obj,)) for obj in scene.objects], viewmats[view], K, size)
        depth = torch.where(alone.instances == 0, alone.depth, math.inf)  # [objects, H, W]
        nearest, which = depth.min(dim=0)
        covered = nearest.isfinite()
        torch.testing.assert_close(together.instances[view].long(), torch.where(covered, which, -1))
        torch.testing.assert_close(together.depth[view], torch.where(covered, nearest, together.depth[view]))
        seen_by = torch.where(covered, which, 0)
        normals = alone.normals.gather(0, seen_by.expand(1, 3, -1, -1))[0]
        torch.testing.assert_close(together.normals[view], normals, atol=1e-5, rtol=0)


def test_masks_fill_the_projected_bounds_of_their_meshes():
    size = 64
    objects = [make(shape, (0.2, 0.9, 0.1), yaw=0.4) for shape in SHAPES]
    viewmats, K = random_cameras(5, seed=2), intrinsics(45.0, size, size)
    picture = render([Scene((obj,)) for obj in objects], viewmats, K, size)
    for view, obj in enumerate(objects):
        vertices = torch.as_tensor(np.array(object_mesh(obj).vertices), dtype=torch.float32)
        uv, _ = project(vertices, viewmats[view], K)
        rows, cols = (picture.instances[view] == 0).nonzero().T
        for found, bound in ((cols, uv[:, 0]), (rows, uv[:, 1])):
            centres = found + 0.5
            assert bound.min() - 0.05 <= centres.min() <= bound.min() + 1.5
            assert bound.max() - 1.5 <= centres.max() <= bound.max() + 0.05


def test_moving_scenes_are_rendered_where_their_motion_takes_them():
    times = [0.0, 0.4, 0.9, 1.7, 2.3]
    moving = [make("cube", (0.1, 0.6, 0.0), motion=Motion(name, 0.6, 2.0, 0.5, 0.1)) for name in PROGRAMS]
    viewmat, K = default_camera(32)
    picture = render([Scene((obj,)) for obj in moving], viewmat, K, 32, times=torch.tensor(times).double())
    frozen = render([Scene((obj.at(time),)) for obj, time in zip(moving, times, strict=True)], viewmat, K, 32)
    for name in FIELDS:
        assert torch.equal(getattr(picture, name), getattr(frozen, name)), name
    start = render([Scene((obj,)) for obj in moving], viewmat, K, 32)
    at_zero = render([Scene((obj,)) for obj in moving], viewmat, K, 32, times=[0.0] * 5)
    assert torch.equal(start.rgb, at_zero.rgb)


# Light


def ground_points(viewmat, K, size, picture):
    """World points [H, W, 3] of the rendered depth."""
    origins, directions = pixel_rays(viewmat, K, size, size)
    return origins + picture["depth"][..., None] * directions


@pytest.mark.parametrize("shape", SHAPES)
def test_shadow_lies_on_the_ground_behind_the_object_and_nowhere_else(shape):
    size, light = 48, (0.42, 0.8, 0.43)
    light = tuple(np.array(light) / np.linalg.norm(light))
    obj = make(shape, (0.2, 1.0, 0.3), yaw=0.7)
    viewmat, K = look_at((0.0, 2.2, 6.0), (0.0, 0.9, 0.0)), intrinsics(40.0, size, size)
    away = Scene((make(shape, (0.0, 1.0, 60.0)),), light)  # far behind the camera: an empty stage
    pictures = render([Scene((obj,), light), away], viewmat, K, size)
    free = ~grown(pictures.instances[:1] == 0)[0]
    change = (pictures.rgb[1] - pictures.rgb[0]).amax(dim=0)
    full = (free & (change > 0)).float()
    assert (pictures.instances[1] == -1).all()
    assert (pictures.rgb[0] <= pictures.rgb[1] + 1e-6)[:, free].all()  # a shadow never brightens
    sky = pictures.depth[0] == 0
    assert sky.any()
    assert (change[free & sky] == 0).all()

    points = ground_points(viewmat, K, size, only(pictures))
    near = free & ~sky & (points[..., 0].abs() < 3) & (points[..., 2].abs() < 3)
    candidates = near.nonzero()
    rng = np.random.default_rng(0)
    chosen = candidates[rng.choice(len(candidates), min(500, len(candidates)), replace=False)]
    starts = points[chosen[:, 0], chosen[:, 1]].double().numpy()
    hits, _, _ = shoot(object_mesh(obj), starts, np.broadcast_to(light, starts.shape).copy())
    blocked = np.zeros(len(starts), bool)
    blocked[hits] = True
    shaded = full[chosen[:, 0], chosen[:, 1]].numpy() > 0
    assert blocked.sum() > 8
    assert shaded[blocked].all()
    fringe = grown(full[None] > 0)[0] & ~shrunk(full[None] > 0)[0]  # antialiased: partly in shadow
    surely = ~fringe[chosen[:, 0], chosen[:, 1]].numpy()
    assert (shaded == blocked)[surely].all()


def test_objects_shade_each_other():
    size, light = 64, (0.0, 1.0, 0.0)
    below, above = make("cube", (0.0, 0.51, 0.0)), make("sphere", (0.0, 1.7, 0.0), "small", "blue")
    viewmat, K = look_at((0.0, 3.0, 5.0), (0.0, 0.8, 0.0)), intrinsics(30.0, size, size)
    pictures = render([Scene((below, above), light), Scene((below,), light)], viewmat, K, size)
    points = ground_points(viewmat, K, size, only(pictures))
    on_top = shrunk(pictures.instances[:1] == 0)[0] & (pictures.normals[0, 1] > 0.99)
    across = points[..., [0, 2]].norm(dim=-1)  # from the sphere's vertical: its shadow is a disc of its radius
    dark, bright = on_top & (across < 0.42 - 0.06), on_top & (across > 0.42 + 0.06)
    change = (pictures.rgb[1] - pictures.rgb[0]).amax(dim=0)
    assert dark.sum() > 10
    assert bright.sum() > 10
    assert (change[dark] > 0.1).all()
    assert change[bright].abs().max() == 0


def test_a_face_turned_to_the_light_is_brighter_and_keeps_its_hue():
    viewmat, K = look_at((0.0, 0.9, 6.0), (0.0, 0.51, 0.0)), intrinsics(20.0, 32, 32)
    scenes = [Scene((make("cube", (0.0, 0.51, 0.0)),), light) for light in ((0.0, 0.6, 0.8), (0.0, 0.6, -0.8))]
    towards, away = render(scenes, viewmat, K, 32).rgb[:, :, 20, 16]
    assert (towards > away + 0.02).any()
    assert towards[0] > 3 * towards[1]
    assert away[0] > 3 * away[1]


def test_pictures_are_antialiased():
    """A picture is close to the average of a three times finer one, far closer than a nearest sample is."""
    scenes, (viewmat, K) = random_scenes(4, seed=5), default_camera(32)
    fine_K = default_camera(96)[1]
    coarse, fine = render(scenes, viewmat, K, 32).rgb, render(scenes, viewmat, fine_K, 96).rgb
    average = torch.nn.functional.avg_pool2d(fine, 3)
    nearest = fine[:, :, 1::3, 1::3]
    error, aliased = (coarse - average).abs().mean(), (nearest - average).abs().mean()
    assert error < 0.5 * aliased
    assert error < 2e-3


# Visibility


def test_visibility_is_the_share_of_the_outline_that_shows():
    size = 96
    front, back = make("cube", (0.25, 0.51, 0.6), color="green"), make("sphere", (0.0, 0.62, -0.6))
    viewmat, K = default_camera(size)
    both, alone = render([Scene((front, back)), Scene((back,))], viewmat, K, size).instances
    shares = render([Scene((front, back)), Scene((back,))], viewmat, K, size).visibility
    assert shares.shape == (2, MAX_OBJECTS)
    expected = (both == 1).sum() / (alone == 0).sum()
    assert 0.2 < expected < 0.9
    assert shares[0, 1].item() == pytest.approx(expected.item(), abs=0.02)
    assert shares[0, 0].item() == pytest.approx(1.0)
    assert shares[1, 0].item() == pytest.approx(1.0)
    assert (shares[0, 2:] == 0).all()


def test_visibility_counts_what_the_frame_cuts_off():
    """The picture's edge passes through the middle of a sphere."""
    K = intrinsics(40.0, 64, 64)
    viewmat = look_at((0.0, 2.0, 6.0), (0.0, 2.0, 0.0))
    K[0, 2] = 0.0  # the principal point, and with it the sphere's centre, on the left edge
    picture = render([Scene((make("sphere", (0.0, 2.0, 0.0)),))], viewmat, K, 64)
    assert picture.visibility[0, 0].item() == pytest.approx(0.5, abs=0.02)


# Batches, sizes and cameras


def test_pictures_do_not_depend_on_what_they_are_rendered_with():
    scenes, size = random_scenes(20, seed=3), 64  # more than one chunk
    viewmats, K = random_cameras(20, seed=3), default_camera(size)[1]
    together = render(scenes, viewmats, K, size)
    for view in (0, 1, 4, 9, 15, 16, 19):
        alone = render([scenes[view]], viewmats[view], K, size)
        for name in FIELDS:
            torch.testing.assert_close(
                getattr(together, name)[view], getattr(alone, name)[0], atol=1e-6, rtol=0, msg=name
            )


@pytest.mark.parametrize("size", [(1, 1), (7, 31), (65, 12), (96, 120)])
def test_any_size_and_camera(size):
    scenes = random_scenes(3, seed=4)
    viewmats = torch.cat((ring(2, elevation=60.0), look_at((0.1, 0.9, 2.4), (0.0, 1.3, 0.0))[None]))
    picture = render(scenes, viewmats, intrinsics(70.0, *size), size)
    assert picture.rgb.shape == picture.normals.shape == (3, 3, *size)
    assert picture.depth.shape == picture.instances.shape == (3, *size)
    assert picture.instances.dtype == torch.int8
    assert all(getattr(picture, name).isfinite().all() for name in FIELDS)
    assert 0 <= picture.rgb.min() <= picture.rgb.max() <= 1
    assert (picture.depth >= 0).all()
    counts = torch.tensor([len(scene.objects) for scene in scenes])
    assert (picture.instances.flatten(1).amax(dim=1) < counts).all()
    lengths = picture.normals.norm(dim=1)
    torch.testing.assert_close(lengths, (picture.depth > 0).float(), atol=1e-4, rtol=0)


def test_a_shifted_principal_point_is_a_crop():
    """Objects cut by any edge look as they do in the whole picture."""
    scenes, (viewmat, K) = random_scenes(4, seed=6), default_camera(60)
    whole = render(scenes, viewmat, K, 60)
    for top, left in ((10, 25), (28, 7)):
        window = K.clone()
        window[0, 2] -= left
        window[1, 2] -= top
        part = render(scenes, viewmat, window, (24, 30))
        for name in ("rgb", "depth", "instances"):
            expected = getattr(whole, name)[..., top : top + 24, left : left + 30]
            difference = (getattr(part, name).float() - expected.float()).abs()
            assert (difference > 1e-3).float().mean() < 2e-3, name  # rounding may flip a ray at an outline


def test_objects_behind_the_camera_are_not_drawn():
    viewmat, K = default_camera(32)
    picture = render([Scene((make("torus", (0.0, 1.0, 30.0)),))], viewmat, K, 32)
    assert (picture.instances == -1).all()
    assert picture.visibility.sum() == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size": 0}, "size .*0"),
        ({"size": (4, 0)}, r"size .*\(4, 0\)"),
        ({"scenes": []}, "scenes is empty"),
        ({"times": [0.0]}, "times .*1 entries .*2 scenes"),
        ({"viewmats": torch.eye(4).expand(3, 4, 4)}, "viewmats .*3"),
        ({"Ks": torch.eye(3).expand(3, 3, 3)}, "Ks .*3"),
        ({"viewmats": look_at((0.0, -1.0, 5.0), (0.0, 0.5, 0.0))}, "below the ground"),
    ],
)
def test_bad_requests_are_refused(change, message):
    viewmat, K = default_camera(8)
    scene = Scene((make("cube", (0.0, 0.51, 0.0)),))
    request = {"scenes": [scene, scene], "viewmats": viewmat, "Ks": K, "size": 8} | change
    with pytest.raises(ValueError, match=message):
        render(**request)


def test_the_mesh_library_is_the_judge_it_claims_to_be():
    """trimesh's own intersection, on a case done by hand."""
    hits, along, normal = shoot(
        trimesh.creation.box((2, 2, 2)), np.array([[0.0, 0, 5], [3.0, 0, 5]]), np.array([[0.0, 0, -2.0]] * 2)
    )
    assert hits.tolist() == [0]
    assert along.tolist() == [2.0]
    assert normal.tolist() == [[0.0, 0.0, 1.0]]
