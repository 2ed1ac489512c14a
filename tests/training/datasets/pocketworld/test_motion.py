"""Motion programs against kinematics: periods, apexes, speeds, accelerations and limits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.training.datasets.pocketworld.motion import (
    DIRECTIONS,
    HOPS_EACH_WAY,
    PROGRAMS,
    Motion,
    check_motion,
    heading,
    pose_at,
    sample_motion,
    swept_box,
)
from pocket_diffusers.training.datasets.pocketworld.vocabulary import MOTIONS

REST = (0.4, 0.62, -0.3)
STEP = 1e-5

motions = st.builds(
    Motion,
    program=st.sampled_from(PROGRAMS),
    amplitude=st.floats(0.1, 3.0),
    period=st.floats(0.2, 8.0),
    direction=st.floats(-7.0, 7.0),
    phase=st.floats(0.0, 0.99),
)
times = st.floats(0.0, 20.0)


def track(motion, seconds):
    """Centres [N, 3] at the times `seconds` [N]."""
    return np.stack(pose_at(REST, 0.0, motion, seconds)[0], -1)


def velocity(motion, seconds):
    return (track(motion, seconds + STEP) - track(motion, seconds - STEP)) / (2 * STEP)


@settings(max_examples=60, deadline=None)
@given(motions, times)
def test_every_program_repeats_after_its_period(motion, time):
    here, there = pose_at(REST, 0.2, motion, time), pose_at(REST, 0.2, motion, time + motion.period)
    np.testing.assert_allclose(here[0], there[0], atol=1e-9)
    turned = (there[1] - here[1]) / (2 * math.pi)
    assert turned == pytest.approx(1.0 if motion.program == "spin" else 0.0)


@settings(max_examples=60, deadline=None)
@given(motions)
def test_a_motion_starts_at_rest_never_dips_below_it_and_stays_in_its_swept_box(motion):
    start = -motion.phase * motion.period
    np.testing.assert_allclose(pose_at(REST, 0.0, motion, start)[0], REST, atol=1e-9)
    path = track(motion, np.linspace(start, start + motion.period, 1201))
    low, high = swept_box(REST, motion)
    assert path[:, 1].min() >= REST[1] - 1e-12
    assert (path >= np.array(low) - 1e-9).all()
    assert (path <= np.array(high) + 1e-9).all()
    np.testing.assert_allclose(path.min(axis=0), low, atol=1e-4 * motion.amplitude)
    np.testing.assert_allclose(path.max(axis=0), high, atol=1e-4 * motion.amplitude)


@settings(max_examples=40, deadline=None)
@given(motions, st.floats(-10.0, 10.0))
def test_positions_and_phases_only_shift_a_motion(motion, offset):
    moved = pose_at((REST[0] + offset, REST[1], REST[2] - offset), 0.0, motion, 0.7)[0]
    here = pose_at(REST, 0.0, motion, 0.7)[0]
    np.testing.assert_allclose(np.subtract(moved, here), (offset, 0.0, -offset), atol=1e-9)
    late = Motion(motion.program, motion.amplitude, motion.period, motion.direction)
    same = pose_at(REST, 0.0, late, 0.7 + motion.phase * motion.period)[0]
    np.testing.assert_allclose(same, here, atol=1e-8)


@pytest.mark.parametrize("name, axis, sign", [("right", 0, 1), ("left", 0, -1), ("away", 2, -1), ("closer", 2, 1)])
def test_slide_moves_uniformly_along_its_direction_and_comes_back(name, axis, sign):
    motion = Motion("slide", amplitude=1.2, period=4.0, direction=DIRECTIONS[name])
    expected = np.zeros(3)
    expected[axis] = sign * 2 * 1.2 / 4.0  # amplitude in half a period
    out, back = np.array([0.1, 0.7, 1.9]), np.array([2.1, 3.0, 3.9])
    np.testing.assert_allclose(velocity(motion, out), np.tile(expected, (3, 1)), atol=1e-8)
    np.testing.assert_allclose(velocity(motion, back), np.tile(-expected, (3, 1)), atol=1e-8)
    far = np.array(REST) + expected * 2.0
    np.testing.assert_allclose(pose_at(REST, 0.0, motion, 2.0)[0], far, atol=1e-12)


def test_bounce_is_a_ballistic_flight():
    motion = Motion("bounce", amplitude=0.5, period=0.8)
    assert pose_at(REST, 0.0, motion, 0.4)[0] == pytest.approx((REST[0], REST[1] + 0.5, REST[2]))
    gravity = 8 * 0.5 / 0.8**2  # height = g T^2 / 8
    seconds = np.array([0.05, 0.3, 0.55, 0.7])
    np.testing.assert_allclose(velocity(motion, seconds)[:, 1], gravity * (0.4 - seconds), atol=1e-7)
    np.testing.assert_allclose(velocity(motion, seconds)[:, [0, 2]], 0.0, atol=1e-12)


def test_orbit_is_a_uniform_counter_clockwise_circle_around_its_pivot():
    motion = Motion("orbit", amplitude=0.7, period=3.0, direction=0.9)
    pivot = np.array(REST) - 0.7 * np.array(heading(0.9))
    seconds = np.linspace(0.0, 3.0, 13)
    arm, speed = track(motion, seconds) - pivot, velocity(motion, seconds)
    np.testing.assert_allclose(np.linalg.norm(arm, axis=1), 0.7, atol=1e-12)
    # v = omega x r with omega along +Y: counter-clockwise seen from above
    np.testing.assert_allclose(speed, np.cross([0.0, 2 * math.pi / 3.0, 0.0], arm), atol=1e-8)


def test_spin_turns_the_yaw_only():
    motion = Motion("spin", amplitude=0.0, period=2.0, phase=0.25)
    position, yaw = pose_at(REST, 0.1, motion, 0.5)
    assert position == REST
    assert yaw == pytest.approx(0.1 + math.pi)  # half a turn: a quarter by phase, a quarter by time


def test_hop_flies_between_evenly_spaced_landings():
    motion = Motion("hop", amplitude=0.9, period=6.0, direction=math.pi)
    hop = 3.0 / HOPS_EACH_WAY
    landings = track(motion, hop * np.arange(2 * HOPS_EACH_WAY + 1))
    assert landings[:, 1] == pytest.approx(REST[1])
    out = REST[0] - 0.9 * np.arange(HOPS_EACH_WAY + 1) / HOPS_EACH_WAY
    np.testing.assert_allclose(landings[:, 0], [*out, *out[-2::-1]], atol=1e-12)
    apexes = track(motion, hop * (np.arange(2 * HOPS_EACH_WAY) + 0.5))
    np.testing.assert_allclose(apexes[:, 1], REST[1] + 0.9 / HOPS_EACH_WAY, atol=1e-12)
    gravity = 8 * 0.9 / HOPS_EACH_WAY / hop**2
    in_flight = np.array([0.2, 0.5, 0.9])
    np.testing.assert_allclose(velocity(motion, in_flight)[:, 1], gravity * (hop / 2 - in_flight), atol=1e-6)


def test_times_may_be_arrays_or_numbers_and_nothing_moves_without_a_motion():
    seconds = np.linspace(0.0, 2.0, 6).reshape(2, 3)
    for program in PROGRAMS:
        motion = Motion(program, 0.5, 1.7)
        (x, y, z), yaw = pose_at(REST, 0.3, motion, seconds)
        assert x.shape == y.shape == z.shape == yaw.shape == (2, 3)
        one = pose_at(REST, 0.3, motion, float(seconds[1, 2]))
        np.testing.assert_allclose((x[1, 2], y[1, 2], z[1, 2], yaw[1, 2]), (*one[0], one[1]))
        assert all(type(value) is float for value in (*one[0], one[1]))
    assert pose_at(REST, 0.3, None, 5.0) == (REST, 0.3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["cube", "sphere", "cylinder", "cone", "torus"]))
def test_sampled_motions_suit_the_shape_and_are_allowed(seed, shape):
    rng = np.random.default_rng(seed)
    position = (rng.uniform(-1.4, 1.4), 0.5, rng.uniform(-1.4, 1.4))

    def in_room(motion):
        (low_x, _, low_z), (high_x, _, high_z) = swept_box(position, motion)
        return min(low_x, low_z) >= -1.5 and max(high_x, high_z) <= 1.5

    motion = sample_motion(rng, shape, duration=2.0, allowed=in_room)
    check_motion(shape, motion)
    path = np.array(pose_at(position, 0.0, motion, np.linspace(0.0, 9.0, 200))[0])
    assert np.abs(path[[0, 2]]).max() <= 1.5 + 1e-9
    if motion.program in ("slide", "hop"):
        forward = np.array(pose_at(position, 0.0, motion, np.linspace(0.0, 2.0, 9))[0]).T @ heading(motion.direction)
        assert (np.diff(forward) > 0).all()  # never turns back within the clip


def test_sampling_is_reproducible_and_reaches_every_program():
    def draws(seed):
        rng = np.random.default_rng(seed)
        return [sample_motion(rng, "cube") for _ in range(60)]

    assert draws(3) == draws(3)
    assert {motion.program for motion in draws(3)} == set(PROGRAMS)
    rng = np.random.default_rng(0)
    assert {sample_motion(rng, "cone", programs=("spin", "hop")).program for _ in range(9)} == {"hop"}


def test_nothing_is_drawn_where_nothing_is_allowed():
    assert sample_motion(np.random.default_rng(0), "cube", allowed=lambda motion: False) is None


def test_captions_have_words_for_every_program():
    assert set(MOTIONS) == set(PROGRAMS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"program": "fly"}, "program must be one of slide, .*'fly'"),
        ({"program": "slide", "amplitude": 0.0}, "amplitude of slide .* 0.0"),
        ({"program": "hop", "amplitude": math.nan}, "amplitude of hop .* nan"),
        ({"program": "spin", "amplitude": -1.0}, "amplitude of spin .* -1.0"),
        ({"program": "orbit", "period": 0.0}, "period .* 0.0"),
        ({"program": "orbit", "direction": math.inf}, "direction .* inf"),
        ({"program": "bounce", "phase": 1.0}, "phase .* 1.0"),
    ],
)
def test_bad_motions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Motion(**arguments)


def test_only_cubes_spin():
    check_motion("cube", Motion("spin", 0.0))
    check_motion("torus", Motion("orbit"))
    check_motion("torus", None)
    with pytest.raises(ValueError, match=r"spin.*torus"):
        check_motion("torus", Motion("spin", 0.0))
    with pytest.raises(ValueError, match="programs must hold one that suits a cone; got spin"):
        sample_motion(np.random.default_rng(0), "cone", programs=("spin",))
    with pytest.raises(ValueError, match=r"duration .* 0"):
        sample_motion(np.random.default_rng(0), "cone", duration=0)
    with pytest.raises(ValueError, match=r"programs must be among .* fly"):
        sample_motion(np.random.default_rng(0), "cone", programs=("fly",))
