"""Where light slabs are: rays by textbook formulas, in worlds that are turned, moved and scaled."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_lightspeed import make_field
from torch import Tensor
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import camera_centres, intrinsics, look_at, orbit
from pocket_diffusers.pipelines.fitting.light_field_fitting import RayViews
from pocket_diffusers.pipelines.fitting.slabs_lightspeed import SceneHints, place_slabs
from pocket_diffusers.pipelines.inputs import PosedImages

HEIGHT, WIDTH, FOCAL, FOCUS = 24, 32, 40.0, 2.5
PLACES = torch.tensor([[x, y] for y in (-0.2, 0.05, 0.3) for x in (-0.4, -0.1, 0.1, 0.5)])
turns = st.tuples(*[st.floats(-3, 3)] * 3)
worlds = st.tuples(turns, st.tuples(*[st.floats(-5, 5)] * 3), st.floats(0.1, 20))


def posed_of(viewmats: Tensor, Ks: Tensor) -> PosedImages:
    return PosedImages(torch.zeros(len(viewmats), 3, HEIGHT, WIDTH), viewmats.float(), Ks.float())


def grid(focus: float | None = FOCUS) -> PosedImages:
    """Cameras on z = 0 that look along z, shifted so that they agree on a plane."""
    viewmats, Ks = torch.eye(4).repeat(12, 1, 1), torch.diag(torch.tensor([FOCAL, FOCAL, 1])).repeat(12, 1, 1)
    viewmats[:, :2, 3] = -PLACES
    Ks[:, :2, 2] = torch.tensor([WIDTH, HEIGHT]) / 2 + (0 if focus is None else FOCAL * PLACES / focus)
    return posed_of(viewmats, Ks)


def facing() -> PosedImages:
    """Cameras that look about the same way from about the same place, each turned a little."""
    draw = torch.Generator().manual_seed(0)
    eyes = 0.3 * torch.randn(8, 3, generator=draw)
    targets = torch.tensor([0.0, 0, 5]) + torch.randn(8, 3, generator=draw)
    return posed_of(look_at(eyes, targets), intrinsics(40.0, HEIGHT, WIDTH).repeat(8, 1, 1))


def around(views: int = 24, elevation: float = 20.0) -> PosedImages:
    viewmats = orbit((1.0, 0.5, -2.0), 3.0, views, elevation)
    return posed_of(viewmats, intrinsics(40.0, HEIGHT, WIDTH).repeat(views, 1, 1))


def moved(posed: PosedImages, world: tuple) -> tuple[PosedImages, Tensor]:
    """The same pictures in a world that is scaled, turned and moved, and that world's matrix."""
    turn, shift, scale = world
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = scale * torch.from_numpy(Rotation.from_rotvec(turn).as_matrix())
    matrix[:3, 3] = torch.tensor(shift)
    viewmats = posed.viewmats.double() @ torch.linalg.inv(matrix)
    viewmats[:, :3] *= scale
    return replace(posed, viewmats=viewmats.float()), matrix


def coordinates(posed: PosedImages, hints: SceneHints, slab: str = "auto", sub_scenes: int = 1) -> list[Tensor]:
    """x, y, u, v of the rays of the pictures that each sub-scene serves, [views, rays, 4]."""
    field = make_field(num_sub_scenes=sub_scenes)
    weights = place_slabs(field, posed, slab, hints)
    rays = RayViews.of_pictures(posed, 8, weights)
    found = []
    for index, group in enumerate(rays.groups):
        given = (value[group].flatten(2).mT for value in (rays.origins, rays.directions))
        found.append(field.slab(index).coordinates(*given))
    return found


def blocks() -> tuple[Tensor, Tensor]:
    """Where the middles of 8 x 8 blocks are, [rays] each, in pixels."""
    u, v = torch.meshgrid(torch.arange(4, WIDTH, 8.0), torch.arange(4, HEIGHT, 8.0), indexing="xy")
    return u.flatten(), v.flatten()


def to_ends(values: Tensor) -> Tensor:
    """Scaled so that the least of each coordinate of [views, rays, 4] is -1 and the greatest 1."""
    low, high = values.amin((0, 1)), values.amax((0, 1))
    return 2 * (values - low) / (high - low) - 1


# Grids


@given(world=worlds, sheared=st.booleans())
@settings(max_examples=15, deadline=None)
def test_rays_of_a_grid_are_their_hits_on_the_cameras_plane_and_on_that_of_focus(world, sheared):
    posed, matrix = moved(grid(FOCUS if sheared else None), world)
    points = torch.tensor([[0.3, -0.2, 2.0], [0, 0, FOCUS], [-0.5, 0.1, 4.0], [9, 9, -3]])
    points = (points.double() @ matrix[:3, :3].T + matrix[:3, 3]).float()
    (found,) = coordinates(posed, SceneHints(None if sheared else points))
    u, v = blocks()
    xy = PLACES[:, None].expand(12, len(u), 2)
    on_focus = torch.stack([u - WIDTH / 2, v - HEIGHT / 2], -1) / FOCAL * FOCUS  # seen through a shifted lens
    on_focus = on_focus.expand(12, -1, 2) if sheared else xy + on_focus
    assert_close(found, to_ends(torch.cat([xy, on_focus], -1)), atol=2e-3, rtol=0)


def test_a_grid_that_looks_at_infinity_in_an_unknown_scene_has_a_plane_some_extents_away():
    field = make_field(num_sub_scenes=1)
    weights = place_slabs(field, grid(None))
    assert torch.equal(weights, torch.ones(12, 1))
    slab = field.slab()
    assert (float(slab.near), float(slab.far)) == (0, pytest.approx(4 * 0.9, rel=1e-5))
    assert_close(field.clusters.centres, torch.cat([PLACES.mean(0), torch.zeros(1)])[None])


# Forward-facing scenes


def ndc_of_nerf(origins: Tensor, directions: Tensor, near: float) -> Tensor:
    """NDC rays in OpenGL's axes (arXiv 2003.08934, appendix C) [..., 4]: o.xy and (o + d).xy."""
    flip = torch.tensor([1.0, -1, -1], dtype=torch.float64)
    (ox, oy, oz), (dx, dy, dz) = ((flip * value).unbind(-1) for value in (origins, directions))
    shift = -(near + oz) / dz
    ox, oy, oz = ox + shift * dx, oy + shift * dy, oz + shift * dz
    focal = float(intrinsics(40.0, HEIGHT, WIDTH)[0, 0])
    ax, ay = 2 * focal / WIDTH, 2 * focal / HEIGHT
    x, y = -ax * ox / oz, -ay * oy / oz
    return torch.stack([x, y, x - ax * (dx / dz - ox / oz), y - ay * (dy / dz - oy / oz)], -1)


@given(world=worlds, nearest=st.floats(1.5, 4))
@settings(max_examples=15, deadline=None)
def test_rays_of_a_forward_facing_scene_are_those_of_normalised_device_coordinates(world, nearest):
    posed, (_, _, scale) = facing(), world
    there, _ = moved(posed, world)
    (found,) = coordinates(there, SceneHints(nearest=nearest * scale))
    axes = [posed.viewmats[:, row, :3].double().mean(0) for row in (1, 2)]
    forward = axes[1] / axes[1].norm()
    right = torch.linalg.cross(axes[0], forward)
    right = right / right.norm()
    mean = torch.stack([right, torch.linalg.cross(forward, right), forward])
    centres = camera_centres(posed.viewmats.double())
    u, v = blocks()
    K = posed.Ks[0].double()
    in_camera = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], -1).double()
    directions = in_camera @ posed.viewmats[:, :3, :3].double() @ mean.T
    origins = ((centres - centres.mean(0)) @ mean.T)[:, None].expand_as(directions)
    wanted = to_ends(ndc_of_nerf(origins, directions, 0.75 * nearest))
    wanted[..., [1, 3]] *= -1  # y points down here
    assert_close(found.double(), wanted, atol=2e-3, rtol=0)


def test_the_nearest_depth_is_that_of_nearly_all_points():
    posed = facing()
    deep = torch.cat([torch.linspace(2, 6, 200), torch.tensor([0.1, -3])])  # a stray one, and one behind
    points = torch.stack([torch.zeros(202), torch.zeros(202), deep], 1)
    by_points = coordinates(posed, SceneHints(points))[0]
    field = make_field(num_sub_scenes=1)
    place_slabs(field, posed, "ndc", SceneHints(points))
    scale = field.slab().frame[2, 3] - (field.slab().frame[3, 3])
    nearest = float(-scale / 2 / 0.75)
    depths = (points @ _mean_forward(posed) - float(camera_centres(posed.viewmats).mean(0) @ _mean_forward(posed)))[
        :200
    ]
    assert depths.min() < nearest < depths.quantile(0.04)
    assert by_points.abs().max() == pytest.approx(1, abs=1e-4)


def _mean_forward(posed: PosedImages) -> Tensor:
    return torch.nn.functional.normalize(posed.viewmats[:, 2, :3].mean(0), dim=0)


# All around


@pytest.mark.parametrize(("sub_scenes", "known"), [(3, True), (5, True), (5, False)])
def test_each_cluster_looks_through_the_box_from_before_it(sub_scenes, known):
    posed, field = around(), make_field(num_sub_scenes=sub_scenes)
    draw = torch.Generator().manual_seed(0)
    low, high = torch.tensor([0.6, 0.1, -2.3]), torch.tensor([1.4, 0.7, -1.8])
    points = torch.cat([low + (high - low) * torch.rand(5000, 3, generator=draw), torch.full((20, 3), 50.0)])
    hints = SceneHints(points if known else None)
    weights = place_slabs(field, posed, hints=hints)
    if not known:  # a third of the cameras' distance to each side of what all look at
        low, high = torch.tensor([0.0, -0.5, -3]), torch.tensor([2.0, 1.5, -1])
    centres = camera_centres(posed.viewmats)
    assert_close(weights, field.clusters.weights(centres))
    assert weights.sum(1).sub(1).abs().max() < 1e-5 and (weights.amax(1) >= 0.5).all()
    corners = torch.cartesian_prod(*torch.stack([low, high], 1))
    for index in range(sub_scenes):
        slab, mine = field.slab(index), weights[:, index] > 0
        nearest = (centres[:, None] - field.clusters.centres).norm(dim=-1).argmin(1) == index
        assert_close(field.clusters.centres[index], centres[nearest].mean(0), atol=1e-4, rtol=0)
        sight = torch.nn.functional.normalize((low + high) / 2 - centres[mine].mean(0), dim=0)
        assert_close(slab.frame[2, :3], sight, atol=0.02, rtol=0)
        depths = corners @ slab.frame[2, :3] + slab.frame[2, 3]
        wanted = float(depths.min()), float(depths.max())
        assert (float(slab.near), float(slab.far)) == pytest.approx(wanted, abs=0.06 if known else 0.02)
        assert slab.frame[1, 1] < 0, "y points down"
    for found in coordinates(posed, hints, sub_scenes=sub_scenes):
        assert_close(found.amin((0, 1)), -torch.ones(4), atol=1e-3, rtol=0)
        assert_close(found.amax((0, 1)), torch.ones(4), atol=1e-3, rtol=0)


def test_a_seed_has_one_clustering():
    posed = around()
    first, again, other = (place_slabs(make_field(num_sub_scenes=5), posed, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and first.shape == other.shape == (24, 5)


# Which is chosen

DEEP = SceneHints(nearest=2.0)
CHOICES = {
    "a grid": (grid(), SceneHints(), 1, "grid"),
    "a grid whose depth is known": (grid(), DEEP, 1, "grid"),
    "facing, of known depth": (facing(), DEEP, 1, "ndc"),
    "facing, of unknown depth": (facing(), SceneHints(), 1, "box"),
    "all around": (around(), DEEP, 5, "box"),
    "a single slab, from above": (around(elevation=60), SceneHints(), 1, "box"),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_slabs_are_chosen_by_how_cameras_stand(choice):
    posed, hints, sub_scenes, wanted = CHOICES[choice]
    if choice == "facing, of unknown depth":  # at one thing
        posed = replace(posed, viewmats=look_at(camera_centres(posed.viewmats), (0.0, 0, 5)))
    chosen, told = (make_field(num_sub_scenes=sub_scenes) for _ in range(2))
    place_slabs(chosen, posed, hints=hints)
    place_slabs(told, posed, wanted, hints)
    for index in range(sub_scenes):
        for name, value in vars(told.slab(index)).items():
            assert torch.equal(getattr(chosen.slab(index), name), value), name


@pytest.mark.parametrize(("hints", "wanted"), [(DEEP, "ndc"), (SceneHints(), "grid")])
def test_parallel_cameras_off_a_plane_are_no_grid_unless_nothing_tells_a_depth(hints, wanted):
    posed = grid()
    viewmats = posed.viewmats.clone()
    viewmats[:, 2, 3] = torch.linspace(-0.1, 0.1, 12)
    chosen, told = make_field(num_sub_scenes=1), make_field(num_sub_scenes=1)
    place_slabs(chosen, replace(posed, viewmats=viewmats), hints=hints)
    place_slabs(told, replace(posed, viewmats=viewmats), wanted, hints)
    assert torch.equal(chosen.slab().frame, told.slab().frame)


@pytest.mark.parametrize(
    ("posed", "slab", "hints", "sub_scenes", "message"),
    [
        (grid(), "grid", {}, 2, "num_sub_scenes must be 1 for slab 'grid', not 2"),
        (grid(), "plane", {}, 1, "slab must be one of auto, grid, ndc, box, not 'plane'"),
        (grid(), "ndc", {}, 1, "points must be given for slab 'ndc', or the scene's nearest depth, not 'none'"),
        (grid(), "ndc", {"points": torch.tensor([[0.0, 0, -1]])}, 1, "points must be given for slab 'ndc'"),
        (grid(), "ndc", {"nearest": 0}, 1, "nearest must be a number of at least 1e-09, not 0"),
        (grid(), "ndc", {"points": torch.ones(3)}, 1, r"points must be a tensor \[points, 3\], not \[3\]"),
        (grid(), "ndc", {"points": [[0, 0, 1]]}, 1, r"points must be a tensor \[points, 3\], not 'list'"),
        (grid(), "ndc", {"points": torch.full((1, 3), math.nan)}, 1, "points must be finite, but hold NaN or infinity"),
        (around(), "grid", {}, 1, "cameras must look about the same way, not all around"),
        (around(), "ndc", DEEP.__dict__, 1, "cameras must look about the same way, not all around"),
        (around(), "box", {}, 2, "cameras of a cluster must stand before the near side of the object's box"),
        (around(4), "box", {}, 5, "count must be a whole number from 1 to 4, the places of cameras, not 5"),
    ],
)
def test_cameras_to_which_no_slab_can_be_given_are_refused(posed, slab, hints, sub_scenes, message):
    with pytest.raises(ValueError, match=message) as caught:
        place_slabs(make_field(num_sub_scenes=sub_scenes), posed, slab, SceneHints(**hints))
    assert len(str(caught.value).splitlines()) == 1
