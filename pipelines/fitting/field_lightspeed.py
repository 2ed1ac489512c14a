"""A LightSpeed field fitted to the pictures of one scene."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from ...hub_models.field_lightspeed import LightSpeedField
from ..inputs import PosedImages, check_choice, check_count, check_number
from ..view_ranges import GridViews, OrbitViews
from .light_field_fitting import LightFieldFit, RayViews, whole_blocks
from .loop import FitSettings, fit
from .slabs_lightspeed import SceneHints, Slab, place_slabs

WARMUP = 50
ALL_AROUND = 0.5
"""Length of the mean of the cameras' unit axes, below which they look from all around."""


@dataclass(frozen=True, kw_only=True)
class LightSpeedFit:
    """How a field is fitted.

    Attributes:
        preset: of `LightSpeedField`.
        options: other arguments of it, which come before the preset's.
        slab: as `place_slabs` takes it.
        steps: of the fit.
        batch_views: whole pictures a step.
        learning_rate: of the network.
        grid_rate: of the grids.
        seed: of everything random.
        save_every: steps between checkpoints.

    Raises:
        ValueError: a value out of its range, naming it.
    """

    preset: str = "nano"
    options: Mapping[str, Any] = field(default_factory=dict)
    slab: Slab = "auto"
    steps: int = 2000
    batch_views: int = 2
    learning_rate: float = 2e-3
    grid_rate: float = 2e-2
    seed: int = 0
    save_every: int = 200

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, tuple(LightSpeedField.presets))
        check_choice("slab", self.slab, get_args(Slab))
        for name in ("steps", "batch_views", "save_every"):
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "grid_rate"):
            check_number(name, getattr(self, name), 1e-9)

    def settings(self, posed: PosedImages) -> FitSettings:
        """What a run is; the sum of all pixels tells it from that of other pictures."""
        free = ("steps", "seed", "save_every")
        wishes = {name: value for name, value in asdict(self).items() if name not in free}
        about = {"pictures": list(posed.images.shape), "light": float(posed.images.double().sum())}
        return FitSettings(
            steps=self.steps, seed=self.seed, schedule="cosine", warmup_steps=min(WARMUP, self.steps),
            save_every=self.save_every, preview_every=self.save_every, identity={**wishes, **about},
        )  # fmt: skip


def new_field(posed: PosedImages, how: LightSpeedFit, hints: SceneHints) -> tuple[LightSpeedField, RayViews]:
    """A field with new weights and its slabs, and the pictures by their rays.

    Raises:
        ValueError: as `place_slabs` does.
    """
    torch.manual_seed(how.seed)
    made = LightSpeedField.from_preset(how.preset, **how.options)
    weights = place_slabs(made, posed, how.slab, hints, how.seed)
    return made, RayViews.of_pictures(posed, made.scale, weights)


def fit_field(
    posed: PosedImages,
    how: LightSpeedFit,
    hints: SceneHints | None = None,
    output: str | Path | None = None,
    **running: Any,
) -> LightSpeedField:
    """Fits a field to pictures.

    Args:
        posed: the pictures with their cameras.
        how: the network and the steps.
        hints: what else is known of the scene.
        output: folder of checkpoints, metrics and previews; None keeps none.
        running: `resume` and `progress` of `fit`.

    Raises:
        ValueError: as `place_slabs` does.
    """
    made, views = new_field(posed, how, hints or SceneHints())
    made, views = made.to(posed.images.device), views.to(posed.images.device)
    objective = LightFieldFit(made, views, how.learning_rate, how.grid_rate)
    fit(objective, views.batches(how.seed, how.batch_views), how.settings(posed), output, **running)
    return made


def range_of(made: LightSpeedField, posed: PosedImages, up: str) -> GridViews | OrbitViews:
    """From where a field is looked at: around, where it has several sub-scenes, or in the area of its cameras."""
    posed = whole_blocks(posed, made.scale)
    axes = posed.viewmats[:, 2, :3]
    around = made.config.num_sub_scenes > 1 or float(axes.mean(0).norm()) < ALL_AROUND
    return OrbitViews.of_pictures(posed, up) if around else GridViews.of_pictures(posed)
