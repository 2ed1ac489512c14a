"""`pocket convert --budget-mb`: the best .splatz file of at most so many bytes, and how far its pictures are off."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..hub_models.rendering.gaussians import Gaussians
from ..hub_models.rendering.pruning import blending_weights
from ..hub_models.rendering.splat_budget import MOST_TRIALS, encode_within
from ..hub_models.rendering.splat_files import splatz, suffix_of
from .files import whole_file
from .inputs import check_number, require
from .scene_cameras import UP, Cameras, turntable
from .splat_conversion import Conversion, check_target, num_bytes, read_source

SUFFIX = ".splatz"
SIDE = 512  # of a picture, in pixels
# From where all is seen and from close up: what is chosen at one distance alone looks worse at the other. A picture
# counts the less the closer it is, or the middle of the scene, which fills it then, would cost the rest: measured of a
# scanned person, 36.7 dB from far and 35.5 from near in 0.50 MB; 35.4 and 35.5 in 0.49 MB if all count alike.
CLOSENESS = (1.0, 2.5)
WEIGHED_FROM, WEIGHED_FRAMES = (-30.0, 0.0, 30.0, 60.0), 4  # elevations in degrees, and cameras on each circle
HELD_OUT_FROM, HELD_OUT_FRAMES = (-15.0, 15.0, 45.0), 5
EVERY = 8  # of the cameras of a capture, one in so many is held out, from the first
COUNTED_ALPHA = 0.01  # pixels that the source covers more than this are compared


@dataclass(frozen=True)
class Compression(Conversion):
    """What a compression did.

    Attributes:
        gaussians_before: of the source.
        psnr: in dB against the source, over the pixels that it covers in all pictures of the held-out cameras together.
        held_out: cameras that had no say in what was kept.
    """

    gaussians_before: int
    psnr: float
    held_out: int


def compress_splats(
    source: str | Path,
    target: str | Path,
    budget_mb: float,
    cameras: Cameras | None = None,
    up: str = UP,
    level: int = 0,
    sh_degree: int | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Compression:
    """Saves a scene as the finest .splatz file within a budget.

    Each Gaussian weighs what it paints in the pictures of cameras; the least important ones are left out.

    Args:
        source: as `read_source` takes it.
        target: a name that ends in .splatz.
        budget_mb: what the target may take, in millions of bytes.
        cameras: from where the scene is looked at, two or more, of which one in eight only measures the result;
            circles around the scene, far and near, if left out.
        up: for the circles, which of the scene's axes points up.
        level, sh_degree, overwrite: as in `convert_splats`.
        progress: called with the share of the work that was done since.

    Raises:
        FileNotFoundError: there is no source.
        FileExistsError: there is a target, and it is not to be replaced.
        OSError: the target cannot be written.
        ValueError: an argument or the source is not as it must be, or does not fit into so few bytes.
    """
    require(suffix_of(target) == SUFFIX, "target", str(target), f"a file that ends in {SUFFIX}")
    check_number("budget_mb", budget_mb, 1e-3, 1e6)
    check_target(target, overwrite)
    whole = read_source(source, level, sh_degree)
    weighed, held_out = cameras_around(whole, up) if cameras is None else split_cameras(cameras)
    steps = sum(map(len, weighed)) + MOST_TRIALS + sum(map(len, held_out))

    def advance(done: float) -> None:
        progress(done / steps)

    importance = importance_of(whole, weighed, advance)
    data = encode_within(whole, importance, int(budget_mb * 1e6), progress=advance)
    kept = splatz.read(data)
    psnr = covered_psnr(whole, kept, held_out, advance)
    before = num_bytes(source)
    with whole_file(target) as draft:
        draft.write_bytes(data)
    views = sum(map(len, held_out))
    return Compression(len(kept), kept.sh_degree, before, len(data), len(whole), psnr, views)


@torch.no_grad()
def covered_psnr(
    source: Gaussians,
    other: Gaussians,
    cameras: list[Cameras],
    progress: Callable[[float], None] = lambda more: None,
) -> float:
    """PSNR in dB of pictures of `other` against those of `source`, over black, clamped to [0, 1].

    Only pixels that the source covers count, for a scene may fill little of a picture; all cameras' pixels together.

    Args:
        source, other: the scenes.
        cameras: from where they are compared.
        progress: called with 1 after each camera.

    Raises:
        ValueError: when no camera sees the source.
    """
    squares, count = 0.0, 0
    for views in cameras:
        for camera in range(len(views)):
            target, picture = views.draw(source, camera), views.draw(other, camera)
            covered = target.alpha[0] > COUNTED_ALPHA
            errors = picture.rgb[0].clamp(0, 1) - target.rgb[0].clamp(0, 1)  # [3, H, W]
            squares += float(errors[:, covered].double().square().sum())
            count += 3 * int(covered.sum())
            progress(1)
    require(count > 0, "the number of held-out cameras that see the scene", 0, "at least 1")
    return math.inf if squares == 0 else -10 * math.log10(squares / count)


def importance_of(
    gaussians: Gaussians, cameras: list[Cameras], progress: Callable[[float], None] = lambda more: None
) -> Float[Tensor, " gaussians"]:
    """What each Gaussian paints in the pictures of cameras, in pixels, times what these count.

    Raises:
        ValueError: when no camera sees the scene.
    """
    weights = torch.zeros(len(gaussians))
    for views in cameras:
        for view, K in zip(views.viewmats, views.Ks, strict=True):
            painted = blending_weights(gaussians, view[None], K[None], views.width, views.height, views.near)
            weights += views.share * painted
            progress(1)
    require(bool(weights.any()), "the number of cameras that see the scene", 0, "at least 1")
    return weights


def cameras_around(
    gaussians: Gaussians, up: str, side: int = SIDE, frames: int = WEIGHED_FRAMES
) -> tuple[list[Cameras], list[Cameras]]:
    """Circles around the scene, far and near: those that decide, and those that only measure the result.

    Args:
        gaussians: the scene.
        up: which of its axes points up.
        side: of a picture in pixels.
        frames: cameras on each circle of those that decide.
    """

    def circles(frames: int, elevations: tuple[float, ...]) -> list[Cameras]:
        return [
            turntable(gaussians, frames, side, side, elevation, up, closeness)
            for closeness in CLOSENESS
            for elevation in elevations
        ]

    return circles(frames, WEIGHED_FROM), circles(HELD_OUT_FRAMES, HELD_OUT_FROM)


def split_cameras(cameras: Cameras) -> tuple[list[Cameras], list[Cameras]]:
    """As `cameras_around`, of a capture: one in eight only measures."""
    require(len(cameras) >= 2, "the number of cameras", len(cameras), "at least 2")
    held_out = torch.arange(len(cameras)) % EVERY == 0
    return [cameras.select(~held_out)], [cameras.select(held_out)]
