"""Feet: planted toes stand still, steps lead from one place to the next."""

import numpy as np
import pytest

from pocket_diffusers.training.datasets.motionworld.footsteps import FLAT, Foot, Step

TIME = np.arange(100) / 20


def foot(*steps):
    still = np.zeros(100)
    return Foot((0.1, 0.2), 10.0, still, np.zeros((100, 2)), still, np.zeros(100, bool), list(steps))


def test_a_foot_that_stands():
    trace = foot().trace(TIME)
    assert (trace.toes == (0.1, 0.0, 0.2)).all() and trace.planted.all()
    assert (trace.yaw == 10.0).all() and (trace.pitch == FLAT).all()
    np.testing.assert_allclose(np.linalg.norm(trace.direction, axis=-1), 1.0)
    assert (trace.direction[:, 1] < 0).all() and (trace.direction[:, 2] > 0.8).all()


def test_two_steps():
    first = Step(1.0, 1.5, (0.3, 0.9), 20.0, clearance=0.1, heel=30.0, strike=20.0)
    second = Step(2.5, 3.0, (0.3, 1.5), -5.0, clearance=0.2, heel=30.0, strike=20.0)
    stepping = foot(first, second)
    assert stepping.stands_at == (0.3, 1.5)
    trace = stepping.trace(TIME)
    for begin, end, place, yaw in ((0, 20, (0.1, 0.2), 10), (30, 50, (0.3, 0.9), 20), (60, 99, (0.3, 1.5), -5)):
        planted = slice(begin, end + 1)
        np.testing.assert_allclose(trace.toes[planted], [(place[0], 0.0, place[1])] * (end + 1 - begin), atol=1e-12)
        np.testing.assert_allclose(trace.yaw[planted], yaw)
        assert trace.planted[planted].all()
    assert not trace.planted[21:30].any() and not trace.planted[51:60].any()
    assert trace.toes[20:31, 1].max() == pytest.approx(0.1, rel=0.05) and trace.toes[:, 1].min() >= 0
    assert trace.toes[50:61, 1].max() == pytest.approx(0.2, rel=0.05)
    assert trace.pitch[18:24].max() > FLAT + 25 and trace.pitch[25:30].min() < FLAT - 15  # heel up, then toes up


def test_a_foot_that_kicks_is_not_planted():
    kicking = foot()
    kicking.flight[40:50], kicking.reach[40:50], kicking.busy[40:50] = 0.5, (0.0, 0.4), True
    trace = kicking.trace(TIME)
    assert trace.planted.sum() == 90 and not trace.planted[40:50].any()
    np.testing.assert_allclose(trace.toes[45], (0.1, 0.5, 0.6))
