"""How quickly fields learn a real light field: quality against seconds, LightSpeed beside other ways to tell rays."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.lines import Chart, Line, draw_charts
from ...intervals import student_interval
from ...results import Row
from .card_fits import GRID_4D, MOBILE_R2L, OURS, PLUECKER, WIDE_R2L, Cards, FitCurve, card_fits
from .settings import Settings

NAMES = {
    OURS: "LightSpeed", MOBILE_R2L: "MobileR2L", WIDE_R2L: "MobileR2L, wide", PLUECKER: "Pluecker coordinates",
    GRID_4D: "4-D grid",
}  # fmt: skip
WORDS = {
    OURS: "LightSpeed's six planes on several levels",
    MOBILE_R2L: "MobileR2L's 8 points with their sines and cosines, about where the scene lies,",
    WIDE_R2L: "MobileR2L's 8 points from half to twice the distance of the plane of focus",
    PLUECKER: "Pluecker coordinates with their sines and cosines",
    GRID_4D: "one 4-D grid on several levels, of about as many numbers as six planes,",
}
DECIBELS_OVER = {MOBILE_R2L: 1.0}
SHARE_OF_TIME = 0.4


def measure_contest(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR and SSIM at the end, and what LightSpeed has at equal training time; draws lightspeed-contest.png."""
    import_figure()
    where = _where(settings)
    fits = card_fits(settings, run.record_path())
    for name, curves in fits.items():
        yield from _field_rows(run, name, curves, where)
    ours = fits[OURS]
    for name in (MOBILE_R2L, WIDE_R2L, PLUECKER, GRID_4D):
        yield run.row(
            f"contest-over-{name}",
            f"After as long a training as that of a field with {WORDS[name]} LightSpeed's PSNR of held-out views is so "
            f"many dB higher: {where}.",
            **_mean([over(*pair) for pair in zip(ours, fits[name], strict=False)]), unit="dB",
            target=DECIBELS_OVER.get(name),
        )  # fmt: skip
    yield _time_row(run, ours, fits[MOBILE_R2L], where)
    draw_charts(run.picture_path("contest"), [_chart(fits, axis) for axis in ("psnr", "ssim")])


def psnr_at(curve: FitCurve, seconds: float) -> float:
    """PSNR after so many seconds, linear between looks; after the last one it stays."""
    return float(np.interp(seconds, curve.seconds, curve.psnr))


def seconds_to(curve: FitCurve, psnr: float) -> float | None:
    """When a field first had such a PSNR, linear between looks; at the first look at the earliest, None if never."""
    if curve.psnr[0] >= psnr:
        return curve.seconds[0]
    looks = zip(curve.seconds, curve.psnr, strict=True)
    for (start, low), (end, high) in pairwise(looks):
        if high >= psnr:
            return start + (end - start) * (psnr - low) / (high - low)
    return None


def over(ours: FitCurve, rival: FitCurve) -> float:
    """dB above a rival when its training ends; ours counts as it was then, or as it ended before."""
    return psnr_at(ours, rival.seconds[-1]) - rival.psnr[-1]


def time_share(ours: FitCurve, rival: FitCurve) -> float | None:
    """Share of a rival's training time after which ours had the PSNR with which the rival ended; None if never."""
    seconds = seconds_to(ours, rival.psnr[-1])
    return None if seconds is None else seconds / rival.seconds[-1]


def _field_rows(run: Run, name: str, curves: Sequence[FitCurve], where: str) -> Iterator[Row]:
    field = f"A field with {WORDS[name]} ({curves[0].parameters:,} parameters)"
    for axis, unit in (("psnr", "dB"), ("ssim", "SSIM")):
        yield run.row(
            f"contest-{name}-{axis}", f"{field} shows views that it never saw ({axis.upper()}): {where}.",
            **_mean([getattr(curve, axis)[-1] for curve in curves]), unit=unit,
        )  # fmt: skip
    yield run.row(
        f"contest-{name}-step", f"{field} takes so many seconds of a CPU a step: {where}.",
        **_mean([curve.seconds[-1] / curve.steps[-1] for curve in curves]), unit="s", better="lower",
    )  # fmt: skip


def _time_row(run: Run, ours: Sequence[FitCurve], rivals: Sequence[FitCurve], where: str) -> Row:
    shares = [time_share(*pair) for pair in zip(ours, rivals, strict=True)]
    missed = None in shares
    reason = " LightSpeed failed: it never had that PSNR with one seed or more." if missed else ""
    return run.row(
        "contest-time-share",
        f"LightSpeed has the PSNR with which a field with {WORDS[MOBILE_R2L]} ends after such a share of its training "
        f"time: {where}.{reason}",
        **(_mean(shares) if not missed else {"measured": None, "n": len(shares), "seed": 0}),
        unit="share", better="lower", target=SHARE_OF_TIME,
    )  # fmt: skip


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its interval, where there are two."""
    interval = student_interval(values) if len(values) > 1 else None
    return {"measured": fmean(values), "interval": interval, "n": len(values), "seed": 0}


def _where(settings: Settings) -> str:
    plan = settings.cards
    return (
        f"{Cards(plan.side).words}, {plan.steps:,} steps of {plan.batch} views, the decoder of the preset "
        f"{settings.model} for all, one thread"
    )


def _chart(fits: dict[str, list[FitCurve]], axis: str) -> Chart:
    """Mean over seeds of each field on its way."""
    lines = [
        Line(
            NAMES[name],
            [fmean(seconds) for seconds in zip(*(curve.seconds for curve in curves), strict=True)],
            [fmean(values) for values in zip(*(getattr(curve, axis) for curve in curves), strict=True)],
        )
        for name, curves in fits.items()
    ]
    return Chart("Views that were held out", ("seconds of a CPU in training", axis.upper()), lines)
