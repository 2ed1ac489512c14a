"""What a scene may hold, and its exact passage through JSON."""

import math
import subprocess
import sys

import numpy as np
import pytest

from pocket_diffusers.training.datasets.pocketworld.motion import Motion
from pocket_diffusers.training.datasets.pocketworld.scene import (
    ALL_PAIRS,
    COLORS,
    HELD_OUT_PAIRS,
    SEEN_PAIRS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
)

CUBE = SceneObject("cube", "red", "large", (0.1, 0.6, -1 / 3), 0.7, Motion("spin", 0.0, 4.0))
BALL = SceneObject("sphere", "blue", "small", (-1.0, 0.42, 0.2), -2.0, Motion("slide", 1.1, 4.0, math.pi, 0.25))


def test_one_pair_a_color_and_two_a_shape_are_held_out():
    colors, shapes = zip(*HELD_OUT_PAIRS, strict=True)
    assert sorted(colors) == sorted(COLORS)
    assert sorted(shapes) == sorted([*SHAPES, *SHAPES])
    assert set(SEEN_PAIRS) | HELD_OUT_PAIRS == set(ALL_PAIRS)
    assert len(SEEN_PAIRS) == 40 and len(ALL_PAIRS) == 50


def test_a_scene_survives_json_exactly():
    ring = SceneObject("torus", "pink", "large", (0.3, 0.1 + 0.2, 0.0), 0.0)
    scene = Scene((CUBE, BALL, ring), ground=(0.1, 1 / 3, 1.0))
    assert Scene.from_json(scene.to_json()) == scene


def test_at_freezes_the_motion():
    scene = Scene((CUBE, BALL)).at(1.0)
    assert [obj.motion for obj in scene.objects] == [None, None]
    assert scene.objects[0].position == CUBE.position
    assert scene.objects[0].yaw == pytest.approx(0.7 + math.pi / 2)
    np.testing.assert_allclose(scene.objects[1].position, (-2.1, 0.42, 0.2))  # a quarter and a quarter: half way back
    assert scene.at(3.0) == scene


def test_measures_follow_the_size():
    small = SceneObject("cylinder", "red", "small", (0.0, 0.4, 0.0), 0.0)
    assert small.radius == SIZES["small"]
    assert small.half_height == pytest.approx(0.95 * 0.42)
    assert small.footprint == pytest.approx(0.8 * 0.42)
    assert CUBE.footprint == pytest.approx(math.hypot(0.82, 0.82) * 0.62)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shape": "pyramid"}, r"shape must be one of cube, .*torus, not 'pyramid'\.$"),
        ({"color": "grey"}, r"color must be one of red, .*white, not 'grey'\.$"),
        ({"size": "huge"}, r"size must be one of small, large, not 'huge'\.$"),
        ({"position": (0.0, math.nan, 0.0)}, r"position and yaw must be finite"),
        ({"position": (0.0, 1.0)}, r"position and yaw must be finite"),
        ({"yaw": math.inf}, r"position and yaw must be finite"),
        ({"shape": "cone", "motion": Motion("spin", 0.0)}, "'spin' is visible on a cube only; got shape 'cone'"),
    ],
)
def test_impossible_objects_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SceneObject(**{"shape": "cube", "color": "red", "size": "small", "position": (0, 1, 0), "yaw": 0.0} | change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"objects": ()}, "objects must hold 1 to 6 solids, not 0"),
        ({"objects": (BALL,) * 7}, "objects must hold 1 to 6 solids, not 7"),
        ({"light": (0.0, 2.0, 0.0)}, r"light must be a unit vector .*not \(0.0, 2.0, 0.0\)"),
        ({"light": (0.6, -0.8, 0.0)}, "light must be a unit vector that points above the ground"),
        ({"light": (1.0, 0.0, 0.0)}, "light must be a unit vector that points above the ground"),
        ({"light": (math.nan, 1.0, 0.0)}, "light must be a unit vector"),
        ({"ground": (0.5, 1.2, 0.5)}, r"ground must lie in \[0, 1\], not \(0.5, 1.2, 0.5\)"),
        ({"sky": (-0.1, 0.2, 0.5)}, r"sky must lie in \[0, 1\]"),
        ({"ambient": 1.5}, r"ambient must lie in \[0, 1\], not 1.5"),
    ],
)
def test_impossible_scenes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Scene(**{"objects": (BALL,)} | change)


def test_words_about_the_world_need_no_torch():
    modules = "captions", "prompts", "motion", "scene", "placement"
    package = "pocket_diffusers.training.datasets.pocketworld"
    code = "; ".join([f"import sys, {package}", *(f"import {package}.{name}" for name in modules)])
    code += f"; from {package} import COLORS, Scene; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
