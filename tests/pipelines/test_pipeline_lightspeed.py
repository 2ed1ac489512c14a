"""The pipeline of LightSpeed: it shows what it was fitted to from where it was seen, and elsewhere between."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_lightspeed import FEW, VIEWS, grid_of, make_field, make_pipeline, orbit_of, seen_through, world_grid
from torch.testing import assert_close

from pocket_diffusers.hub_models.rendering.cameras import camera_centres, intrinsics, look_at, orbit
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.scene_cameras import Cameras
from pocket_diffusers.pipelines.view_ranges import GridViews, OrbitViews, views_of

ONE_STEP = {"steps": 1, "options": {**FEW, "width": 4}, "progress": False}


def psnr(shown, truth):
    return -10 * float((shown - truth).square().mean().log10())


def cameras_of(posed: PosedImages) -> Cameras:
    return Cameras(posed.viewmats, posed.Ks, posed.width, posed.height)


def silent(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# Pictures


@torch.no_grad()
def test_a_picture_is_what_the_field_shows_along_its_rays():
    field = make_field(num_sub_scenes=1)
    pipeline = silent(LightSpeedPipeline(field))
    viewmats = orbit((0.1, 0.0, -0.2), 2.5, 3, 10.0)
    Ks = torch.tensor([[70.0, 0, 9], [0, 65, 13], [0, 0, 1]]).expand(3, 3, 3)
    shown = pipeline(Cameras(viewmats, Ks, 24, 32), output_type="pt").images
    origins, directions = (rays.movedim(-1, 1) for rays in pixel_rays(viewmats, Ks, 32, 24, 8))
    assert shown.shape == (3, 3, 32, 24)
    assert_close(shown, field(origins, directions), atol=1e-5, rtol=1e-5)


def test_without_cameras_it_goes_along_the_path_of_its_views():
    pipeline = make_pipeline()
    path = views_of(VIEWS).path(5)
    assert torch.equal(pipeline(num_frames=5, output_type="pt").images, pipeline(path, output_type="pt").images)
    assert len(pipeline(num_frames=2).images) == 2


def test_a_field_that_does_not_say_from_where_it_is_seen_needs_cameras_and_takes_any():
    pipeline = make_pipeline(views=None)
    assert pipeline.view_range is None
    wanted = "^cameras must be given, for this field does not say from where it may be seen, not None.$"
    with pytest.raises(ValueError, match=wanted):
        pipeline()
    assert pipeline(seen_through(3.0), output_type="pt").images.shape == (1, 3, 24, 24)
    with pytest.raises(ValueError, match="height must be a multiple of 8 pixels, not 20"):
        pipeline(replace(seen_through(), height=20))


def test_views_are_kept_as_they_were_given(tmp_path):
    stored = {**VIEWS, "center": (0, 0, 0)}
    pipeline = make_pipeline(stored)
    pipeline.save_pretrained(tmp_path)
    assert LightSpeedPipeline.from_pretrained(tmp_path).view_range == pipeline.view_range == views_of(VIEWS)


# Fits


@pytest.fixture(scope="module")
def fitted():
    """A field of a scene of PocketWorld, and the views that it did not learn from."""
    posed, held_out = world_grid(), torch.zeros(5, 5, dtype=torch.bool)
    held_out[1::2, 1::2] = True
    seen, held_out = posed.select(~held_out.flatten()), posed.select(held_out.flatten())
    settings = {"steps": 100, "batch_views": 3, "learning_rate": 1e-2, "grid_rate": 5e-2, "options": FEW}
    return silent(LightSpeedPipeline.fit(seen, progress=False, **settings)), seen, held_out


def test_a_fit_of_seconds_shows_views_that_it_never_saw(fitted):
    pipeline, seen, held_out = fitted
    shown = pipeline(cameras_of(held_out), output_type="pt").images
    mean = seen.images.mean(0).expand_as(shown)
    neighbours = torch.stack([_nearest(seen, viewmat) for viewmat in held_out.viewmats])
    assert psnr(shown, held_out.images) > max(psnr(mean, held_out.images), psnr(neighbours, held_out.images)) + 3
    assert not pipeline.field.training


def _nearest(seen: PosedImages, viewmat):
    """The mean of the four pictures taken nearest to a camera."""
    away = (camera_centres(seen.viewmats) - camera_centres(viewmat)).norm(dim=1)
    return seen.images[away.argsort()[:4]].mean(0)


def test_a_fitted_grid_is_looked_at_from_where_its_cameras_stood(fitted):
    pipeline, seen, _ = fitted
    views = pipeline.view_range
    assert isinstance(views, GridViews) and views.focus is None
    assert (views.half_width, views.half_height) == pytest.approx((1.4, 1.4), rel=1e-4)
    corner = views.camera(-1, 1)
    assert_close(corner.viewmats[0], seen.viewmats[0], atol=1e-4, rtol=0)
    assert_close(corner.Ks[0], seen.Ks[0], atol=1e-3, rtol=0)
    first = pipeline(corner, output_type="pt").images
    assert psnr(first, seen.images[:1]) > 20


@pytest.mark.parametrize("elevation", [20.0, 60.0])
def test_a_fitted_orbit_is_looked_at_from_around(elevation):
    posed = orbit_of(16, elevation, up=(0, 0, -1))
    pipeline = LightSpeedPipeline.fit(posed, up="-z", **{**ONE_STEP, "options": {**FEW, "num_sub_scenes": 5}})
    views = pipeline.view_range
    assert isinstance(views, OrbitViews) and (views.up, views.width, views.height) == ("-z", 32, 24)
    assert views.center == pytest.approx((1, 0.5, -2), abs=1e-3) and views.distance == pytest.approx(3, abs=1e-3)
    assert (views.low, views.high) == pytest.approx((elevation, elevation), abs=0.1)
    assert pipeline(num_frames=2, output_type="pt").images.isfinite().all()
    alone = LightSpeedPipeline.fit(posed, up="-z", **ONE_STEP) if elevation == 60 else pipeline
    assert isinstance(alone.view_range, OrbitViews), "a single slab from above is turned with its orbit too"


def test_pictures_of_other_sides_are_cut_to_whole_blocks():
    posed = grid_of()
    odd = replace(posed, images=torch.rand(9, 3, 31, 43), Ks=intrinsics(40.0, 31, 43).repeat(9, 1, 1))
    pipeline = silent(LightSpeedPipeline.fit(odd, **ONE_STEP))
    assert pipeline(num_frames=1)[0][0].size == (40, 24)


def test_a_seed_makes_one_field():
    first, again, other = (LightSpeedPipeline.fit(grid_of(), seed=seed, **ONE_STEP).field for seed in (1, 1, 2))
    states = [field.state_dict() for field in (first, again, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    name = "sub_scenes.0.grid.levels.0"
    assert not torch.equal(states[0][name], states[2][name])


# What cannot be fitted


def turned(view: int, angle: float) -> PosedImages:
    """A grid of which one camera looks another way."""
    posed = grid_of()
    viewmats = posed.viewmats.clone()
    place = camera_centres(viewmats)[view]
    viewmats[view] = look_at(place, place + torch.tensor([math.sin(angle), 0, math.cos(angle)]), (0.0, -1, 0))
    return replace(posed, viewmats=viewmats)


def sheared(posed: PosedImages, focus: float) -> PosedImages:
    """The same views, shifted so that they agree at a distance."""
    Ks = posed.Ks.clone()
    Ks[:, :2, 2] += Ks[:, :1, 0] * camera_centres(posed.viewmats)[:, :2] / focus
    return replace(posed, Ks=Ks)


def zoomed(view: int) -> PosedImages:
    posed = grid_of()
    Ks = posed.Ks.clone()
    Ks[view] = intrinsics(20.0, 24, 32)
    return replace(posed, Ks=Ks)


PARALLEL = "rays must run from the light slab's first plane to its second, not parallel to them or back as in direction"
BEHIND = "cameras must stand before the light slab's second plane, not behind it at "


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (grid_of(1, 1), {}, "pictures must be at least 2, from different places, not 1"),
        (grid_of(2, 2, step=0.0), {}, "pictures must be from different places, not all from one"),
        (grid_of(1, 4), {}, r"rays must differ in x, y, u and v, not share y = 0; .* more than one row and one column"),
        (sheared(grid_of(depths=torch.tensor([0.0] * 8 + [5])), 2.0), {"slab": "grid"}, BEHIND),
        (turned(4, math.pi / 2), {"slab": "grid"}, PARALLEL),
        (turned(4, math.pi), {"slab": "grid"}, PARALLEL),
        (turned(4, math.pi / 2), {"slab": "ndc", "nearest": 1.0}, PARALLEL),
        (orbit_of(), {"slab": "grid"}, "cameras must look about the same way, not all around"),
        (orbit_of(), {"options": {**FEW, "num_sub_scenes": 2}}, "cameras of a cluster must stand before the near side"),
        (
            zoomed(3),
            {},
            r"focal lengths in Ks must be within a tenth of 33\.0 and 33\.0 pixels, .*, not \[68\.1, 68\.1",
        ),
        (
            replace(grid_of(), images=torch.rand(9, 3, 4, 32)),
            {},
            "pictures must be at least 8 x 8 pixels, not '4 x 32'",
        ),
        (grid_of(), {"nearest": -1.0, "slab": "ndc"}, "nearest must be a number of at least 1e-09, not -1.0"),
        (grid_of(), {"points": torch.zeros(3)}, r"points must be a tensor \[points, 3\], not \[3\]"),
        (grid_of(), {"up": "w"}, "up must be one of x, y, z, -x, -y, -z, not 'w'"),
        (grid_of(), {"slab": "plane"}, "slab must be one of auto, grid, ndc, box, not 'plane'"),
        (grid_of(), {"preset": "big"}, "preset must be one of paper, paper-frontal, nano, not 'big'"),
        (grid_of(), {"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        (grid_of(), {"grid_rate": 0}, "grid_rate must be a number of at least 1e-09, not 0"),
        (grid_of(), {"options": {"width": 0}}, "width must be at least 1, not 0"),
        ("capture/", {}, "source must be PosedImages, as `read_captures` makes them of a folder, not str"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_sentence_before_the_fit(source, settings, message, monkeypatch):
    monkeypatch.setattr(make_field().__class__, "forward", lambda *given: pytest.fail("it was fitted"))
    with pytest.raises(ValueError, match=message) as caught:
        LightSpeedPipeline.fit(source, **{**ONE_STEP, **settings})
    assert len(str(caught.value).splitlines()) == 1 and str(caught.value).endswith(".")


def test_a_refused_fit_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="pictures must be at least 2"):
        LightSpeedPipeline.fit(grid_of(1, 1), output=tmp_path / "out", **ONE_STEP)
    assert not (tmp_path / "out").exists()
