"""Circles of cameras around scenes."""

from dataclasses import asdict

import pytest
import torch
from tiny_lpgs import CIRCLE, make_pipeline

from pocket_diffusers.hub_models.rendering.cameras import look_at, orbit
from pocket_diffusers.pipelines.scene_cameras import DIRECTIONS, Circle, circle_of
from pocket_diffusers.pipelines.splat_rendering import render_splats

UPS = {"x": (1.0, 0, 0), "y": (0, 1.0, 0), "z": (0, 0, 1.0), "-x": (-1.0, 0, 0), "-y": (0, -1.0, 0), "-z": (0, 0, -1.0)}


@pytest.mark.parametrize("up", DIRECTIONS)
@pytest.mark.parametrize("elevation", [-35.0, 0.0, 20.0])
def test_the_circle_of_cameras_is_that_on_which_they_stand(up, elevation):
    center = (1.0, -2.0, 3.0)
    found = Circle.of_cameras(orbit(center, 4.5, 7, elevation, UPS[up]), up)
    assert found.center == pytest.approx(center, abs=1e-5) and found.up == up
    assert found.distance == pytest.approx(4.5, rel=1e-5) and found.elevation == pytest.approx(elevation, abs=1e-3)
    again = found.cameras(7, 16, 16)
    assert torch.allclose(again.viewmats, orbit(center, 4.5, 7, elevation, UPS[up]), atol=1e-4)


def test_cameras_that_miss_each_other_look_at_the_point_nearest_to_all_axes():
    views = look_at([[3.0, 0, 0.1], [0, 3.0, -0.1]], [[0.0, 0, 0.1], [0, 0, -0.1]], (0.0, 0, 1))
    assert Circle.of_cameras(views, "z").center == pytest.approx((0, 0, 0), abs=1e-6)


def test_a_circle_survives_json_and_bad_ones_are_refused():
    circle = Circle((1, 2, 3), 2.5, 10, "z")
    assert circle_of(asdict(circle)) == circle == circle_of({**asdict(circle), "center": [1, 2, 3]})
    for changes, message in (
        ({"center": (0, 0)}, "center must be three numbers"),
        ({"center": (0, 0, float("inf"))}, "center must be a number"),
        ({"distance": 0}, "distance must be a number of at least"),
        ({"elevation": 90}, "elevation must be a number from -89 to 89, not 90"),
        ({"up": "w"}, "up must be one of x, y, z"),
    ):
        with pytest.raises(ValueError, match=message):
            circle_of({**asdict(circle), **changes})
    with pytest.raises(ValueError, match="circle must have center, distance, elevation, up, not center, far"):
        circle_of({"center": (0, 0, 0), "far": 1})


def test_a_scene_is_rendered_from_its_own_circle_unless_told_otherwise(tmp_path):
    pipeline = make_pipeline(circle=CIRCLE)
    pipeline.save_pretrained(tmp_path / "saved")
    seen = {}
    for name, wishes in (
        ("own", {}),
        ("same", {"elevation": 20.0}),
        ("other", {"elevation": -60.0}),
        ("up", {"up": "x"}),
    ):
        (tmp_path / name).mkdir()
        render_splats(tmp_path / "saved", tmp_path / name, frames=2, size=(24, 24), **wishes)
        seen[name] = (tmp_path / name / "frame_0000.png").read_bytes()
    assert seen["own"] == seen["same"] and len(set(seen.values())) == 3
    shown = pipeline(num_frames=2, height=24, width=24).images[0]
    shown.save(tmp_path / "shown.png")
    assert (tmp_path / "shown.png").read_bytes() == seen["own"]
