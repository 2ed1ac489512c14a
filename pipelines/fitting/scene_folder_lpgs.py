"""`pocket fit lpgs`: a folder with a scene of at most so many bytes, and how far its pictures are off."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...hub_models.container_lpgs import decode_scene, storage_report
from ...hub_models.rendering.gaussians import Gaussians
from ..files import whole_file
from ..inputs import Captures, PosedImages, check_count, check_number, require
from ..scene_cameras import UP, Cameras
from ..splat_compression import cameras_around, covered_psnr, importance_of, split_cameras
from ..splat_conversion import num_bytes, read_source, save_splats
from .scene_lpgs import FittedScene, LPGSFit, fit_scene_to_pictures, fit_scene_to_splats
from .splat_views import SplatViews

SCENE, PLAIN = "scene.lpgs", "scene.ply"
RUN = "fit"
SIDE = 384  # of a view, in pixels
PICTURE_OPTIONS = {"budget_mb": 1.0, "steps": 5000, "size": SIDE, "children": 2, "seed": LPGSFit.seed}
SPLAT_OPTIONS = {**PICTURE_OPTIONS, "codec": "lpgs", "cameras": None, "up": UP, "level": 0}
"""What `pocket fit` may be told, and what holds if it is not."""
FRAMES = 8  # on each circle of cameras that a fit to splats looks from


@dataclass(frozen=True)
class FitReport:
    """What a fit made.

    Attributes:
        gaussians: that the scene unpacks to.
        parents: of them that are stored.
        bytes_before: of the source; None for pictures.
        bytes_after: of the scene's file.
        parts: bytes by what they hold.
        psnr: in dB, of views that the fit never saw.
        held_out: their number.
    """

    gaussians: int
    parents: int
    bytes_before: int | None
    bytes_after: int
    parts: dict[str, int]
    psnr: float
    held_out: int

    def told(self, output: Path) -> str:
        """One line for who asked for the fit."""
        before = "" if self.bytes_before is None else f", {self.bytes_before:,} before"
        return (
            f"Fitted {self.gaussians:,} Gaussians, {self.parents:,} of them stored: {self.bytes_after:,} bytes{before};"
            f" {self.psnr:.2f} dB on {self.held_out} views that it never saw: look at {output / PLAIN}"
        )


def splats_to_folder(
    source: Path, cameras: Cameras | None, output: Path, wishes: Mapping[str, Any], resume: bool
) -> FitReport:
    """As `fit_splat_file`, with values of all `SPLAT_OPTIONS`."""
    how = _settings(wishes)
    return fit_splat_file(source, output, how, wishes["size"], cameras, wishes["up"], wishes["level"], resume)


def pictures_to_folder(
    seen: Captures, held_out: Captures, output: Path, wishes: Mapping[str, Any], resume: bool
) -> FitReport:
    """As `fit_pictures`, with values of all `PICTURE_OPTIONS`."""
    points = len(seen.positions)
    require(points >= 2, "the capture's sparse points", points, "at least 2, as COLMAP finds them")
    return fit_pictures(seen.posed, held_out.posed, seen.positions, output, _settings(wishes), resume)


def _settings(wishes: Mapping[str, Any]) -> LPGSFit:
    max_bytes = int(check_number("--budget-mb", wishes["budget_mb"], 0) * 1e6)
    return LPGSFit(
        max_bytes=max_bytes, steps=wishes["steps"], seed=wishes["seed"], children_per_parent=wishes["children"]
    )


def fit_splat_file(
    source: str | Path,
    output: str | Path,
    how: LPGSFit,
    side: int = SIDE,
    cameras: Cameras | None = None,
    up: str = UP,
    level: int = 0,
    resume: bool = True,
) -> FitReport:
    """Fits a scene to a file of splats. A fit that is stopped goes on where it was.

    Args:
        source: as `read_source` takes it.
        output: folder; `scene.lpgs` and `scene.ply` in it are what is made, `fit/` holds the run.
        how: bytes and steps. Colours get no higher degree than the source has.
        side: of the pictures that are matched, in pixels, at least 16.
        cameras: from where; circles around the scene, far and near, if left out.
        up: for the circles, which of the scene's axes points up.
        level: of detail of a streamed scene.
        resume: whether to go on with what an earlier run left.

    Raises:
        FileNotFoundError: there is no source.
        ValueError: the source or an argument is not as it must be.
        OSError: the folder cannot be written to.
    """
    whole = read_source(source, level)
    made, held_out = fit_splats(whole, how, side, cameras, up, Path(output) / RUN, resume=resume)
    shown = save_scene(made, output)
    psnr = covered_psnr(whole, shown, held_out)
    return _report(made, len(shown), num_bytes(source), psnr, sum(map(len, held_out)))


def fit_splats(
    whole: Gaussians,
    how: LPGSFit,
    side: int = SIDE,
    cameras: Cameras | None = None,
    up: str = UP,
    output: str | Path | None = None,
    **running: Any,
) -> tuple[FittedScene, list[Cameras]]:
    """Fits a scene to splats.

    Args:
        whole: the splats.
        how, side, cameras, up: as in `fit_splat_file`.
        output: folder of checkpoints, metrics and previews; None keeps none.
        running: `resume` and `progress` of `fit`.

    Returns:
        the scene, and cameras that the fit did not use.

    Raises:
        ValueError: an argument is not as it must be.
    """
    check_count("side", side)
    how = replace(how, sh_degree=min(how.sh_degree, whole.sh_degree))
    looks, held_out = cameras_around(whole, up, side, FRAMES) if cameras is None else split_cameras(cameras)
    views = SplatViews.of_splats(whole, _joined(looks))
    return fit_scene_to_splats(whole, importance_of(whole, looks), views, how, output, **running), held_out


def fit_pictures(
    pictures: PosedImages,
    held_out: PosedImages,
    points: Float[Tensor, "points 3"],
    output: str | Path,
    how: LPGSFit,
    resume: bool = True,
) -> FitReport:
    """Fits a scene to photographs. A fit that is stopped goes on where it was.

    Args:
        pictures: with their cameras.
        held_out: of the same scene, to measure the result.
        points: of structure from motion, where parents begin.
        output, how, resume: as in `fit_splat_file`.

    Raises:
        ValueError: an argument is not as it must be.
        OSError: the folder cannot be written to.
    """
    made = fit_scene_to_pictures(SplatViews.of_pictures(pictures), points, how, Path(output) / RUN, resume=resume)
    shown = save_scene(made, output)
    return _report(made, len(shown), None, _picture_psnr(SplatViews.of_pictures(held_out), shown), len(held_out))


def save_scene(made: FittedScene, output: str | Path) -> Gaussians:
    """Writes the scene's file, and as plain Gaussians for any viewer; returns what the file holds, unpacked."""
    with torch.no_grad():
        unpacked = decode_scene(made.data).expand()
    with whole_file(Path(output) / SCENE) as draft:
        draft.write_bytes(made.data)
    save_splats(unpacked, Path(output) / PLAIN, overwrite=True)
    return unpacked


@torch.no_grad()
def _picture_psnr(views: SplatViews, gaussians: Gaussians) -> float:
    drawn = (views.draw(gaussians, view).rgb[0].clamp(0, 1) for view in range(len(views)))
    error = sum(float((one - truth).double().square().mean()) for one, truth in zip(drawn, views.rgb, strict=True))
    return -10 * math.log10(max(error / len(views), 1e-12))


def _joined(circles: Sequence[Cameras]) -> Cameras:
    """All cameras of pictures of one size."""
    tensors: dict[str, Any] = {name: torch.cat([getattr(c, name) for c in circles]) for name in ("viewmats", "Ks")}
    return replace(circles[0], **tensors, near=min(circle.near for circle in circles))


def _report(made: FittedScene, gaussians: int, before: int | None, psnr: float, held_out: int) -> FitReport:
    parts = storage_report(made.data)
    return FitReport(gaussians, made.scene.num_parents, before, len(made.data), parts, psnr, held_out)
