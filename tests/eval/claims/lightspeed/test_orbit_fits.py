"""Fits to a few small pictures from all around."""

from dataclasses import replace

import pytest
import torch

from pocket_diffusers.eval.claims.lightspeed import orbit_fits as module
from pocket_diffusers.eval.claims.lightspeed.orbit_fits import (
    DIVIDED,
    SINGLE,
    SPLATS,
    Orbit,
    OrbitFit,
    TimedSplats,
    fit_orbit,
    fit_orbit_splats,
    level_slab,
    orbit_fits,
    single_field,
)
from pocket_diffusers.eval.claims.lightspeed.settings import Settings
from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.pipelines.fitting.light_field_fitting import RayViews
from pocket_diffusers.pipelines.fitting.slabs_lightspeed import SceneHints
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.training.recipe_lightspeed import FIELD

ORBIT = replace(FIELD["nano"], scene=0, image_size=16, steps=5, num_pictures=15, held_out=2)
SETTINGS = Settings(orbit=ORBIT)


@pytest.fixture(scope="module")
def captures():
    return Orbit(ORBIT).captures


@pytest.fixture
def at_hand(captures, monkeypatch):
    monkeypatch.setattr(Orbit, "captures", captures)
    return captures


def test_a_single_slab_has_as_many_parameters_and_the_same_decoder(captures):
    single, views = single_field(SETTINGS, captures[0])
    divided = LightSpeedField.from_preset("nano", num_sub_scenes=5)
    counts = [sum(value.numel() for value in field.parameters()) for field in (single, divided)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01) and len(views.groups) == 1
    decoders = [field.sub_scenes[0].decoder for field in (single, divided)]
    assert len({tuple(value.shape for value in decoder.parameters()) for decoder in decoders}) == 1


def test_level_planes_stand_where_the_box_begins_and_ends():
    viewmats = torch.cat([orbit((0.0, 0.3, 0.0), 4.0, 12, elevation, (0.0, 1.0, 0.0)) for elevation in (10.0, 40.0)])
    Ks = intrinsics(40.0, 48, 48).repeat(24, 1, 1)
    posed = PosedImages(torch.zeros(24, 3, 48, 48), viewmats, Ks)
    hints = SceneHints(torch.rand(200, 3, generator=torch.Generator().manual_seed(0)))
    views = RayViews.of_pictures(posed, 8)
    slab = level_slab(views, hints, posed, "y")
    low, high = hints.box(posed)
    origins, directions = (value.movedim(1, -1).flatten(0, 2) for value in (views.origins, views.directions))
    down = directions[:, 1] < 0
    assert 0.5 < float(down.float().mean()) < 1, "some rays go up"
    origins, directions = origins[down], directions[down]
    coordinates = slab.coordinates(origins, directions)
    starts, steps = slab.rays_of(coordinates)
    assert torch.allclose(starts[:, 1], high[1].expand(len(starts)), atol=1e-2), "the first plane is the box's top"
    assert torch.allclose((starts + steps)[:, 1], low[1].expand(len(starts)), atol=1e-2)
    way = (high[1] - origins[:, 1]) / directions[:, 1]
    assert torch.allclose(starts, origins + way[:, None] * directions, rtol=1e-3, atol=1e-2)
    inside = (coordinates.abs() <= 1 + 1e-6).float().mean(0)
    assert torch.allclose(inside, torch.full((4,), 0.9), atol=0.02)


@pytest.mark.parametrize("name", [DIVIDED, SINGLE])
def test_fields_are_timed_and_shown_what_they_never_saw(at_hand, ticks, tmp_path, name):
    found = fit_orbit(SETTINGS, name, tmp_path / "fit")
    assert (found.name, found.seconds, found.steps) == (name, 5.0, 5)
    assert found.bytes == 2 * found.parts and 5 < found.psnr < 40


def test_splats_learn_for_their_time_with_falling_rates_and_no_more_than_their_bytes(at_hand, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(module, "process_time", lambda: float(next(clock)))
    rates, rules = [], []

    class Watched(TimedSplats):
        def after_step(self, part, step, optimizer):
            rates.append(optimizer.param_groups[-1]["lr"])
            rules.append(self.densification)
            super().after_step(part, step, optimizer)

    monkeypatch.setattr(module, "TimedSplats", Watched)
    monkeypatch.setattr(module, "SPLAT_POINTS", 50)
    found = fit_orbit_splats(SETTINGS, seconds=8.0, max_bytes=64_000)
    assert (found.name, found.seconds, found.steps, found.parts) == (SPLATS, 8.0, 8, 50)
    cosine = 0.5 * (1 + torch.cos(torch.pi * torch.arange(8).double() / 8)).numpy()
    assert rates == pytest.approx(list(rates[0] * cosine))
    assert rules[0].max_splats == 1000 and rules[5] is not None and rules[6] is None
    assert found.bytes < 64_000 and found.psnr > 3


def test_fits_are_kept_and_splats_have_the_time_and_bytes_of_the_divided_field(tmp_path, monkeypatch):
    asked = []

    def calls(call, jobs, processes):
        for settings, *job in jobs:
            assert settings is SETTINGS or settings.single_grid == (2, 3)
            asked.append(job)
            if call is fit_orbit_splats:
                yield OrbitFit(SPLATS, job[0], 9, 20.0, 0.5, job[1] - 10, 7)
            else:
                if asked[:2] == asked:
                    job[1].mkdir(exist_ok=True)
                yield OrbitFit(job[0], 33.0, 5, 25.0, 0.6, 1000 if job[0] == DIVIDED else 2000, 500)

    monkeypatch.setattr(module, "call_in_processes", calls)
    path = tmp_path / "orbit.json"
    found = orbit_fits(SETTINGS, path)
    assert asked[2] == [33.0, 1000] and list(found) == [DIVIDED, SINGLE, SPLATS]
    assert [entry.name for entry in tmp_path.iterdir()] == ["orbit.json"]
    assert orbit_fits(SETTINGS, path) == found and len(asked) == 3
    orbit_fits(replace(SETTINGS, single_grid=(2, 3)), path)
    assert len(asked) == 6, "another grid, other fits"
