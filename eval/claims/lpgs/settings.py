"""How much is measured of LPGS."""

from dataclasses import dataclass, replace
from pathlib import Path

from ....training.recipe_lpgs import SCENE, ScenePreset
from ...benchmark import CHECKPOINTS
from ...exported import RUNTIMES
from .scenes import BIKER, PLAYBOT, SplatScene


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with lpgs-nano.
        side: of the pictures whose seconds are measured, in pixels.
        repeats: timed calls of each contender.
        threads: of each contender.
        counts: numbers of Gaussians whose cost is compared.
        sides: of the pictures whose cost is compared.
        scenes: that are compressed.
        regression_steps: before a fit to a scene.
        fit_side: of the pictures that such a fit matches.
        curve_side: of the pictures in which its result is compared.
        world: the scene of PocketWorld that is learned from pictures, and how; lpgs-nano was, with clipped gradients.
        ablated: likewise where parts of LPGS are left out, in fewer steps.
        seeds: of each of those fits.
        back_ends: whose bundles show lpgs-nano.
    """

    checkpoints: Path = CHECKPOINTS
    side: int = 512
    repeats: int = 5
    threads: int = 2
    counts: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000, 500_000)
    sides: tuple[int, ...] = (128, 256, 512, 1024)
    scenes: tuple[SplatScene, ...] = (BIKER, PLAYBOT)
    regression_steps: int = 250
    fit_side: int = 256
    curve_side: int = 384
    world: ScenePreset = SCENE["nano"]
    ablated: ScenePreset = replace(SCENE["nano"], steps=600)
    seeds: int = 2
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
