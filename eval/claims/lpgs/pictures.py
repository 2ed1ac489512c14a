"""LPGS from pictures: beside plain splats that learn from the same ones, and what each of its parts is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from ...benchmark import Run
from ...intervals import student_interval
from ...results import Row
from .settings import Settings
from .world_fits import FULL, PLAIN, WITHOUT, WorldFit, WorldScene, world_fits

LOSS_ALLOWED, SHARE_ALLOWED = -0.3, 0.1  # dB beside plain splats, and of their bytes
PUBLISHED = {"contraction": -0.8, "tree-manipulation": -0.5}  # dB, of the mean over the paper's scenes
WORDS = {
    "attention": "attention among the nodes of a tree",
    "contraction": "contraction of far space (a box around nearly all points instead)",
    "tree-manipulation": "adaptive tree manipulation (the trees of the start stay)",
    "hash-grid": "the hash grid (sines and cosines of the position instead)",
}


def measure_pictures(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR of held-out pictures and bytes, LPGS beside plain splats: same rasteriser, points, pictures and steps."""
    fits = world_fits((FULL, PLAIN), settings, run.record_path())
    ours, plain = fits[FULL], fits[PLAIN]
    where = _where(settings)
    rival = "plain 3DGS of at most as many splats, same rasteriser, points and steps"
    for name, unit in (("psnr", "dB"), ("ssim", "SSIM")):
        yield run.row(
            f"pictures-{name}", f"LPGS learned from pictures shows held-out ones ({name.upper()}): {where}.",
            **_mean([getattr(one, name) for one in ours]), unit=unit, rival=rival,
            rival_measured=fmean(getattr(one, name) for one in plain),
        )  # fmt: skip
    yield run.row(
        "pictures-difference",
        f"LPGS shows held-out pictures within 0.3 dB of {rival}: {where}.",
        **_mean(_differences(ours, plain)), unit="dB", target=LOSS_ALLOWED,
    )  # fmt: skip
    for name, words, target in (("ply", "PLY, in which it is stored", SHARE_ALLOWED), ("spz", "SPZ", None)):
        shares = [one.bytes["lpgs"] / other.bytes[name] for one, other in zip(ours, plain, strict=True)]
        yield run.row(
            f"pictures-share-{name}", f"LPGS takes such a share of the bytes of plain 3DGS as {words}: {where}.",
            **_mean(shares), unit="share", better="lower", target=target,
        )  # fmt: skip
    yield run.row(
        "pictures-bytes", f"LPGS takes so many bytes: {where}.", **_mean([one.bytes["lpgs"] for one in ours]),
        unit="bytes", better="lower", rival=f"{rival}, as PLY", rival_measured=fmean(one.bytes["ply"] for one in plain),
    )  # fmt: skip


def measure_ablation(settings: Settings, run: Run) -> Iterator[Row]:
    """PSNR of held-out pictures without each part of LPGS in turn, beside that of all of it."""
    settings = replace(settings, world=settings.ablated)
    fits = world_fits((FULL, *WITHOUT), settings, run.record_path())
    full, where = fits[FULL], _where(settings)
    yield run.row(
        "ablation-full", f"LPGS learned from pictures shows held-out ones (PSNR): {where}.",
        **_mean([one.psnr for one in full]), unit="dB",
    )  # fmt: skip
    for part in WITHOUT:
        yield run.row(
            f"ablation-without-{part}",
            f"Without {WORDS[part]}, the PSNR of held-out pictures changes by so much; the more it falls, the more the "
            f"part is worth: {where}.",
            **_mean(_differences(fits[part], full)), unit="dB", better="lower", published=PUBLISHED.get(part),
        )  # fmt: skip


def _differences(ones: Sequence[WorldFit], others: Sequence[WorldFit]) -> list[float]:
    """Of PSNR, seed by seed."""
    return [one.psnr - other.psnr for one, other in zip(ones, others, strict=True)]


def _where(settings: Settings) -> str:
    seeds = f"{settings.seeds} seed{'s' if settings.seeds > 1 else ''}"
    return f"{WorldScene(settings.world).words}, {seeds}"


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its interval, where there are two."""
    interval = student_interval(values) if len(values) > 1 else None
    return {"measured": fmean(values), "interval": interval, "n": len(values), "seed": 0}
