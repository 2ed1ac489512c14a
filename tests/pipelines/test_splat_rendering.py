"""Pictures of splat files: cameras that see the scene, and frames that are what the rasteriser draws."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import intrinsics, look_at
from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import write_splats
from pocket_diffusers.pipelines.scene_cameras import DIRECTIONS, Cameras, scene_ball, turntable
from pocket_diffusers.pipelines.splat_rendering import render_splats


def ball(count: int = 400, center=(3.0, -2.0, 1.0), radius: float = 2.0, size: float = 0.02) -> Gaussians:
    """Opaque splats all over a ball."""
    draw = torch.Generator().manual_seed(0)
    way = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    far = radius * torch.rand(count, 1, generator=draw) ** (1 / 3)
    return Gaussians(
        torch.tensor(center) + way * far,
        torch.full((count, 3), size).log(),
        torch.randn(count, 4, generator=draw),
        torch.full((count,), 3.0),
        torch.rand(count, 1, 3, generator=draw) + 0.3,
    )


def with_floaters(scene: Gaussians, opacity: float, count: int) -> Gaussians:
    away = Gaussians(**{name: value[:count].clone() for name, value in scene.tensors().items()})
    away.means.add_(1000.0)
    away.opacity_logits.fill_(float(torch.logit(torch.tensor(opacity))))
    return Gaussians.concatenate([scene, away])


def pixels_of(file) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(file).convert("RGB")))


def test_the_ball_of_a_ball_is_that_ball():
    center, radius = scene_ball(ball())
    assert_close(center, torch.tensor([3.0, -2.0, 1.0]), atol=0.15, rtol=0)
    assert radius == pytest.approx(0.95 ** (1 / 3) * 2 + 0.02, rel=0.06)


@pytest.mark.parametrize(("opacity", "count"), [(0.01, 300), (0.95, 15)], ids=["many faint ones", "a few opaque ones"])
def test_floaters_do_not_move_it(opacity, count):
    center, radius = scene_ball(with_floaters(ball(), opacity, count))
    assert_close(center, torch.tensor([3.0, -2.0, 1.0]), atol=0.25, rtol=0)
    assert radius < 2.4


def test_one_splat_has_a_ball_as_large_as_it_is():
    center, radius = scene_ball(ball(1))
    assert_close(center, ball(1).means[0])
    assert radius == pytest.approx(0.02)


@pytest.mark.parametrize("up", DIRECTIONS)
@pytest.mark.parametrize(("width", "height"), [(64, 64), (90, 30), (30, 90)])
def test_every_camera_of_a_turntable_sees_the_whole_scene(up, width, height):
    scene = ball()
    cameras = turntable(scene, 5, width, height, 25.0, up)
    assert len(cameras) == 5
    rotation, translation = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3]
    seen = scene.means @ rotation.mT + translation[:, None]  # [cameras, splats, 3]
    places = (seen @ cameras.Ks.mT)[..., :2] / seen[..., 2:]
    assert (seen[..., 2] > cameras.near).all()
    assert (places >= 0).all() and (places <= torch.tensor([width, height])).all()
    reach = (places - torch.tensor([width, height]) / 2).abs().amax((0, 1)) / (min(width, height) / 2)
    assert 0.7 < float(reach.max()) < 1, "and it fills the picture"
    axis = torch.zeros(3)
    axis["xyz".index(up[-1])] = -1.0 if up[0] == "-" else 1.0
    eyes = -(rotation.mT @ translation[..., None])[..., 0]
    above = ((eyes - scene_ball(scene)[0]) @ axis) / (eyes - scene_ball(scene)[0]).norm(dim=1)
    assert_close(above, torch.full((5,), float(np.sin(np.radians(25.0)))), atol=1e-3, rtol=0)
    assert ((rotation @ axis)[:, 1] < 0).all(), "up is up"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_scenes_of_any_size_are_drawn(tmp_path, scale):
    scene = ball(center=(0.0, 0.0, 0.0), radius=2 * scale, size=0.1 * scale)
    write_splats(scene, tmp_path / "a.ply")
    (tmp_path / "out").mkdir()
    render_splats(tmp_path / "a.ply", tmp_path / "out", frames=1, size=(32, 32))
    covered = (pixels_of(tmp_path / "out" / "frame_0000.png").sum(2) > 0).float().mean()
    assert 0.4 < float(covered) < 0.95


def test_frames_are_what_the_rasteriser_draws_over_a_background(tmp_path):
    scene = ball(60, size=0.2)
    write_splats(scene, tmp_path / "a.ply")
    (tmp_path / "out").mkdir()
    told = []
    count = render_splats(tmp_path / "a.ply", tmp_path / "out", frames=3, size=(40, 28), elevation=-10.0, up="z",
                          background="#336699", progress=told.append)  # fmt: skip
    assert count == 60 and told == [1, 1, 1]
    cameras = turntable(scene, 3, 40, 28, -10.0, "z")
    colour = torch.tensor([0x33, 0x66, 0x99]) / 255
    drawn = rasterize_gaussians(scene, cameras.viewmats, cameras.Ks, 40, 28, colour).rgb
    for frame in range(3):
        pixels = pixels_of(tmp_path / "out" / f"frame_{frame:04d}.png")
        assert pixels.shape == (28, 40, 3) and pixels[0, 0].tolist() == [0x33, 0x66, 0x99]
        assert_close(pixels.float(), (drawn[frame].clamp(0, 1) * 255).movedim(0, -1), atol=0.51, rtol=0)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["frame_0000.png", "frame_0001.png", "frame_0002.png", "sheet.png", "turntable.webp"]
    film = Image.open(tmp_path / "out" / "turntable.webp")
    assert film.n_frames == 3 and film.size == (40, 28)
    assert Image.open(tmp_path / "out" / "sheet.png").size[0] > 3 * 240


def test_given_cameras_are_used(tmp_path):
    write_splats(ball(40, center=(0.0, 0.0, 0.0)), tmp_path / "a.spz")
    viewmat, K = look_at((0.0, 0.0, -6.0), (0.0, 0.0, 0.0)), intrinsics(50.0, 20, 30)
    cameras = Cameras(viewmat[None], K[None], 30, 20)
    assert len(cameras) == 1
    render_splats(tmp_path / "a.spz", tmp_path, cameras)
    assert pixels_of(tmp_path / "frame_0000.png").shape == (20, 30, 3) and not (tmp_path / "frame_0001.png").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"frames": 0}, "frames must be"),
        ({"size": (0, 32)}, "width must be"),
        ({"size": (32, 1.5)}, "height must be"),
        ({"elevation": 90.0}, "elevation must be"),
        ({"elevation": float("nan")}, "elevation must be"),
        ({"up": "w"}, "up .*w"),
        ({"background": "blau"}, "background must be the name of a colour, or #rrggbb, not 'blau'."),
        ({"background": "#12"}, "background must be"),
        ({"level": 2}, "level must be 0, not 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(tmp_path, options, sentence):
    write_splats(ball(5), tmp_path / "a.ply")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=sentence) as caught:
        render_splats(tmp_path / "a.ply", tmp_path / "out", **{"frames": 1, "size": (16, 16), **options})
    assert len(str(caught.value).splitlines()) == 1 and not list((tmp_path / "out").iterdir())
