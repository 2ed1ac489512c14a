"""Pseudo views: pictures of a teacher that are made once, from cameras about the real ones."""

from dataclasses import replace

import pytest
import torch
from tiny_lightspeed import TEACHER, grid_of, orbit_of
from torch.testing import assert_close

from pocket_diffusers.hub_models.radiance_lightspeed import LightSpeedRadianceField
from pocket_diffusers.hub_models.rendering.cameras import camera_centres
from pocket_diffusers.pipelines.fitting.pseudo_views_lightspeed import (
    TOGETHER,
    PseudoViews,
    pseudo_cameras,
    render_pseudo_views,
    scene_ball,
)
from pocket_diffusers.pipelines.fitting.slabs_lightspeed import SceneHints
from pocket_diffusers.pipelines.inputs import PosedImages

COUNT = 2 * TOGETHER + 3


def teacher() -> LightSpeedRadianceField:
    """One in which there is something everywhere."""
    torch.manual_seed(0)
    made = LightSpeedRadianceField(**TEACHER, center=(1.0, 0.5, -2.0)).eval()
    with torch.no_grad():
        made.grid.table.normal_(0, 2)
    return made


def small(posed: PosedImages) -> PosedImages:
    """With pictures of 8 x 6 pixels."""
    Ks = posed.Ks / posed.Ks.new_tensor([4, 4, 1])[:, None]
    return replace(posed, images=posed.images[:, :, ::4, ::4], Ks=Ks)


# Where the scene is


def test_how_near_a_scene_is_comes_from_what_is_known_best():
    posed = grid_of()  # cameras on z = 0, which look along z
    depths = torch.full((9, 24, 32), 3.0)
    depths[4, 2, 3], depths[5] = 2.5, 0.0
    points = torch.cat([torch.linspace(4, 8, 101)[:, None] * torch.tensor([0.0, 0, 1]), torch.tensor([[0.0, 0, -1]])])
    told = replace(posed, depths=depths)
    assert scene_ball(told, SceneHints(points, 2.0)).near == 2.0
    assert scene_ball(told, SceneHints(points)).near == 2.5
    assert scene_ball(posed, SceneHints(points)).near == pytest.approx(0.75 * (4 + 0.02 * 4), rel=1e-3)
    ball = scene_ball(told, SceneHints())
    assert ball.radius == 2.5 and ball.center == pytest.approx((0.2, 0.2, 0), abs=1e-6), "before the cameras' middle"
    for blind in (posed, replace(posed, depths=torch.zeros(9, 24, 32))):
        with pytest.raises(ValueError, match="a teacher of pictures that are not from all around must be given points"):
            scene_ball(blind, SceneHints())


def test_cameras_all_around_say_themselves_where_the_scene_is():
    ball = scene_ball(orbit_of(), SceneHints())
    assert ball.center == pytest.approx((1, 0.5, -2), abs=1e-5) and (ball.radius, ball.near) == pytest.approx(
        (1.5, 1.5)
    )
    assert scene_ball(orbit_of(), SceneHints(nearest=0.5)).near == 0.5


def test_pseudo_cameras_stand_about_the_real_ones():
    around = pseudo_cameras(orbit_of(), 60)
    away = camera_centres(around.viewmats) - torch.tensor([1.0, 0.5, -2.0])
    assert_close(away.norm(dim=1), torch.full((60,), 3.0))
    assert (away[:, [0, 2]] > 0).any(0).all() and (away[:, [0, 2]] < 0).any(0).all()
    beside = pseudo_cameras(grid_of(), 60, seed=1)
    places = camera_centres(beside.viewmats)
    assert places[:, :2].min() < 0 < 0.4 < places[:, :2].max() < 0.4 * 1.05 + 1e-6 and not places[:, 2].any()
    assert not torch.equal(beside.viewmats, pseudo_cameras(grid_of(), 60, seed=2).viewmats)


# Pictures


def test_pictures_are_those_of_the_teacher_in_bytes(tmp_path):
    cameras, made = pseudo_cameras(small(orbit_of()), COUNT), teacher()
    render_pseudo_views(made, cameras, tmp_path, progress=False)
    pseudo = PseudoViews.read(cameras, tmp_path)
    wanted, _ = made.render(cameras.viewmats, cameras.Ks, 6, 8)
    assert pseudo.images.dtype == torch.uint8 and pseudo.cameras is cameras
    assert_close(pseudo.images / 255, wanted, atol=0.51 / 255, rtol=0)
    assert wanted.std() > 0.05


def test_they_stand_behind_the_real_ones(tmp_path):
    posed = small(orbit_of())
    cameras = pseudo_cameras(posed, 5)
    render_pseudo_views(teacher(), cameras, tmp_path, progress=False)
    pseudo = PseudoViews.read(cameras, tmp_path)
    images, all_cameras = pseudo.beside(posed)
    assert_close(images[:12] / 255, posed.images, atol=0.51 / 255, rtol=0)
    assert torch.equal(images[12:], pseudo.images)
    assert (len(all_cameras), all_cameras.width, all_cameras.height) == (17, 8, 6)
    for name in ("viewmats", "Ks"):
        both = getattr(all_cameras, name)
        assert torch.equal(both[:12], getattr(posed, name)) and torch.equal(both[12:], getattr(cameras, name))


def test_what_is_there_is_not_made_again_and_processes_share_the_rest(tmp_path, monkeypatch):
    cameras, made, asked = pseudo_cameras(small(orbit_of()), COUNT), teacher(), []
    monkeypatch.setattr(made, "render", lambda viewmats, *rest: asked.append(viewmats) or render(viewmats, *rest))
    render = LightSpeedRadianceField.render.__get__(made)
    for rank, shares in ((0, [TOGETHER, 3]), (1, [TOGETHER])):
        asked.clear()
        render_pseudo_views(made, cameras, tmp_path, rank, 2, progress=False)
        assert list(map(len, asked)) == shares
    whole = PseudoViews.read(cameras, tmp_path).images
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"views_0000{number}.safetensors" for number in range(3)]
    files[1].unlink()
    with pytest.raises(FileNotFoundError, match="views_00001"):
        PseudoViews.read(cameras, tmp_path)
    asked.clear()
    render_pseudo_views(made, cameras, tmp_path, progress=False)
    assert len(asked) == 1 and torch.equal(asked[0], cameras.viewmats[TOGETHER : 2 * TOGETHER])
    assert torch.equal(PseudoViews.read(cameras, tmp_path).images, whole)


def test_a_picture_that_fails_leaves_nothing_half_written(tmp_path, monkeypatch):
    cameras, made = pseudo_cameras(small(orbit_of()), 3), teacher()
    monkeypatch.setattr("pocket_diffusers.pipelines.fitting.pseudo_views_lightspeed.save_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render_pseudo_views(made, cameras, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path):
    cameras = pseudo_cameras(small(orbit_of()), 3)
    render_pseudo_views(teacher(), cameras, tmp_path, progress=False)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="views_00000.safetensors is damaged: remove it, and its pictures are made"):
        PseudoViews.read(cameras, tmp_path)
