"""Rays against capsules, beside a search along each ray for the first point inside a chain of balls."""

import numpy as np
import pytest

from pocket_diffusers.pipelines.motion.capsule_rays import Camera, Capsules, cast, normals_at

SIZE = 20
CASES = {
    "slender": ([(-0.3, 0.1, 0)], [(0.4, 0.2, 0.3)], [0.10], [0.05]),
    "of one radius": ([(0, -0.4, 0)], [(0, 0.4, 0)], [0.2], [0.2]),
    "point first": ([(0, 0, 1.2)], [(0, 0, -0.4)], [0.05], [0.35]),
    "thick end first": ([(0, 0, 1.2)], [(0, 0, -0.4)], [0.3], [0.1]),
    "a ball": ([(0.1, 0, 0)], [(0.1, 0, 0)], [0.3], [0.3]),
    "steepest": ([(0, 0, 0)], [(0.2, 0.1, 0)], [0.28], [0.10]),
    "three": ([(-0.4, 0, 0), (0, -0.4, 0.2), (0, 0, -0.5)], [(0.4, 0, 0), (0, 0.4, 0.2), (0.3, 0.3, -0.5)],
              [0.1, 0.08, 0.3], [0.12, 0.1, 0.2]),
}  # fmt: skip


def capsules_of(name):
    return Capsules(*(np.array(values, float) for values in CASES[name]))


def depth_inside(points, capsules):
    """How far points [..., 3] are outside the capsules, by many balls on each axis: [..., capsules]."""
    shares = np.linspace(0, 1, 161)[:, None]
    outside = []
    for start, end, first, last in zip(
        capsules.starts, capsules.ends, capsules.start_radii, capsules.end_radii, strict=True
    ):
        centers, radii = start + shares * (end - start), first + shares[:, 0] * (last - first)
        outside.append((np.linalg.norm(points[..., None, :] - centers, axis=-1) - radii).min(-1))
    return np.stack(outside, -1)


@pytest.mark.parametrize("azimuth", [0.7, 2.5])
@pytest.mark.parametrize("name", CASES)
def test_rays_stop_at_the_first_surface(name, azimuth):
    capsules = capsules_of(name)
    camera = Camera.looking(np.array([0.0, 0.05, 0.0]), azimuth, 0.3, 3.0, 2.4)
    rays = camera.rays(SIZE)
    distances, numbers = cast(camera, rays, capsules)
    seen = numbers >= 0
    assert 10 < seen.sum() < SIZE * SIZE and np.array_equal(seen, np.isfinite(distances))
    points = camera.eye + (distances[seen] * rays[:, seen]).T
    gaps = depth_inside(points, capsules)
    assert np.abs(gaps[np.arange(len(points)), numbers[seen]]).max() < 1e-3, "each hit lies on its capsule"
    assert gaps.min() > -1e-3, "and in no other"
    ends = np.where(seen, distances, 5.0)
    along = np.linspace(0.6, 1, 25)[:, None, None] * (ends - 2e-3)
    before = (camera.eye + along[..., None] * rays.transpose(1, 2, 0)).reshape(25, -1, 3)[:, ::11]
    assert depth_inside(before, capsules).min() > -1e-3, "nothing is passed through"


@pytest.mark.parametrize("name", CASES)
def test_normals_are_the_slope_of_the_distance(name):
    capsules = capsules_of(name)
    camera = Camera.looking(np.array([0.0, 0.05, 0.0]), 0.7, 0.3, 3.0, 2.4)
    distances, numbers = cast(camera, camera.rays(SIZE), capsules)
    points = camera.eye + (distances[numbers >= 0] * camera.rays(SIZE)[:, numbers >= 0]).T
    normals, owners, step = normals_at(points, numbers[numbers >= 0], capsules), numbers[numbers >= 0], 1e-3
    rows = np.arange(len(points))
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        slope = (
            (depth_inside(points + shift, capsules) - depth_inside(points - shift, capsules))[rows, owners] / step / 2
        )
        assert np.abs(slope - normals[:, axis]).max() < 0.03


def test_pixels_and_rays_agree():
    camera = Camera.looking(np.array([1.0, 0.5, -2.0]), 1.1, 0.4, 4.0, 1.9)
    for row, column in ((0, 0), (5, 17), (19, 19)):
        x, y, depth = camera.project(camera.eye + 3.0 * camera.rays(SIZE)[:, row, column], SIZE)
        assert (x, y) == (pytest.approx(column + 0.5, abs=1e-4), pytest.approx(row + 0.5, abs=1e-4)) and depth < 3.0
    assert np.allclose(camera.project(np.array([1.0, 0.5, -2.0]), SIZE), [10, 10, 4.0]), "its target is in the middle"
    higher = camera.project(np.array([1.0, 0.9, -2.0]), SIZE)
    assert higher[1] < 10, "up is up"
    beside = Camera.looking(np.zeros(3), 0.0, 0.0, 4.0, 1.9)
    assert np.allclose(beside.eye, [0, 0, 4]) and beside.project(np.array([1.0, 0, 0]), SIZE)[0] > 10, (
        "from +Z, +X is right"
    )


def test_what_is_out_of_sight_is_not_there():
    behind = Capsules(np.array([[0, 0, 9.0]]), np.array([[0, 1, 9.0]]), np.array([0.1]), np.array([0.1]))
    camera = Camera.looking(np.zeros(3), 0.0, 0.0, 4.0, 1.9)
    assert (cast(camera, camera.rays(SIZE), behind)[1] == -1).all()
