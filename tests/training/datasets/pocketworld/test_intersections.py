"""Ray-solid intersections in float32 against equations solved by other means in float64."""

import math

import numpy as np
import pytest
import torch

from pocket_diffusers.training.datasets.pocketworld.intersections import intersect

# Implicit functions of the unit solids, negative inside; the inside of each is where all of its terms are.
INSIDE = {
    "cube": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 0.82,
    "sphere": lambda x, y, z: np.sqrt(x**2 + y**2 + z**2) - 1,
    "cylinder": lambda x, y, z: np.maximum(np.hypot(x, z) - 0.8, abs(y) - 0.95),
    "cone": lambda x, y, z: np.maximum(np.hypot(x, z) - (1 - y) / 2, -1 - y),
    "torus": lambda x, y, z: np.hypot(np.hypot(x, z) - 0.68, y) - 0.32,
}


def random_rays(count, seed):
    """Rays [3, count] from all around towards random points near the solid, of unit direction, float32."""
    rng = np.random.default_rng(seed)
    o = rng.normal(size=(3, count))
    o *= rng.uniform(2.0, 12.0, count) / np.linalg.norm(o, axis=0)
    d = rng.uniform(-1.1, 1.1, (3, count)) - o
    return o.astype(np.float32), (d / np.linalg.norm(d, axis=0)).astype(np.float32)


def shoot(shape, o, d):
    t, n = intersect(shape, torch.from_numpy(o), torch.from_numpy(d))
    return t.double().numpy(), n.double().numpy()


def slope(shape, points, step=1e-6):
    """Gradient of the implicit function by central differences: [3, P]."""
    moves = step * np.eye(3)[..., None]
    value = INSIDE[shape]
    return np.stack([(value(*(points + m)) - value(*(points - m))) / (2 * step) for m in moves])


@pytest.mark.parametrize("shape", INSIDE)
def test_first_hits_lie_on_the_surface_with_nothing_before_them(shape):
    o, d = random_rays(2000, seed=1)
    t, n = shoot(shape, o, d)
    hit = np.isfinite(t)
    assert 0.2 < hit.mean() < 0.95
    o, d = o.astype(np.float64), d.astype(np.float64)
    on_surface = INSIDE[shape](*(o + np.where(hit, t, 0.0) * d))
    assert np.abs(on_surface[hit]).max() < 1e-3
    middle = -(o * d).sum(0)  # where the ray passes the centre
    last = np.where(hit, t - 1e-2, middle + 2.0)
    before = np.linspace(np.minimum(middle - 2.0, last - 1e-3), last, 120)  # [120, rays]
    assert INSIDE[shape](*(o[:, None] + before * d[:, None])).min() > -5e-3
    inside = o[:, hit] + (t[hit] + 1e-3) * d[:, hit]
    facing = (n * d).sum(0)[hit]
    assert facing.max() <= 1e-6  # outward normals turn towards the viewer
    deep = facing < -0.3
    assert (INSIDE[shape](*inside)[deep] < 0).mean() > 0.99  # all but rays that cut an edge


@pytest.mark.parametrize("shape", INSIDE)
def test_normals_are_the_gradient_of_the_surface(shape):
    o, d = random_rays(2000, seed=2)
    t, n = shoot(shape, o, d)
    hit = np.isfinite(t)
    points = o[:, hit].astype(np.float64) + t[hit] * d[:, hit]
    gradient = slope(shape, points)
    gradient /= np.linalg.norm(gradient, axis=0)
    cosine = (gradient * n[:, hit]).sum(0)
    assert (cosine > 0.9999).mean() > 0.99  # all but points within float32's reach of an edge
    np.testing.assert_allclose(np.linalg.norm(n[:, hit], axis=0), 1.0, atol=1e-4)


def test_torus_agrees_with_the_eigenvalues_of_the_companion_matrix():
    o, d = random_rays(1500, seed=3)
    o[1, :200], d[1, :200] = 0.0, 0.0  # in the plane of the ring: the quartic has two pairs of roots
    d[:, 200:400] = np.array([[0.0], [-1.0], [0.0]])  # along the axis, from above
    o[:, 200:400] = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 200)) * [[1], [0], [1]] + [[0], [4], [0]]
    t, _ = shoot("torus", o, d)
    checked = 0
    for ray, (origin, direction) in enumerate(zip(o.T.astype(float), d.T.astype(float), strict=True)):
        ball = np.poly1d([direction @ direction, 2 * origin @ direction, origin @ origin + 0.68**2 - 0.32**2])
        ox, dx = origin[::2], direction[::2]
        roots = (ball * ball - 4 * 0.68**2 * np.poly1d([dx @ dx, 2 * ox @ dx, ox @ ox])).roots
        if np.any((np.abs(roots.imag) > 1e-9) & (np.abs(roots.imag) < 1e-3)):
            continue  # grazes the surface within rounding
        real = roots.real[(np.abs(roots.imag) <= 1e-9) & (roots.real > 0)]
        assert t[ray] == pytest.approx(real.min() if real.size else math.inf, abs=1e-5)
        checked += 1
    assert checked > 1400


def test_rays_along_the_slope_of_a_cone_keep_their_digits():
    """The quadratic's leading coefficient nears 0 there."""
    rng = np.random.default_rng(4)
    around = rng.uniform(0, 2 * math.pi, 2000)
    steepness = math.atan(2) + rng.normal(size=2000) * 10.0 ** rng.uniform(-7, -2, 2000)
    d = np.stack((np.cos(around) * np.cos(steepness), -np.sin(steepness), np.sin(around) * np.cos(steepness)))
    o = rng.uniform(-1, 1, (3, 2000)) - 8 * d
    o, d = o.astype(np.float32), d.astype(np.float32)
    t, _ = shoot("cone", o, d)
    hit = np.isfinite(t)
    assert hit.sum() > 500
    on_surface = INSIDE["cone"](*(o[:, hit].astype(np.float64) + t[hit] * d[:, hit]))
    assert np.abs(on_surface).max() < 1e-4


@pytest.mark.parametrize("shape", INSIDE)
def test_rays_that_point_away_miss(shape):
    o, d = random_rays(300, seed=5)
    t, _ = shoot(shape, o, -d)
    assert np.isinf(t).all()
