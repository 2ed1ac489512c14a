"""Fits to a scene of PocketWorld from all around: divided among light slabs, in a single one, and as splats."""

import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor

from ....hub_models.field_lightspeed import LightSpeedField
from ....hub_models.rendering.cameras import camera_centres, look_at
from ....hub_models.rendering.light_slab import LightSlab
from ....pipelines.fitting.field_lightspeed import new_field
from ....pipelines.fitting.gaussian_fitting import Densification, GaussianCloud, PlainFit, splats_at
from ....pipelines.fitting.light_field_fitting import RayViews
from ....pipelines.fitting.loop import FitSettings, as_json, fit
from ....pipelines.fitting.slabs_lightspeed import SceneHints
from ....pipelines.fitting.splat_views import SplatViews, StepView
from ....pipelines.inputs import PosedImages
from ....pipelines.pipeline_lightspeed import LightSpeedPipeline
from ....pipelines.scene_cameras import direction
from ....training.datasets.posed_captures import Captures, points_of
from ....training.recipe_lightspeed import FieldPreset
from ...protocol import protocol_hash
from ...scores.storage import splat_bytes
from ...scores.view_likeness import likeness_of, shown_likeness
from ...timing.processes import call_in_processes
from ...timing.record import Record
from .settings import Settings
from .timed_fits import TimedField, TimedFit

DIVIDED, SINGLE, SPLATS = "divided", "single", "splats"

HALF_BYTES = 2  # of a number in half precision
SPLAT_BYTES = 64  # of one with colours of degree 3 in an SPZ file, before that is compressed
SPLAT_POINTS = 3000
RADIUS_IN_SPREADS = 1.1  # of a scene, in the greatest distance of a camera from the cameras' middle (3DGS)
CLAMPED = 0.05  # of rays at either end of a coordinate, that the single slab does not tell apart


@dataclass(frozen=True)
class OrbitFit:
    """What was measured of a fit.

    Attributes:
        name: `DIVIDED`, `SINGLE` or `SPLATS`.
        seconds: of one CPU that its steps took.
        steps: that it took.
        psnr, ssim: of held-out pictures, see `likeness`.
        bytes: of a field in half precision, or of the SPZ file of splats.
        parts: numbers of a field, or splats.
    """

    name: str
    seconds: float
    steps: int
    psnr: float
    ssim: float
    bytes: int
    parts: int


class Orbit:
    """A still scene of PocketWorld from all around: pictures to learn from, and pictures that are held out."""

    def __init__(self, preset: FieldPreset) -> None:
        self.preset = preset

    @cached_property
    def captures(self) -> tuple[Captures, Captures]:
        """Those that are learned from, and those that are held out."""
        return self.preset.captures()

    @property
    def words(self) -> str:
        """What is shown to whom, for a claim."""
        preset = self.preset
        return (
            f"scene {preset.scene} of PocketWorld's split {preset.split} from all around, {preset.num_pictures} "
            f"pictures of {preset.image_size}x{preset.image_size} pixels to learn from and {preset.held_out} held out"
        )


def orbit_fits(settings: Settings, path: Path) -> Mapping[str, OrbitFit]:
    """All fits by name, kept in the record at `path`; those of fields go on in folders beside it.

    Splats are last, for they have the seconds and the bytes of `DIVIDED`.
    """
    record = Record(path, as_json({"preset": asdict(settings.orbit), "single": settings.single_grid}), threads=1)
    done = {one.name: one for one in record.read(OrbitFit)}
    drafts = f"{path.stem}-{protocol_hash(record.protocol)[:8]}"  # other settings have folders of their own

    def measured(call: Callable[..., OrbitFit], jobs: Iterable[tuple[Any, ...]]) -> None:
        for one in call_in_processes(call, jobs, settings.processes):
            done[one.name] = one
            record.write(done.values())
            shutil.rmtree(path.parent / f"{drafts}-{one.name}", ignore_errors=True)  # splats have none

    fields = [name for name in (DIVIDED, SINGLE) if name not in done]
    measured(fit_orbit, ((settings, name, path.parent / f"{drafts}-{name}") for name in fields))
    if SPLATS not in done:
        measured(fit_orbit_splats, [(settings, done[DIVIDED].seconds, done[DIVIDED].bytes)])
    return done


# --- fields ---------------------------------------------------------------------------------------------------


def fit_orbit(settings: Settings, name: str, folder: Path) -> OrbitFit:
    """A field, from where an earlier run left it in `folder`."""
    orbit = Orbit(settings.orbit)
    seen, held_out = orbit.captures
    how = settings.orbit.fit()
    made, views = (
        new_field(seen.posed, how, SceneHints.of_captures(seen)) if name == DIVIDED else single_field(settings, seen)
    )
    field = TimedField(made)
    objective = TimedFit(field, views, how.learning_rate, how.grid_rate)
    run = replace(how.settings(seen.posed), preview_every=0)
    fit(objective, views.batches(how.seed, how.batch_views), run, folder, progress=False)
    numbers = sum(value.numel() for value in made.parameters())
    pipeline = LightSpeedPipeline(made)
    pipeline.set_progress_bar_config(disable=True)
    alike = shown_likeness(pipeline, held_out.posed)
    return OrbitFit(name, float(field.seconds), how.steps, *alike, HALF_BYTES * numbers, numbers)


def single_field(settings: Settings, seen: Captures) -> tuple[LightSpeedField, RayViews]:
    """A field of one slab with the decoder of one sub-scene, and as many numbers in its grids as all need together."""
    how = settings.orbit.fit()
    torch.manual_seed(how.seed)
    options = {"num_sub_scenes": 1, "grid_resolutions": settings.single_grid}
    made = LightSpeedField.from_preset(how.preset, **options)
    views = RayViews.of_pictures(seen.posed, made.scale)
    made.set_slab(0, level_slab(views, SceneHints.of_captures(seen), seen.posed, settings.orbit.up), torch.zeros(3))
    return made, views


def level_slab(views: RayViews, hints: SceneHints, posed: PosedImages, up: str) -> LightSlab:
    """A light slab for cameras all around that look down: level planes where the scene's box begins and ends.

    Planes across the line of sight of some cameras would be behind others, and confuse rays to and fro. Rays that go
    upwards meet level planes behind their camera, and the flatter a ray the farther away it meets them, so that no
    ends hold all: those of this slab hold nearly all rays that go down, and the others are shown as if at the ends.
    """
    low, high = hints.box(posed)
    axis = torch.tensor(direction(up))
    middle, half = (low + high) / 2, float((high - low) @ axis.abs()) / 2
    across = torch.eye(3)[(int(axis.abs().argmax()) + 1) % 3]
    frame = look_at(middle + 2 * half * axis, middle, across)
    origins, directions = (value.movedim(1, -1) for value in (views.origins, views.directions))
    unscaled = LightSlab(frame, half, 3 * half, -torch.ones(4), torch.ones(4))
    down = (directions @ -axis) > 0
    coordinates = unscaled.coordinates(origins, directions)[down]
    return replace(unscaled, low=coordinates.quantile(CLAMPED, 0), high=coordinates.quantile(1 - CLAMPED, 0))


# --- splats ---------------------------------------------------------------------------------------------------


def fit_orbit_splats(settings: Settings, seconds: float, max_bytes: int) -> OrbitFit:
    """Plain splats that learn for so many seconds of a CPU, and are never more than so many bytes hold.

    They begin at points on objects and on the ground, and see one picture a step.
    """
    seen, held_out = (capture.posed for capture in Orbit(settings.orbit).captures)
    seed, views = settings.orbit.seed, SplatViews.of_pictures(seen)
    start = splats_at(*points_of(seen, SPLAT_POINTS, seed))
    centres = camera_centres(seen.viewmats)
    radius = RADIUS_IN_SPREADS * float((centres - centres.mean(0)).norm(dim=1).max())
    rule = Densification(max_splats=max_bytes // SPLAT_BYTES)
    objective = TimedSplats(GaussianCloud(start), views, rule, radius, seconds)
    with suppress(TimeIsUp):
        fit(objective, views.batches(seed), FitSettings(steps=sys.maxsize, seed=seed), progress=False)
    gaussians = objective.cloud.gaussians().detach()
    unseen = SplatViews.of_pictures(held_out)
    alike = likeness_of((unseen.draw(gaussians, view).rgb[0] for view in range(len(unseen))), unseen.rgb)
    size = splat_bytes(gaussians, ".spz")
    return OrbitFit(SPLATS, objective.seconds, objective.steps, *alike, size, len(gaussians))


class TimeIsUp(Exception):
    """A fit has learned for as long as it may."""


class TimedSplats(PlainFit):
    """Splats that learn for a time: rates fall along half a cosine of it, and splats come and go in its first half.

    Args:
        cloud, views, densification, radius: see `PlainFit`.
        most_seconds: of a CPU, after which the first step ends the fit with `TimeIsUp`.
    """

    def __init__(
        self, cloud: GaussianCloud, views: SplatViews, densification: Densification, radius: float, most_seconds: float
    ) -> None:
        super().__init__(cloud, views, densification, radius)
        self.most_seconds, self.seconds, self.steps = most_seconds, 0.0, 0

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        self.adam = super().optimizer(part)
        return self.adam

    def loss(self, part: str, batch: StepView, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        self.started = process_time()
        for group in self.adam.param_groups:
            group["lr"] *= 0.5 * (1 + math.cos(math.pi * self.seconds / self.most_seconds))
        return super().loss(part, batch, generator)

    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        if self.seconds > self.most_seconds / 2:
            self.densification = None
        super().after_step(part, step, optimizer)
        self.seconds += process_time() - self.started
        self.steps = step + 1
        if self.seconds >= self.most_seconds:
            raise TimeIsUp
