"""The teacher: it learns a known scene, goes on where it stopped, and makes pseudo pictures from the right places."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.hub_models.rendering.cameras import camera_centres, intrinsics, look_at, orbit
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.hub_models.rendering.volume import RayBins
from pocket_diffusers.pipelines.fitting.loop import load_run
from pocket_diffusers.pipelines.fitting.teacher_lightspeed import (
    RadianceFit,
    SceneBall,
    TeacherFit,
    cameras_all_around,
    cameras_side_by_side,
    fit_teacher,
    misplaced_light,
    pseudo_views,
)
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.scene_cameras import Cameras

SMALL = {
    "levels": 4, "log2_size": 12, "base_resolution": 8, "max_resolution": 64, "width": 16, "bins": 32,
    "occupancy_resolution": 16, "sh_degree": 1,
}  # fmt: skip
MIDDLE = (0.3, 0.1, -0.2)
QUIET = {"progress": False}


def how(**changes) -> TeacherFit:
    return TeacherFit(**{"steps": 60, "rays": 256, "samples": 4096, "options": SMALL, **changes})


def ball_pictures(viewmats: torch.Tensor, side: int = 24) -> PosedImages:
    """A unit ball whose colour is its normal, before a grey wall far away."""
    Ks = intrinsics(45.0, side, side).expand(len(viewmats), 3, 3)
    origins, directions = pixel_rays(viewmats, Ks, side, side)
    away, squared = origins - torch.tensor(MIDDLE), directions.square().sum(-1)
    half = (away * directions).sum(-1) / squared
    root = half.square() - (away.square().sum(-1) - 1) / squared
    depth = torch.where(root > 0, -half - root.clamp_min(0).sqrt(), torch.tensor(100.0))
    normal = away + depth[..., None] * directions
    rgb = torch.where((root > 0)[..., None], normal / 2 + 0.5, torch.tensor(0.4)).clamp(0, 1)
    return PosedImages(rgb.movedim(-1, 1).contiguous(), viewmats, Ks, depths=depth)


def ring(count: int = 8, elevation: float = 20.0) -> PosedImages:
    return ball_pictures(orbit(MIDDLE, 4.0, count, elevation))


def facing(count: int = 12) -> PosedImages:
    draw = torch.Generator().manual_seed(0)
    eyes = torch.tensor([0.0, 0.0, 6.0]) + torch.rand(count, 3, generator=draw)
    targets = torch.tensor(MIDDLE) + 0.3 * torch.rand(count, 3, generator=draw)
    return ball_pictures(look_at(eyes, targets))


def test_a_teacher_shows_a_known_scene_from_places_between():
    posed, between = ring(12), ring(5, 25.0)
    teacher = fit_teacher(
        posed,
        SceneBall.all_around(posed),
        how(steps=100, learning_rate=2e-2, options={**SMALL, "sh_degree": 0}),
        **QUIET,
    )
    made = pseudo_views(teacher, Cameras(between.viewmats, between.Ks, 24, 24))
    flat = between.images.mean((0, 2, 3), keepdim=True).expand_as(between.images)
    assert psnr(made.images, between.images, 1.0).mean() > 20 > 16 > psnr(flat, between.images, 1.0).mean()
    middle = made.depths[:, 8:16, 8:16], between.depths[:, 8:16, 8:16]
    assert_close(*middle, atol=0.3, rtol=0)
    assert not teacher.training and teacher.occupied(torch.tensor(MIDDLE) + torch.tensor([0.0, 0.0, 1.0]))


def test_a_stopped_fit_goes_on_to_the_same_teacher(tmp_path, monkeypatch):
    posed = ring(3)
    ball = SceneBall.all_around(posed)
    settings = how(steps=24, occupancy_every=4, save_every=10)
    whole = fit_teacher(posed, ball, settings, tmp_path / "whole", **QUIET)
    look = RadianceFit.after_step

    def stopping(self, part, step, optimizer):
        if step == 17:
            raise InterruptedError
        look(self, part, step, optimizer)

    with monkeypatch.context() as patch:
        patch.setattr(RadianceFit, "after_step", stopping)
        with pytest.raises(InterruptedError):
            fit_teacher(posed, ball, settings, tmp_path / "run", **QUIET)
    resumed = fit_teacher(posed, ball, settings, tmp_path / "run", **QUIET)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert load_run(tmp_path / "run", {"teacher": resumed}) == 24
    with pytest.raises(ValueError, match="depth_weight"):
        fit_teacher(posed, ball, replace(settings, depth_weight=0.0), tmp_path / "run", **QUIET)


def test_batches_are_pixels_with_their_rays_and_start_anywhere():
    posed = ring(3)
    objective = RadianceFit(fit_teacher(posed, SceneBall.all_around(posed), how(steps=1), **QUIET), posed, how())
    start, later = objective.batches()(0, 0, 1), objective.batches()(2, 0, 1)
    batches = [next(start) for _ in range(3)]
    for value, wanted in zip(next(later), batches[2], strict=True):
        assert torch.equal(value, wanted)
    assert not torch.equal(batches[0].colors, batches[1].colors)
    origins, directions = pixel_rays(posed.viewmats, posed.Ks, 24, 24)
    everything = [value.reshape(-1, 3) for value in (origins, directions, posed.images.movedim(1, -1))]
    for ray in range(20):
        same = (batches[0].directions[ray] - everything[1]).abs().amax(1) < 1e-5
        pixel = int((same & ((batches[0].origins[ray] - everything[0]).abs().amax(1) < 1e-5)).nonzero())
        assert_close(batches[0].colors[ray], everything[2][pixel])
        assert batches[0].depths[ray] == posed.depths.flatten()[pixel]
    blind = RadianceFit(objective.teacher, replace(posed, depths=None), how())
    assert not next(blind.batches()(0, 0, 1)).depths.any()


def test_a_step_looks_at_no_more_than_its_samples():
    posed = ring(3)
    teacher = fit_teacher(posed, SceneBall.all_around(posed), how(steps=1), **QUIET)
    objective = RadianceFit(teacher, posed, how(samples=1000))
    batch, asked = next(objective.batches()(0, 0, 1)), []
    objective.parts["teacher"] = lambda points, directions: asked.append(len(points)) or teacher(points, directions)
    loss, numbers = objective.loss("teacher", batch, torch.Generator().manual_seed(0))
    assert asked == [31 * 32] and numbers["rays"] == 31 and loss.requires_grad


def test_misplaced_light_is_the_share_of_depth_by_which_it_is_off():
    bins = RayBins(*torch.zeros(2, 4, 3), torch.zeros(4, 3), torch.tensor([[1.0, 2.0]]).expand(4, 2))
    shares = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.25, 0.25], [0.5, 0.5]])
    depths = torch.tensor([2.0, 4.0, 2.0, 0.0])
    wanted = [0.0, 0.75, 0.5 + 0.25 * 0.5, 0.0]
    assert_close(misplaced_light(bins, shares, depths), torch.tensor(sum(wanted) / 4))


def test_the_ball_of_a_scene_is_about_what_cameras_look_at():
    around = SceneBall.all_around(ring())
    assert around.center == pytest.approx(MIDDLE, abs=1e-5)
    assert (around.radius, around.near) == pytest.approx((2.0, 2.0))
    assert SceneBall.all_around(ring(), nearest=1.5).near == 1.5
    posed = facing()
    ahead = SceneBall.forward_facing(posed, 3.0)
    assert ahead.center == pytest.approx(camera_centres(posed.viewmats).mean(0).tolist())
    assert (ahead.radius, ahead.near) == (3.0, 3.0)


def test_cameras_all_around_stand_where_the_real_ones_might():
    posed = ball_pictures(torch.cat([orbit(MIDDLE, 3.0, 6, 10.0), orbit(MIDDLE, 5.0, 6, 50.0)]), 12)
    made = cameras_all_around(posed, 400)
    assert (made.width, made.height, len(made)) == (12, 12, 400)
    away = camera_centres(made.viewmats) - torch.tensor(MIDDLE)
    distance = away.norm(dim=1)
    elevation = (away[:, 1] / distance).asin().rad2deg()
    azimuth = torch.atan2(away[:, 0], away[:, 2])
    assert 3 - 1e-3 < distance.min() < 3.1 and 4.9 < distance.max() < 5 + 1e-3
    assert 10 - 0.01 < elevation.min() < 13 and 47 < elevation.max() < 50.01
    # A normal distribution cut off at one deviation has 0.54 of it as its own.
    assert_close(elevation.mean(), torch.tensor(30.0), atol=2, rtol=0)
    assert_close(elevation.std(), torch.tensor(0.54 * 20), atol=1, rtol=0)
    counts = torch.histc(azimuth, 8, -math.pi, math.pi)
    assert counts.min() > 25
    forward = made.viewmats[:, 2, :3]
    assert_close(forward, -away / distance[:, None], atol=1e-4, rtol=0)
    assert (made.viewmats[:, 1, 1] < 0).all(), "up is up"
    assert_close(made.Ks, posed.Ks[:1].expand(400, 3, 3))


def test_cameras_side_by_side_fill_boxes_a_tenth_wider():
    posed = facing()
    made = cameras_side_by_side(posed, 500)
    low, high = camera_centres(posed.viewmats).aminmax(dim=0)
    share = (camera_centres(made.viewmats) - (low + high) / 2) / ((high - low) / 2)
    assert (share.abs().amax(0) < 1.1001).all() and (share.abs().amax(0) > 1.05).all()
    low, high = posed.viewmats[:, 2, :3].aminmax(dim=0)
    share = (made.viewmats[:, 2, :3] - (low + high) / 2) / ((high - low) / 2)
    assert (share[:, :2].abs().amax(0) < 1.12).all() and (share[:, :2].abs().amax(0) > 1.05).all()
    assert_close(made.viewmats[:, 2, :3].mean(0), (low + high) / 2, atol=0.01, rtol=0)
    up = -posed.viewmats[:, 1, :3].mean(0)
    assert (-made.viewmats[:, 1, :3] @ up > 0.9).all()


@pytest.mark.parametrize("make", [cameras_all_around, cameras_side_by_side])
def test_the_same_seed_gives_the_same_cameras(make):
    posed = replace(ring(4), Ks=torch.stack([intrinsics(fov, 24, 24) for fov in (30.0, 40.0, 50.0, 60.0)]))
    first, again, other = make(posed, 40, seed=1), make(posed, 40, seed=1), make(posed, 40, seed=2)
    assert torch.equal(first.viewmats, again.viewmats) and not torch.equal(first.viewmats, other.viewmats)
    assert set(first.Ks[:, 0, 0].tolist()) == set(posed.Ks[:, 0, 0].tolist()), "lenses are those of real cameras"
    with pytest.raises(ValueError, match="views must be a whole number of at least 1, not 0"):
        make(posed, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"rays": 1.5}, "rays must be a whole number of at least 1, not 1.5"),
        ({"learning_rate": -1}, "learning_rate must be a number of at least 0, not -1"),
        ({"depth_weight": math.nan}, "depth_weight must be a number of at least 0, not nan"),
        ({"preset": "huge"}, "preset must be one of paper, nano, not 'huge'"),
    ],
)
def test_what_is_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TeacherFit(**changes)
