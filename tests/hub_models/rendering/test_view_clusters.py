"""Clusters of cameras, their blending and their planes, on orbits whose answers are known."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import camera_centres, intrinsics, look_at, orbit
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.hub_models.rendering.view_clusters import ViewClusters, planes_of_box

LOW, HIGH = torch.tensor([-1.0, 0.0, -0.5]), torch.tensor([1.0, 1.6, 0.5])
MIDDLE = [0.0, 0.8, 0.0]
LINE = ViewClusters(torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 100.0, 0.0]]))


def cloud(seed, count=30):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def inertia(points, centres):
    return sum(min(math.dist(point, centre) ** 2 for centre in centres) for point in points.tolist())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.integers(1, 7), st.integers(0, 9))
def test_each_centre_is_the_mean_of_the_cameras_that_route_to_it(seed, count, beginning):
    cameras = cloud(seed)
    clusters = ViewClusters.of_cameras(cameras, count, beginning)
    assert len(clusters) == count
    routes = clusters.route(cameras)
    nearest = [min(range(count), key=lambda k: math.dist(at, clusters.centres[k].tolist())) for at in cameras.tolist()]
    assert routes.tolist() == nearest
    means = torch.stack([cameras[routes == index].mean(0) for index in range(count)])  # NaN if a cluster were empty
    assert_close(clusters.centres, means)


def test_clusters_are_as_tight_as_the_best_of_all_divisions():
    cameras = cloud(3, count=7)
    divisions = itertools.product(range(3), repeat=7)
    best = min(
        inertia(cameras, torch.stack([cameras[labels == k].mean(0) for k in range(3)]).tolist())
        for labels in map(torch.tensor, divisions)
        if len(labels.unique()) == 3
    )
    assert inertia(cameras, ViewClusters.of_cameras(cameras, 3).centres.tolist()) == pytest.approx(best, rel=1e-5)


def test_clusters_are_at_least_as_tight_as_scipys():
    cameras = cloud(5, count=200)
    scipy = min(inertia(cameras, kmeans2(cameras.numpy(), 5, seed=seed, minit="++")[0].tolist()) for seed in range(5))
    assert inertia(cameras, ViewClusters.of_cameras(cameras, 5).centres.tolist()) < 1.02 * scipy


def test_an_orbit_is_divided_into_like_arcs_the_same_each_time():
    cameras = camera_centres(orbit(MIDDLE, 4.0, 60))
    clusters = ViewClusters.of_cameras(cameras, 5)
    routes = clusters.route(cameras)
    assert (routes != routes.roll(1)).sum() == 5
    assert all(11 <= count <= 13 for count in torch.bincount(routes))
    assert torch.equal(ViewClusters.of_cameras(cameras, 5).centres, clusters.centres)
    as_many = ViewClusters.of_cameras(cameras[:6].repeat(3, 1), 6)
    assert_close(as_many.centres.sort(0).values, cameras[:6].sort(0).values)  # each place is a cluster


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-3.0, [1, 0, 0]), (0.0, [1, 0, 0]), (1.5, [1, 0, 0]), (1.75, [0.75, 0.25, 0]), (2.0, [0.5, 0.5, 0]),
     (2.25, [0.25, 0.75, 0]), (2.5, [0, 1, 0]), (9.0, [0, 1, 0])],
)  # fmt: skip
def test_weights_rise_linearly_across_the_border(x, expected):
    for aside in (0.0, 3.0):  # along the border nothing changes
        weights = LINE.weights(torch.tensor([x, 0.0, aside]), border=0.25)
        assert_close(weights, torch.tensor(expected, dtype=torch.float32))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6), st.floats(0, 1))
def test_weights_sum_to_one_and_follow_the_route(seed, count, border):
    cameras = cloud(seed).reshape(5, 6, 3)
    clusters = ViewClusters.of_cameras(cameras.reshape(-1, 3), count)
    weights = clusters.weights(cameras, border)
    assert weights.shape == (5, 6, count)
    assert weights.min() >= 0 and ((weights > 0).sum(-1) <= 2).all()
    assert_close(weights.sum(-1), torch.ones(5, 6))
    largest = weights.gather(-1, clusters.route(cameras)[..., None])
    assert_close(largest[..., 0], weights.amax(-1))
    assert_close(clusters.weights(clusters.centres, border), torch.eye(count))


def test_without_a_zone_the_nearest_counts_alone():
    cameras = cloud(8)
    clusters = ViewClusters.of_cameras(cameras, 4)
    one = torch.nn.functional.one_hot(clusters.route(cameras), 4).float()
    assert_close(clusters.weights(cameras, border=0), one)


@pytest.mark.parametrize("elevation", [0.0, 30.0, 70.0])
def test_planes_stand_across_the_line_from_the_mean_camera_where_the_box_begins_and_ends(elevation):
    viewmats = orbit(MIDDLE, 5.0, 24, elevation)[[22, 23, 0, 1, 2]]
    frame, near, far = planes_of_box(viewmats, LOW, HIGH)
    mean = camera_centres(viewmats).mean(0)
    line = torch.nn.functional.normalize(torch.tensor(MIDDLE) - mean, dim=0)
    assert_close(frame[2, :3], line)
    assert_close(frame[:3, :3] @ frame[:3, :3].mT, torch.eye(3), atol=1e-6, rtol=0)
    corners = torch.tensor(list(itertools.product(*zip(LOW.tolist(), HIGH.tolist(), strict=True))))
    along = (corners - mean) @ line
    assert (near, far) == pytest.approx((along.min().item(), along.max().item()), abs=1e-5)
    assert frame[1, 1] < 0 and abs(frame[0, 1]) < 1e-5  # y of the slab runs down in the pictures, x level


def test_a_dome_is_divided_into_slabs_that_see_every_ray_of_their_cameras():
    rings = [orbit(MIDDLE, 5.0, count, elevation) for count, elevation in ((16, 10.0), (12, 40.0), (6, 70.0))]
    pole = look_at((0.0, 5.8, 0.0), MIDDLE, (0.0, 0.0, 1.0))[None]
    viewmats, K = torch.cat((*rings, pole)), intrinsics(30.0, 16, 16)
    clusters = ViewClusters.of_cameras(camera_centres(viewmats), 5)
    routes = clusters.route(camera_centres(viewmats))
    for index in range(5):
        own = viewmats[routes == index]
        rays = pixel_rays(own, K.expand(len(own), 3, 3), 16, 16, scale=4)
        coordinates = LightSlab.of_rays(*planes_of_box(own, LOW, HIGH), *rays).coordinates(*rays)
        assert_close((coordinates.amin(), coordinates.amax()), (torch.tensor(-1.0), torch.tensor(1.0)))


def test_around_a_pole_where_ups_cancel_the_planes_still_stand_level():
    frame, near, far = planes_of_box(orbit(MIDDLE, 5.0, 8, elevation_degrees=80.0), LOW, HIGH)
    assert_close(frame[2, :3], torch.tensor([0.0, -1.0, 0.0]), atol=1e-5, rtol=0)
    assert far - near == pytest.approx(1.6, abs=1e-4)


@pytest.mark.parametrize("count", [0, 7, 1.5])
def test_counts_that_no_division_has_are_refused(count):
    with pytest.raises(ValueError, match=f"count must be a whole number from 1 to 6, .* not {count}."):
        ViewClusters.of_cameras(cloud(0, 6).repeat(2, 1), count)


def test_bad_places_borders_and_boxes_are_refused_in_one_sentence():
    viewmats = orbit(MIDDLE, 5.0, 4)[:2]
    refusals = [
        (lambda: ViewClusters(torch.zeros(0, 3)), "centres must be [clusters, 3], not [0, 3]."),
        (lambda: ViewClusters.of_cameras(torch.full((3, 3), torch.nan), 2), "cameras must stand at finite places"),
        (lambda: LINE.weights(torch.zeros(3), border=1.5), "border must be between 0 and 1, not 1.5."),
        (lambda: planes_of_box(viewmats, HIGH, LOW), "the object's box must have an extent, not reach from [1.0,"),
        (
            lambda: planes_of_box(viewmats, 9 * LOW - 1, 9 * HIGH),
            "cameras of a cluster must stand before the near side",
        ),
    ]
    for call, message in refusals:
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
