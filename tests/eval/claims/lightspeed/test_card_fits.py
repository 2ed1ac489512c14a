"""Fits to a few small pictures: alike but for how they tell rays apart, timed whole, and kept when interrupted."""

from dataclasses import replace
from math import log10

import pytest
import torch

from pocket_diffusers.eval.benchmark import MissingData
from pocket_diffusers.eval.claims.lightspeed import card_fits as module
from pocket_diffusers.eval.claims.lightspeed.card_fits import (
    FIELDS,
    GRID_4D,
    MOBILE_R2L,
    OURS,
    PLUECKER,
    WIDE_R2L,
    Cards,
    FitCurve,
    card_fits,
    field_likeness,
    fit_cards,
)
from pocket_diffusers.eval.claims.lightspeed.rival_networks import MobileR2L
from pocket_diffusers.eval.claims.lightspeed.settings import FitPlan, Settings
from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.pipelines.fitting.light_field_fitting import RayViews
from pocket_diffusers.pipelines.fitting.slabs_lightspeed import place_slabs

SETTINGS = Settings(cards=FitPlan(side=16, steps=5, warmup=1, look_every=2))


def test_all_fields_have_the_same_decoder_and_the_grids_as_many_numbers(cards):
    scene = Cards(16)
    assert (len(scene.seen), len(scene.held_out)) == (8, 1) and "16x16 pixels, 8 views" in scene.words
    model = LightSpeedField.from_preset("nano", grid_resolutions=Settings().card_grids)
    place_slabs(model, scene.seen, slab="grid")
    views = RayViews.of_pictures(scene.seen, 8)
    fields = {name: make(model, views) for name, make in FIELDS.items()}
    behind_the_head = [
        [tuple(value.shape) for name, value in decoder.named_parameters() if not name.startswith("head.")]
        for decoder in (
            model.sub_scenes[0].decoder,
            *(fields[name].decoder for name in (MOBILE_R2L, PLUECKER, GRID_4D, WIDE_R2L)),
        )
    ]
    assert fields[OURS] is model and behind_the_head.count(behind_the_head[0]) == 5
    planes = sum(level.numel() for level in model.sub_scenes[0].grid.levels)
    assert sum(level.numel() for level in fields[GRID_4D].grid.levels) == pytest.approx(planes, rel=0.05)
    rival = fields[MOBILE_R2L]
    assert isinstance(rival, MobileR2L) and rival.depths[0] < float(model.slab().far) < rival.depths[-1]


@pytest.mark.parametrize("name", list(FIELDS))
def test_a_fit_is_looked_at_on_its_way_and_only_its_steps_are_timed(cards, ticks, tmp_path, name):
    found = fit_cards(SETTINGS, name, 0, tmp_path / "fit")
    assert (found.name, found.seed, found.steps, found.seconds) == (name, 0, [2, 4, 5], [2.0, 4.0, 5.0])
    assert len(set(found.psnr)) == len(set(found.ssim)) == 3 and found.parameters > 100_000


def test_an_interrupted_fit_ends_as_one_that_was_not(cards, ticks, tmp_path, monkeypatch):
    whole = fit_cards(SETTINGS, MOBILE_R2L, 1, tmp_path / "whole")

    class Stopping(module.TimedFit):
        def after_step(self, part, step, optimizer):
            if step == 3:
                raise KeyboardInterrupt
            super().after_step(part, step, optimizer)

    with monkeypatch.context() as broken:
        broken.setattr(module, "TimedFit", Stopping)
        with pytest.raises(KeyboardInterrupt):
            fit_cards(SETTINGS, MOBILE_R2L, 1, tmp_path / "fit")
    assert fit_cards(SETTINGS, MOBILE_R2L, 1, tmp_path / "fit") == whole
    assert fit_cards(SETTINGS, MOBILE_R2L, 0, tmp_path / "other").psnr != whole.psnr


def test_likeness_is_that_of_all_pixels_in_evaluation(cards):
    views = RayViews.of_pictures(Cards(16).seen, 8)
    field = MobileR2L(1.0, 2.0, width=8, blocks=1, tail_channels=(4, 4, 4)).eval()
    with torch.no_grad():
        error = (field(views.origins, views.directions) - views.images).square().mean()
    assert field_likeness(field, views).psnr == pytest.approx(-10 * log10(error), abs=1e-3)


def test_fits_are_kept_one_by_one_and_none_is_made_again(tmp_path, monkeypatch):
    asked = []

    def calls(call, jobs, processes):
        assert call is fit_cards and processes == 2
        for _, name, seed, folder in jobs:
            asked.append((name, seed))
            if asked == [(OURS, 0), (MOBILE_R2L, 0), (PLUECKER, 0)]:
                raise KeyboardInterrupt
            folder.mkdir()
            yield FitCurve(name, seed, 10, [2, 4], [1.0, 2.0], [20.0, 21.0 + seed], [0.5, 0.6])

    monkeypatch.setattr(module, "call_in_processes", calls)
    path = tmp_path / "contest.json"
    with pytest.raises(KeyboardInterrupt):
        card_fits(SETTINGS, path)
    found = card_fits(SETTINGS, path)
    assert asked[3:] == [(PLUECKER, 0), (GRID_4D, 0), (WIDE_R2L, 0), (OURS, 1), (MOBILE_R2L, 1)]
    assert {name: len(curves) for name, curves in found.items()} == {
        OURS: 2, MOBILE_R2L: 2, PLUECKER: 1, GRID_4D: 1, WIDE_R2L: 1,
    }  # fmt: skip
    assert [curve.psnr[-1] for curve in found[OURS]] == [21, 22]
    assert [entry.name for entry in tmp_path.iterdir()] == ["contest.json"]
    card_fits(replace(SETTINGS, cards=replace(SETTINGS.cards, steps=6)), path)
    assert len(asked) == 15, "other settings, other fits"


def test_missing_cards_are_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKET_DATA", str(tmp_path))
    with pytest.raises(MissingData, match="Stanford"):
        Cards(16)
