"""Pictures of whatever scene a folder holds."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_ascan import make_generator
from tiny_lpgs import make_pipeline

from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.rendering.cameras import intrinsics
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.scene_cameras import Cameras
from pocket_diffusers.pipelines.scene_rendering import render_light_field, render_scene
from pocket_diffusers.pipelines.view_ranges import GridViews

WIDTH, HEIGHT = 24, 16
VIEWS = GridViews(
    viewmat=tuple(torch.eye(4).flatten().tolist()), half_width=1.0, half_height=1.0, focus=4.0, focal=(20.0, 20.0),
    width=WIDTH, height=HEIGHT,
)  # fmt: skip


@pytest.fixture(scope="module")
def field() -> LightSpeedPipeline:
    torch.manual_seed(0)
    made = LightSpeedField(grid_resolutions=(4,), width=8, blocks=1, tail_channels=(4, 4, 4), grid_init=3.0).eval()
    pipeline = LightSpeedPipeline(made, VIEWS.to_config())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pixels_of(folder, frame: int) -> np.ndarray:
    return np.asarray(Image.open(folder / f"frame_{frame:04d}.png"))


def test_a_light_field_is_shown_along_its_path(field, tmp_path):
    field.save_pretrained(tmp_path / "field")
    (tmp_path / "out").mkdir()
    told = []
    made = render_scene(tmp_path / "field", tmp_path / "out", frames=3, progress=told.append)
    assert made.scene == "a light field" and made.options == {} and told == [1, 1, 1]
    shown = field(num_frames=3).images
    assert all((pixels_of(tmp_path / "out", frame) == np.asarray(shown[frame])).all() for frame in range(3))
    assert not (pixels_of(tmp_path / "out", 0) == pixels_of(tmp_path / "out", 1)).all()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["frame_0000.png", "frame_0001.png", "frame_0002.png", "sheet.png", "turntable.webp"]


def test_a_capture_in_another_size_gives_places_and_ways_to_look(field, tmp_path):
    """Pictures twice as large as the field's, and four pixels wider at each side."""
    asked = []
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 0, 3] = -0.5
    K = torch.tensor([[40.0, 0, 28.0], [0, 40.0, 16.0], [0, 0, 1]])

    def read_cameras(side: int) -> Cameras:
        asked.append(side)
        return Cameras(viewmats, K.expand(2, 3, 3), 56, 32)

    render_light_field(field, tmp_path, read_cameras)
    own = torch.tensor([[20.0, 0, 12.0], [0, 20.0, 8.0], [0, 0, 1]]).expand(2, 3, 3)
    shown = field(Cameras(viewmats, own, WIDTH, HEIGHT)).images
    assert asked == [WIDTH] and len(list(tmp_path.glob("frame_*.png"))) == 2
    assert all((pixels_of(tmp_path, frame) == np.asarray(shown[frame])).all() for frame in range(2))


def test_cameras_of_other_lenses_are_refused_before_a_picture_is_drawn(field, tmp_path):
    Ks = torch.stack([intrinsics(fov, HEIGHT, WIDTH) for fov in (40.0, 40.0, 80.0)])
    with pytest.raises(ValueError, match="focal lengths in Ks must be within a tenth of"):
        render_light_field(field, tmp_path, lambda side: Cameras(torch.eye(4).repeat(3, 1, 1), Ks, WIDTH, HEIGHT))
    assert not list(tmp_path.iterdir())


def test_a_field_that_does_not_say_from_where_needs_cameras(field, tmp_path):
    silent = LightSpeedPipeline(field.field)
    silent.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match="cameras must be given"):
        render_light_field(silent, tmp_path)
    K = intrinsics(40.0, HEIGHT, WIDTH)
    asked = []
    render_light_field(
        silent, tmp_path, lambda side: asked.append(side) or Cameras(torch.eye(4)[None], K[None], WIDTH, HEIGHT)
    )
    assert asked == [None] and pixels_of(tmp_path, 0).shape == (HEIGHT, WIDTH, 3)


def test_options_of_splats_are_none_of_a_light_field(field, tmp_path):
    field.save_pretrained(tmp_path / "field")
    with pytest.raises(ValueError, match="--background is for splats, and .*field is a light field"):
        render_scene(tmp_path / "field", tmp_path / "out", options={"background": "red"})


def test_splats_of_a_pipeline_are_shown_with_their_options(tmp_path):
    make_pipeline().save_pretrained(tmp_path / "saved")
    (tmp_path / "out").mkdir()
    made = render_scene(tmp_path / "saved", tmp_path / "out", frames=1, options={"size": (20, 12)})
    assert made.scene == "360 Gaussians" and made.options == {"size": (20, 12), "background": "black", "level": 0}
    assert pixels_of(tmp_path / "out", 0).shape == (12, 20, 3)


def test_a_pipeline_of_no_scene_is_refused(tmp_path):
    make_generator().save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="must hold splats, but its pipeline AsCANPipeline has none"):
        render_scene(tmp_path / "saved", tmp_path / "out")
