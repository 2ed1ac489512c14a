"""Rows of curves that are made up."""

from types import SimpleNamespace

import pytest
from PIL import Image

from pocket_diffusers.eval.claims.lightspeed import contest
from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lightspeed.card_fits import (
    GRID_4D,
    MOBILE_R2L,
    OURS,
    PLUECKER,
    WIDE_R2L,
    FitCurve,
)
from pocket_diffusers.eval.claims.lightspeed.contest import over, psnr_at, seconds_to, time_share


def curve(name, seconds, psnr, seed=0):
    return FitCurve(name, seed, 1000, [100, 200, 300], seconds, psnr, [value / 100 for value in psnr])


OURS_0 = curve(OURS, [10.0, 20.0, 30.0], [18.0, 22.0, 24.0])
RIVAL_0 = curve(MOBILE_R2L, [12.0, 24.0, 40.0], [16.0, 19.0, 21.0])


def test_curves_are_linear_between_looks_and_stay_after_the_last():
    assert psnr_at(OURS_0, 15) == 20 and psnr_at(OURS_0, 20) == 22 and psnr_at(OURS_0, 99) == 24
    assert seconds_to(OURS_0, 20) == 15 and seconds_to(OURS_0, 23) == 25
    assert seconds_to(OURS_0, 10) == 10, "nothing is known before the first look"
    assert seconds_to(OURS_0, 24) == 30 and seconds_to(OURS_0, 24.1) is None
    bumpy = curve(OURS, [10.0, 20.0, 30.0], [18.0, 22.0, 20.0])
    assert seconds_to(bumpy, 20) == 15 and seconds_to(bumpy, 21) == 17.5


def test_equal_time_is_when_the_rival_ends():
    assert over(OURS_0, RIVAL_0) == 24 - 21, "ours had ended before, and gains nothing by waiting"
    slower = curve(OURS, [20.0, 40.0, 60.0], [18.0, 22.0, 24.0])
    assert over(slower, RIVAL_0) == 22 - 21, "ours is not at its end yet"
    assert time_share(OURS_0, RIVAL_0) == (10 + 10 * 3 / 4) / 40
    assert time_share(RIVAL_0, OURS_0) is None


def measure(tmp_path, monkeypatch, fits):
    monkeypatch.setattr(contest, "card_fits", lambda settings, path: fits)
    monkeypatch.setattr(contest, "Cards", lambda side: SimpleNamespace(words=f"cards of {side}"))
    return {row.id: row for row in BENCHMARK.measure("contest", tmp_path)}


def test_rows_are_means_over_seeds_and_the_curves_are_drawn(tmp_path, monkeypatch):
    fits = {
        OURS: [OURS_0, curve(OURS, [10.0, 20.0, 31.0], [18.0, 22.0, 25.0], seed=1)],
        MOBILE_R2L: [RIVAL_0, curve(MOBILE_R2L, [12.0, 24.0, 40.0], [16.0, 19.0, 20.0], seed=1)],
        PLUECKER: [curve(PLUECKER, [12.0, 24.0, 36.0], [16.0, 19.0, 23.5])],
        GRID_4D: [curve(GRID_4D, [12.0, 24.0, 36.0], [16.0, 19.0, 24.5])],
        WIDE_R2L: [curve(WIDE_R2L, [12.0, 24.0, 36.0], [15.0, 17.0, 18.5])],
    }
    rows = measure(tmp_path, monkeypatch, fits)
    assert rows["contest-lightspeed-psnr"].measured == 24.5 and rows["contest-lightspeed-psnr"].n == 2
    assert rows["contest-mobiler2l-ssim"].measured == pytest.approx(0.205)
    step = rows["contest-lightspeed-step"]
    assert (step.measured, step.better) == (pytest.approx(30.5 / 300, rel=1e-5), "lower")
    above = rows["contest-over-mobiler2l"]
    assert (above.measured, above.target, above.passed) == (4.0, 1.0, True)  # 3 and 5
    assert above.interval[0] < 3 and above.interval[1] > 5
    assert rows["contest-over-pluecker"].measured == 0.5 and rows["contest-over-grid-4d"].measured == -0.5
    assert rows["contest-over-mobiler2l-wide"].measured == 5.5
    assert rows["contest-over-grid-4d"].interval is None and rows["contest-over-grid-4d"].n == 1
    share = rows["contest-time-share"]
    assert (share.measured, share.target) == (pytest.approx((17.5 + 15) / 80), 0.4)  # 0.4375 and 0.375
    assert share.passed is False and "cards of 384, 1,000 steps of 2 views" in share.claim
    with Image.open(tmp_path / "lightspeed-contest.png") as picture:
        assert picture.width > 1000


def test_a_psnr_that_is_never_reached_has_no_share(tmp_path, monkeypatch):
    low = curve(OURS, [10.0, 20.0, 30.0], [18.0, 19.0, 20.0])
    fits = {OURS: [low, low], MOBILE_R2L: [RIVAL_0] * 2}
    fits |= {name: [RIVAL_0] for name in (PLUECKER, GRID_4D, WIDE_R2L)}
    rows = measure(tmp_path, monkeypatch, fits)
    share = rows["contest-time-share"]
    assert share.measured is None and share.passed is False and "failed: it never had that PSNR" in share.claim
    assert rows["contest-over-mobiler2l"].measured == -1
