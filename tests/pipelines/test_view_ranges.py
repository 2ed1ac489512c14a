"""From where light fields are looked at: places by closed forms, and cameras that stood there already."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import look_at
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.scene_cameras import DIRECTIONS
from pocket_diffusers.pipelines.view_ranges import (
    GridViews,
    OrbitViews,
    check_focal_lengths,
    focus_of,
    views_of,
)
from pocket_diffusers.training.datasets.camera_grid import read_camera_grid
from pocket_diffusers.training.datasets.photographs import posed_photographs
from pocket_diffusers.training.datasets.pocketworld.cameras import project

AXES = {sign + axis: (-1.0 if sign else 1.0) * torch.eye(3)[index]
        for sign in ("", "-") for index, axis in enumerate("xyz")}  # fmt: skip
ends = st.floats(-1, 1)
places = st.tuples(*[st.floats(-3, 3)] * 3)
PICTURE = {"focal": (50.0, 60.0), "width": 40, "height": 24}


def grid_views(eye=(0.3, -0.4, -2.0), target=(0.1, 0.2, 1.0), **changes):
    viewmat = look_at(torch.tensor(eye, dtype=torch.float64), target)
    options = {"half_width": 0.5, "half_height": 0.25, "focus": 2.0, **PICTURE, **changes}
    return GridViews(viewmat=tuple(viewmat.flatten().tolist()), **options)


def orbit_views(**changes):
    return OrbitViews(**{"center": (1.0, -2.0, 0.5), "distance": 3.0, "low": -10.0, "high": 50.0, **PICTURE, **changes})


def centre_of(cameras):
    (viewmat,) = torch.linalg.inv(cameras.viewmats.double())
    return viewmat[:3, 3]


def posed_of(viewmats, Ks, height=24, width=40):
    return PosedImages(torch.zeros(len(viewmats), 3, height, width), viewmats, Ks)


# A grid


@given(eye=places, step=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.5, 2)), right=ends, up=ends)
@settings(max_examples=50, deadline=None)
def test_a_grid_s_cameras_stand_side_by_side_and_see_its_focus_in_the_same_place(eye, step, right, up):
    views = grid_views(eye, tuple(a + b for a, b in zip(eye, step, strict=True)))
    camera, middle = views.camera(right, up), views.camera(0, 0)
    across, down, _ = torch.tensor(views.viewmat, dtype=torch.float64).view(4, 4)[:3, :3]
    wanted = torch.tensor(eye, dtype=torch.float64) + 0.5 * right * across - 0.25 * up * down
    assert_close(centre_of(camera), wanted, atol=1e-5, rtol=0)
    assert torch.equal(camera.viewmats[0, :3, :3], middle.viewmats[0, :3, :3])
    assert (camera.width, camera.height) == (40, 24)
    assert_close(middle.Ks[0], torch.tensor([[50.0, 0, 20], [0, 60, 12], [0, 0, 1]]))
    on_focus = torch.tensor([[0.2, -0.3, 2.0, 1], [0, 0, 2, 1], [-0.5, 0.1, 2, 1]], dtype=torch.float64)
    to_world = torch.linalg.inv(torch.tensor(views.viewmat, dtype=torch.float64).view(4, 4))
    points = (on_focus @ to_world.T)[:, :3]
    pixels = [project(points, one.viewmats[0].double(), one.Ks[0].double())[0] for one in (camera, middle)]
    assert_close(*pixels, atol=1e-3, rtol=0)


def test_without_a_focus_nothing_is_shifted():
    views = grid_views(focus=None)
    assert torch.equal(views.camera(1, -1).Ks, views.camera(0, 0).Ks)
    assert not torch.equal(views.camera(1, -1).viewmats, views.camera(0, 0).viewmats)


@pytest.mark.parametrize(
    ("name", "lens", "focus"),
    [
        ("view_r{row:02}_c{column:02}.png", {}, None),
        ("view_{row:02}_{column:02}_{y:f}_{x:f}.png", {"focus_distance": 400.0, "field_of_view": 60.0}, 400.0),
        ("view_{row:02}_{column:02}_{y:f}_{x:f}_30_36.png", {}, math.inf),
    ],
    ids=["places unknown", "sheared", "known lens"],
)
def test_a_range_holds_the_cameras_of_a_grid_that_was_read(tmp_path, name, lens, focus):
    """Their viewmats and their intrinsics, at the corners of the range and between."""
    rows, columns = 3, 5
    for row in range(rows):
        for column in range(columns):
            told = {"row": row, "column": column, "x": 7 + 25.0 * column, "y": 20.0 * row - 3}
            Image.new("RGB", (40, 24)).save(tmp_path / name.format(**told))
    posed = posed_photographs(read_camera_grid(tmp_path, **lens))
    views = GridViews.of_pictures(posed)
    assert views.focus is None if focus == math.inf else views.focus == pytest.approx(focus or 16.0, rel=1e-4)
    for row in range(rows):
        for column in range(columns):
            camera, view = views.camera(column / 2 - 1, 1 - row), row * columns + column
            assert_close(camera.viewmats[0], posed.viewmats[view], atol=1e-5, rtol=1e-5)
            assert_close(camera.Ks[0], posed.Ks[view], atol=1e-3, rtol=1e-5)


@given(focus=st.floats(0.5, 50), eye=places, seed=st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_the_focus_is_where_middle_rays_meet(focus, eye, seed):
    """Cameras of a plane turned in the world, each shifted so that it sees one point in the middle."""
    draw = torch.Generator().manual_seed(seed)
    frame = look_at(torch.tensor(eye, dtype=torch.float64), torch.tensor(eye) + torch.tensor([0.3, -0.5, 1.0]))
    x, y = torch.rand(2, 9, generator=draw, dtype=torch.float64) - 0.5
    viewmats = frame.repeat(9, 1, 1)
    viewmats[:, :2, 3] -= torch.stack([x, y], 1)
    Ks = torch.tensor([[50.0, 0, 20], [0, 60, 12], [0, 0, 1]], dtype=torch.float64).repeat(9, 1, 1)
    Ks[:, :2, 2] += torch.tensor([50.0, 60.0]) * torch.stack([x, y], 1) / focus
    posed = PosedImages(torch.zeros(9, 3, 24, 40), viewmats, Ks)
    assert focus_of(frame, posed) == pytest.approx(focus, rel=1e-6)
    assert focus_of(frame, replace(posed, Ks=Ks[:1].expand(9, 3, 3))) is None, "parallel rays meet nowhere"
    away = Ks.clone()
    away[:, :2, 2] = 2 * torch.tensor([20.0, 12.0]) - away[:, :2, 2]
    assert focus_of(frame, replace(posed, Ks=away)) is None, "they meet behind the cameras"


# An orbit


@given(up=st.sampled_from(DIRECTIONS), right=ends, height=ends)
@settings(max_examples=60, deadline=None)
def test_an_orbit_s_cameras_have_its_distance_and_elevation_and_look_at_its_centre(up, right, height):
    views = orbit_views(up=up)
    camera, axis, centre = views.camera(right, height), AXES[up].double(), torch.tensor([1.0, -2, 0.5]).double()
    away = centre_of(camera) - centre
    elevation = math.radians(20 + 30 * height)
    assert_close(away.norm(), torch.tensor(3.0).double(), atol=1e-5, rtol=0)
    assert_close(away @ axis, torch.tensor(3 * math.sin(elevation)).double(), atol=1e-5, rtol=0)
    seen, depth = project(centre[None], camera.viewmats[0].double(), camera.Ks[0].double())
    assert_close(seen[0], torch.tensor([20.0, 12.0]).double(), atol=1e-3, rtol=0)
    assert float(depth) == pytest.approx(3, abs=1e-5)
    across, down, _ = camera.viewmats[0, :3, :3].double()
    assert float(down @ axis) < 0 and abs(float(across @ axis)) < 1e-5  # up is up, not aslant
    first = centre_of(views.camera(0, height)) - centre
    flat, ahead = away - (away @ axis) * axis, first - (first @ axis) * axis
    turned = torch.atan2(torch.linalg.cross(ahead, flat) @ axis, ahead @ flat)
    apart = (float(turned) - math.pi * right + math.pi) % (2 * math.pi) - math.pi
    assert abs(apart) < 1e-4, "from -180 to 180 degrees, counter-clockwise seen from above"


@given(up=st.sampled_from(DIRECTIONS), low=st.floats(-80, 0), span=st.floats(0, 80))
@settings(max_examples=30, deadline=None)
def test_the_orbit_of_cameras_is_that_on_which_they_stand(up, low, span):
    views = orbit_views(up=up, low=low, high=low + span)
    cameras = [views.camera(right, height) for right, height in ((-0.7, -1), (-0.2, 1), (0.3, 0.5), (0.8, -0.2))]
    viewmats, Ks = (torch.cat([getattr(one, name) for one in cameras]) for name in ("viewmats", "Ks"))
    found = OrbitViews.of_pictures(posed_of(viewmats, Ks), up)
    assert found.center == pytest.approx((1, -2, 0.5), abs=1e-3) and found.distance == pytest.approx(3, abs=1e-3)
    assert (found.low, found.high) == pytest.approx((low, low + span), abs=0.05)
    assert (found.up, found.focal, found.width, found.height) == (up, (50, 60), 40, 24)


# Both


@pytest.mark.parametrize("views", [grid_views(), grid_views(focus=None), orbit_views(), orbit_views(up="z")])
@pytest.mark.parametrize("frames", [1, 7, 60])
def test_a_path_is_closed_and_stays_in_its_range(views, frames):
    path, finer = views.path(frames), views.path(2 * frames)
    assert len(path) == frames and torch.equal(finer.viewmats[::2], path.viewmats)
    centres = torch.linalg.inv(views.path(120).viewmats.double())[:, :3, 3]
    steps = (centres - centres.roll(1, 0)).norm(dim=1)
    assert steps.min() > 0 and steps.max() < 3 * steps.median(), "from the last to the first as between all others"
    if isinstance(views, GridViews):
        frame = torch.tensor(views.viewmat, dtype=torch.float64).view(4, 4)
        places = (centres @ frame[:3, :3].T + frame[:3, 3]).abs()
        assert places[:, 2].max() < 1e-5
        assert (places.amax(0)[:2] - 0.7 * torch.tensor([0.5, 0.25])).abs().max() < 1e-3
    else:
        away = (centres - torch.tensor(views.center)) @ AXES[views.up].double() / 3
        elevations = away.asin().rad2deg()
        assert (elevations.min(), elevations.max()) == pytest.approx((20 - 21, 20 + 21), abs=0.1)


@pytest.mark.parametrize("views", [grid_views(), grid_views(focus=None), orbit_views(up="-z")])
def test_a_range_survives_json(views):
    stored = json.loads(json.dumps(views.to_config()))
    assert views_of(stored) == views and views_of(stored).to_config() == views.to_config()


@pytest.mark.parametrize(
    ("views", "changes", "message"),
    [
        (grid_views(), {"kind": None}, "views must have a kind, grid or orbit, not None"),
        (grid_views(), {"kind": "orbit"}, "views must have center, distance, focal, .*, width, not focal, focus, "),
        (grid_views(), {"viewmat": [1.0]}, r"viewmat must be 16 numbers, not \[1\.0\]"),
        (grid_views(), {"viewmat": [math.nan] * 16}, "viewmat must be a number that is finite, not nan"),
        (grid_views(), {"half_width": -1}, "half_width must be a number of at least 0, not -1"),
        (grid_views(), {"focus": 0}, "focus must be a number of at least 1e-09, not 0"),
        (grid_views(), {"focal": 50.0}, "focal must be 2 numbers, not 50.0"),
        (orbit_views(), {"focal": ["50", 60]}, "focal must be a number of at least 1e-06, not '50'"),
        (orbit_views(), {"center": [0, 0, math.inf]}, "center must be a number that is finite, not inf"),
        (orbit_views(), {"low": -90}, "low must be a number from -89 to 89, not -90"),
        (orbit_views(), {"high": 90}, "high must be a number from -10 to 89, not 90"),
        (orbit_views(), {"height": 1.5}, "height must be a whole number of at least 1, not 1.5"),
    ],
)
def test_ranges_that_are_none_are_refused_in_one_sentence(views, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        views_of({**views.to_config(), **changes})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("views", [grid_views(), orbit_views()])
def test_places_beyond_a_range_are_refused(views):
    for place, message in (
        ((1.01, 0), "right must be a number from -1 to 1, not 1.01"),
        ((0, -2), "up must be a number from -1 to 1, not -2"),
        ((math.nan, 0), "right must be a number from -1 to 1, not nan"),
    ):
        with pytest.raises(ValueError, match=message):
            views.camera(*place)
    with pytest.raises(ValueError, match="frames must be a whole number of at least 1, not 0"):
        views.path(0)


def test_focal_lengths_may_differ_by_a_tenth():
    Ks = torch.tensor([[50.0, 0, 20], [0, 60, 12], [0, 0, 1]]).repeat(3, 1, 1)
    Ks[1, 0, 0], Ks[2, 1, 1] = 54.9, 54.1
    check_focal_lengths(Ks, (50.0, 60.0))
    for view, axis, value, told in ((1, 0, 56.0, r"\[56\.0, 60\.0\]"), (2, 1, 53.0, r"\[50\.0, 53\.0\]")):
        wrong = Ks.clone()
        wrong[view, axis, axis] = value
        wanted = rf"focal lengths in Ks must be within a tenth of 50\.0 and 60\.0 pixels, for .*, not {told}\.$"
        with pytest.raises(ValueError, match=wanted):
            check_focal_lengths(wrong, (50.0, 60.0))
