"""Undistortion, against pictures that a distorted lens takes of a scene in closed form."""

import numpy as np
import pytest
import torch
from scipy.optimize import root

from pocket_diffusers.training.datasets.undistortion import PINHOLE, Distortion, undistorted

K = torch.tensor([[70.0, 0, 31.5], [0, 66.0, 22.5], [0, 0, 1]])
HEIGHT, WIDTH = 46, 64
LENSES = [
    Distortion(k1=-0.25),
    Distortion(k1=0.2),
    Distortion(k1=-0.2, k2=0.05),
    Distortion(k1=-0.15, k2=0.02, p1=0.01, p2=-0.02),
    Distortion(0.3, -0.1, 0.005, 0.008, 0.02, 0.25, -0.05, 0.01),
]


def opencv(x, y, lens):
    """The model as OpenCV's documentation of `calib3d` states it."""
    r2 = x**2 + y**2
    radial = (1 + lens.k1 * r2 + lens.k2 * r2**2 + lens.k3 * r2**3) / (
        1 + lens.k4 * r2 + lens.k5 * r2**2 + lens.k6 * r2**3
    )
    return (
        x * radial + 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x**2),
        y * radial + lens.p1 * (r2 + 2 * y**2) + 2 * lens.p2 * x * y,
    )


def scene(x, y):
    """Colours in [0, 1] of the plane at depth 1."""
    return np.stack([0.5 + 0.4 * np.sin(9 * x + 2), 0.5 + 0.4 * np.cos(8 * y), 0.5 + 0.4 * np.sin(6 * (x + y))])


def pixels():
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (u - K[0, 2].item()) / K[0, 0].item(), (v - K[1, 2].item()) / K[1, 1].item()


def picture_through(lens):
    """Each pixel shows the point of the scene that the lens moves to it, found by Newton's method."""
    x, y = pixels()
    points = np.empty((2, HEIGHT, WIDTH))
    for place in np.ndindex(HEIGHT, WIDTH):
        target = x[place], y[place]
        solution = root(lambda p, target=target: np.subtract(opencv(*p, lens), target), target, tol=1e-12)
        points[:, *place] = solution.x
    return torch.from_numpy(scene(*points)).float()


@pytest.mark.parametrize("lens", LENSES)
def test_undistorted_pictures_are_those_of_a_pinhole(lens):
    flat, inside = undistorted(picture_through(lens), K, lens)
    ideal = torch.from_numpy(scene(*pixels())).float()
    x, y = opencv(*pixels(), lens)
    u, v = x * K[0, 0].item() + K[0, 2].item(), y * K[1, 1].item() + K[1, 2].item()
    expected = (u >= 0) & (u <= WIDTH) & (v >= 0) & (v <= HEIGHT)
    np.testing.assert_array_equal(inside, expected)
    well_inside = torch.from_numpy((u >= 0.5) & (u <= WIDTH - 0.5) & (v >= 0.5) & (v <= HEIGHT - 0.5))
    assert well_inside.sum() > 0.8 * HEIGHT * WIDTH
    error = (flat - ideal).abs().amax(0)[well_inside]
    unmended = (picture_through(lens) - ideal).abs().amax(0)[well_inside]
    assert error.max() < 0.006 < 10 * error.max() < unmended.max()


def test_a_pinhole_is_left_as_it_is():
    picture = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    flat, inside = undistorted(picture, K, PINHOLE)
    torch.testing.assert_close(flat, picture, atol=1e-5, rtol=0)
    assert inside.all()


def test_tall_pictures_are_worked_on_in_bands():
    tall, lens = torch.rand(1, 700, 8, generator=torch.Generator().manual_seed(0)), Distortion(k1=-0.1)
    K = torch.tensor([[300.0, 0, 4], [0, 300, 350], [0, 0, 1]])
    flat, inside = undistorted(tall, K, lens)
    mirrored, seen = undistorted(tall.flip(1), K, lens)
    torch.testing.assert_close(mirrored.flip(1), flat, atol=2e-4, rtol=0)  # in single precision
    assert torch.equal(seen.flip(0), inside)


def test_a_polynomial_that_turns_back_shows_nothing_twice():
    lens = Distortion(k1=-0.4)  # r - 0.4 r^3 turns at r = 1 / sqrt(1.2)
    assert lens.reach(5.0) == pytest.approx(1.2**-0.5, abs=5 / 4000)
    assert lens.reach(0.5) == 0.5
    K = torch.tensor([[20.0, 0, 32], [0, 20, 32], [0, 0, 1]])  # rays up to a radius of 2.3
    _, inside = undistorted(torch.zeros(1, 64, 64), K, lens)
    v, u = np.mgrid[:64, :64] + 0.5 - 32
    np.testing.assert_array_equal(inside, np.hypot(u, v) / 20 <= lens.reach(10.0))
    assert 0 < inside.float().mean() < 0.35
