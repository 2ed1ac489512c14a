"""A LightSpeed field fitted to the pictures of one scene."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ...hub_models.field_lightspeed import LightSpeedField
from ..inputs import PosedImages, check_choice, check_count, check_number
from ..view_ranges import GridViews, OrbitViews, check_focal_lengths, typical_focal
from .light_field_fitting import LightFieldFit, RayViews, whole_blocks
from .loop import FitSettings, fit
from .slabs_lightspeed import SceneHints, Slab, is_from_all_around, place_slabs

WARMUP = 50


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

    def settings(self, posed: PosedImages, hints: SceneHints | None = None) -> FitSettings:
        """What a run is; a digest tells pictures, cameras and hints from others."""
        free = ("steps", "seed", "save_every")
        wishes = {name: value for name, value in asdict(self).items() if name not in free}
        hints = hints or SceneHints()
        given = [posed.images, posed.viewmats, posed.Ks, *([] if hints.points is None else [hints.points])]
        about = {"pictures": list(posed.images.shape), "digest": _digest(given), "nearest": hints.nearest}
        return FitSettings(
            steps=self.steps, seed=self.seed, schedule="cosine", warmup_steps=min(WARMUP, self.steps),
            save_every=self.save_every, preview_every=self.save_every, identity={**wishes, **about},
        )  # fmt: skip


def new_field(posed: PosedImages, how: LightSpeedFit, hints: SceneHints) -> tuple[LightSpeedField, RayViews]:
    """A field with new weights and its slabs, and the pictures by their rays.

    Raises:
        ValueError: for focal lengths that differ much, and as `place_slabs` does.
    """
    torch.manual_seed(how.seed)
    made = LightSpeedField.from_preset(how.preset, **how.options)
    check_focal_lengths(posed.Ks, typical_focal(posed.Ks))
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
        ValueError: as `new_field` does.
    """
    hints = hints or SceneHints()
    made, views = new_field(posed, how, hints)
    made, views = made.to(posed.images.device), views.to(posed.images.device)
    objective = LightFieldFit(made, views, how.learning_rate, how.grid_rate)
    fit(objective, views.batches(how.seed, how.batch_views), how.settings(posed, hints), output, **running)
    return made


def range_of(made: LightSpeedField, posed: PosedImages, up: str) -> GridViews | OrbitViews:
    """From where a field is looked at: around, where it has several sub-scenes, or in the area of its cameras."""
    posed = whole_blocks(posed, made.scale)
    around = made.config.num_sub_scenes > 1 or is_from_all_around(posed)
    return OrbitViews.of_pictures(posed, up) if around else GridViews.of_pictures(posed)


def _digest(tensors: Iterable[Tensor]) -> str:
    content = sha256()
    for tensor in tensors:
        content.update(tensor.detach().cpu().contiguous().numpy())
    return content.hexdigest()
