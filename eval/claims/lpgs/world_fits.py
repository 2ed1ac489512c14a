"""Fits to pictures of a scene of PocketWorld, all of equally many steps: LPGS, LPGS without a part, plain splats."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ....hub_models.container_lpgs import decode_scene
from ....hub_models.rendering.gaussians import Gaussians
from ....pipelines.fitting.forest_lpgs import ForestFit
from ....pipelines.fitting.gaussian_fitting import fit_gaussians, splats_at
from ....pipelines.fitting.loop import FitSettings, fit
from ....pipelines.fitting.scene_lpgs import NEARLY_ALL, LPGSFit, encode_within, plant_in_points
from ....pipelines.fitting.splat_views import SplatViews
from ....training.datasets.posed_captures import Captures
from ....training.recipe_lpgs import ScenePreset
from ...protocol import protocol_hash
from ...scores.storage import splat_bytes
from ...scores.view_likeness import splat_likeness
from ...timing.record import Record
from .settings import Settings

FULL, PLAIN = "lpgs", "3dgs"
FORMATS = {"ply": ".ply", "spz": ".spz"}


@dataclass(frozen=True)
class WorldFit:
    """What was measured of a fit.

    Attributes:
        name: `FULL`, `PLAIN` or a part in `WITHOUT`.
        seed: of everything random.
        psnr, ssim: of the pictures that it never saw.
        bytes: of its file, by format.
        gaussians: that it unpacks to.
    """

    name: str
    seed: int
    psnr: float
    ssim: float
    bytes: dict[str, int]
    gaussians: int


class WorldScene:
    """A still scene of PocketWorld: pictures to learn from, and pictures that are held out.

    Args:
        preset: which scene, and how it is learned.
    """

    def __init__(self, preset: ScenePreset) -> None:
        self.preset = preset

    @cached_property
    def captures(self) -> tuple[Captures, Captures]:
        """Those that are learned from, and those that are held out."""
        return self.preset.captures()

    @property
    def words(self) -> str:
        """What is shown to whom, for a claim."""
        preset, (seen, held_out) = self.preset, self.captures
        return (
            f"still scene {preset.scene} of PocketWorld's split {preset.split}, {len(seen.posed)} pictures of "
            f"{preset.image_size}x{preset.image_size} pixels to learn from and {len(held_out.posed)} held out, "
            f"{preset.steps:,} steps"
        )

    def box_radius(self) -> float:
        """Half the side of a box around nearly all sparse points."""
        points = self.captures[0].positions
        return float((points - points.median(0).values).abs().amax(1).quantile(NEARLY_ALL))


WITHOUT: dict[str, Callable[[WorldScene], dict[str, Any]]] = {
    "attention": lambda scene: {"options": {"attention": False}},
    "contraction": lambda scene: {"options": {"contraction": "box", "radius": scene.box_radius()}},
    "tree-manipulation": lambda scene: {"grow": False},
    "hash-grid": lambda scene: {"options": {"encoding": "frequency"}},
}
"""Part -> what `LPGSFit` is told to do without it; without the contraction the grid is a box around the scene."""


def world_fits(names: Iterable[str], settings: Settings, path: Path) -> Mapping[str, list[WorldFit]]:
    """Fits by name, one a seed; a seed of all names before the next. They are kept in the record at `path`."""
    scene = WorldScene(settings.world)
    names, record = list(names), Record(path, {"world": asdict(scene.preset)})
    done = {(one.name, one.seed): one for one in record.read(WorldFit)}
    drafts = f"{path.stem}-{protocol_hash(record.protocol)[:8]}"  # other settings have folders of their own
    for seed in range(settings.seeds):
        for name in names:
            if (name, seed) not in done:
                folder = path.parent / f"{drafts}-{name}-{seed}"
                done[name, seed] = fit_world(scene, name, seed, folder)
                record.write(done.values())
                shutil.rmtree(folder)
    return {name: [done[name, seed] for seed in range(settings.seeds)] for name in names}


def fit_world(scene: WorldScene, name: str, seed: int, folder: Path) -> WorldFit:
    """A fit from where an earlier run left it in `folder`, measured on the pictures that are held out."""
    held_out = [SplatViews.of_pictures(scene.captures[1].posed)]
    if name == PLAIN:
        gaussians = _fit_plain(scene, seed, folder)
        sizes = {format: splat_bytes(gaussians, suffix) for format, suffix in FORMATS.items()}
    else:
        how = replace(scene.preset, seed=seed).fit()
        data = _fit_trees(scene, replace(how, **WITHOUT[name](scene)) if name != FULL else how, folder)
        with torch.no_grad():
            gaussians, sizes = decode_scene(data).expand(), {"lpgs": len(data)}
    return WorldFit(name, seed, *splat_likeness(gaussians, held_out), sizes, len(gaussians))


def _fit_trees(scene: WorldScene, how: LPGSFit, folder: Path) -> bytes:
    seen = scene.captures[0]
    views = SplatViews.of_pictures(seen.posed)
    forest, rule, radius = plant_in_points(seen.positions, how)
    objective = ForestFit(forest, views, rule, radius, scene.preset.learning_rate)
    fit(objective, views.batches(how.seed), _settings(how), folder, progress=False)
    return encode_within(forest.scene, rule.file, how.max_bytes).data


def _fit_plain(scene: WorldScene, seed: int, folder: Path) -> Gaussians:
    """From the same points as trees, with splats added and removed at the same steps, up to as many as trees unpack to.

    Without that limit so few steps would grow hundreds of thousands, which show the pictures alone that they learned.
    """
    seen, how = scene.captures[0], replace(scene.preset, seed=seed).fit()
    _, rule, radius = plant_in_points(seen.positions, how)
    densification = replace(rule.trees, max_splats=(1 + how.children_per_parent) * how.parents)
    views, start = SplatViews.of_pictures(seen.posed), splats_at(seen.positions, seen.rgb)
    return fit_gaussians(views, start, _settings(how), densification, radius, folder, progress=False)


def _settings(how: LPGSFit) -> FitSettings:
    return FitSettings(
        steps=how.steps, seed=how.seed, schedule="cosine", max_grad_norm=None, save_every=how.save_every,
        identity=asdict(how),
    )  # fmt: skip
