"""How much is measured of LightSpeed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ....pipelines.fitting.loop import FitSettings
from ....pipelines.fitting.teacher_lightspeed import TeacherFit
from ....training.recipe_lightspeed import FIELD, FieldPreset
from ...benchmark import CHECKPOINTS
from ...exported import RUNTIMES
from .graphs import FRONTAL, Frame


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How long fields learn that are compared, all alike.

    Attributes:
        side: of the longer side of pictures, in pixels.
        steps: of each fit.
        batch: pictures a step.
        warmup: steps in which learning rates rise; then they fall by half a cosine to 0.
        look_every: steps after which a fit is compared with held-out pictures.
    """

    side: int
    steps: int
    batch: int = 2
    warmup: int = 50
    look_every: int = 100

    @property
    def looks(self) -> list[int]:
        """Steps after which a fit is looked at, the last among them."""
        return [*range(self.look_every, self.steps, self.look_every), self.steps]

    def settings(self, seed: int, identity: Mapping[str, Any]) -> FitSettings:
        """Of a fit that leaves what it was at each look."""
        return FitSettings(
            steps=self.steps, seed=seed, schedule="cosine", warmup_steps=self.warmup, save_every=self.look_every,
            log_every=self.look_every, keep_checkpoints=self.steps, identity={**asdict(self), **identity},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured; the defaults are those of the committed rows.

    Attributes:
        checkpoints: folder with lightspeed-nano.
        repeats: timed calls of each contender.
        threads: of each contender.
        sides: of the square pictures whose cost is compared, in pixels.
        model: preset of the field that is fitted anew; the rivals have its decoder.
        processes: fits at once, each in one thread of its own.
        cards: how the fields learn that are compared on the tarot cards.
        card_grids: resolutions of LightSpeed's grids there, finer than the preset's, for the pictures are larger.
        world: the scene that lightspeed-nano learned.
        orbit: the same in smaller pictures, and how it is learned in several ways.
        single_grid: resolutions of the grids of a single slab with as many numbers as all sub-scenes have together.
        teacher: how a radiance field learns the same pictures.
        back_ends: whose bundles show lightspeed-nano.
        bundle: the picture that graphs of full size show.
    """

    checkpoints: Path = CHECKPOINTS
    repeats: int = 10
    threads: int = 2
    sides: tuple[int, ...] = (200, 400, 800)
    model: str = "nano"
    processes: int = 2
    cards: FitPlan = FitPlan(side=384, steps=1000, look_every=50)
    card_grids: tuple[int, ...] = (32, 64, 128, 256)
    world: FieldPreset = FIELD["nano"]
    orbit: FieldPreset = replace(FIELD["nano"], steps=2500, image_size=128, num_pictures=480)
    single_grid: tuple[int, ...] = (41, 81, 162, 325)
    teacher: TeacherFit = TeacherFit()
    back_ends: tuple[str, ...] = tuple(RUNTIMES)
    bundle: Frame = FRONTAL
