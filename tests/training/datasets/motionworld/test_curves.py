"""Curves: through their keys, at rest where they say so, never above their bound."""

import numpy as np
import pytest

from pocket_diffusers.training.datasets.motionworld.curves import (
    ease,
    keyed,
    pulse,
    rise,
    smooth,
    smooth_below,
    swung,
    thrown,
)

TIME = np.linspace(0.0, 4.0, 4001)


@pytest.mark.parametrize("curve", [ease, swung])
def test_ways_from_0_to_1(curve):
    values = curve(np.linspace(-1, 2, 3001))
    assert values[0] == 0 and values[-1] == 1 and (np.diff(values) >= 0).all()
    assert curve(0.5) == pytest.approx(0.5) and curve(0.25) == pytest.approx(1 - curve(0.75))
    assert np.diff(values).max() * 1000 == pytest.approx({ease: 1.875, swung: 1.5}[curve], abs=1e-3)


def test_a_pulse_rises_holds_and_falls():
    values = pulse(TIME, 0.5, 1.0, 2.0, 3.0)
    assert values[TIME < 0.5].max() == 0 and values[TIME > 3.0].max() < 1e-12
    assert values[(TIME >= 1.0) & (TIME <= 2.0)] == pytest.approx(1.0)
    np.testing.assert_array_equal(rise(TIME, 0.5, 1.0)[TIME < 2.0], values[TIME < 2.0])


def test_keys_are_passed_at_rest():
    keys = [(0.5, (1.0, 0.0)), (1.0, (3.0, -1.0)), (2.5, (-2.0, 4.0))]
    values = keyed(TIME, keys)
    for moment, value in keys:
        frame = round(moment * 1000)
        np.testing.assert_allclose(values[frame], value)
        np.testing.assert_allclose(values[frame + 1], value, atol=1e-4)
    np.testing.assert_allclose(values[0], keys[0][1])
    np.testing.assert_allclose(values[-1], keys[-1][1])


def test_a_throw_is_a_parabola():
    height, gravity = 0.3, 9.81
    speed = np.sqrt(2 * gravity * height)
    flight = 2 * speed / gravity
    values = thrown(TIME, [(1.0, 0.1, speed), (1.0 + flight, 0.1, -speed)])
    t = TIME - 1.0
    inside = (t >= 0) & (t <= flight)
    np.testing.assert_allclose(values[inside], (0.1 + speed * t - 0.5 * gravity * t**2)[inside], atol=1e-9)
    assert values[~inside] == pytest.approx(0.1)


def test_smoothing_keeps_lines_and_means():
    line = 3.0 - 0.5 * np.arange(20)
    np.testing.assert_allclose(smooth(line)[2:-2], line[2:-2])
    spike = np.eye(1, 21, 10)[0]
    assert smooth(spike).sum() == pytest.approx(1.0) and smooth(spike).max() == 0.375


def test_no_curve_exceeds_its_ceiling():
    rng = np.random.default_rng(0)
    curve, ceiling = rng.normal(size=(2, 500)) * 0.1
    assert (smooth_below(curve, ceiling) <= np.minimum(curve, ceiling)).all()
    low = np.full(500, -3.0)
    np.testing.assert_allclose(smooth_below(low, ceiling), low, atol=1e-3)
