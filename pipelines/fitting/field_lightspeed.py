"""A LightSpeed field fitted to the pictures of one scene."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ...hub_models.field_lightspeed import LightSpeedField
from ..inputs import PosedImages, check_choice, check_count, check_number, require
from ..scene_cameras import Cameras
from ..view_ranges import GridViews, OrbitViews, check_focal_lengths, typical_focal
from .checkpoint import digest_of_tensors
from .light_field_fitting import LightFieldFit, RayViews, whole_blocks
from .loop import FitSettings, fit
from .pseudo_views_lightspeed import PseudoViews, pseudo_cameras, real_and_pseudo, render_pseudo_views, scene_ball
from .slabs_lightspeed import SceneHints, Slab, is_from_all_around, place_slabs
from .teacher_lightspeed import TeacherFit, fit_teacher

WARMUP = 50
TEACHER = "teacher"
"""Folder in that of a run, of the teacher's own run."""
PAPER_TEACHER = {"preset": "paper", "rays": 16_384, "samples": 262_144, "learning_rate": 2e-2}
"""MobileR2L's teacher, of all fields but the nano one."""


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
        teacher_steps: of a teacher, which learns from the pictures first; 0 has none.
        pseudo_views: pictures from elsewhere that it then makes, to learn from beside the real ones; 0 has none.
        seed: of everything random.
        save_every: steps between checkpoints.

    Raises:
        ValueError: a value out of its range, naming it, or a teacher without pseudo views.
    """

    preset: str = "nano"
    options: Mapping[str, Any] = field(default_factory=dict)
    slab: Slab = "auto"
    steps: int = 2000
    batch_views: int = 2
    learning_rate: float = 2e-3
    grid_rate: float = 2e-2
    teacher_steps: int = 0
    pseudo_views: int = 0
    seed: int = 0
    save_every: int = 200

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, tuple(LightSpeedField.presets))
        check_choice("slab", self.slab, get_args(Slab))
        for name in ("steps", "batch_views", "save_every"):
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "grid_rate"):
            check_number(name, getattr(self, name), 1e-9)
        for name in ("teacher_steps", "pseudo_views"):
            if getattr(self, name) != 0:
                check_count(name, getattr(self, name))
        both = (self.teacher_steps, self.pseudo_views)
        require(min(both) > 0 or max(both) == 0, "teacher_steps and pseudo_views", both, "both 0 or both at least 1")

    def teacher(self) -> TeacherFit:
        """How the teacher is fitted."""
        numbers = {} if self.preset == "nano" else PAPER_TEACHER
        return TeacherFit(steps=self.teacher_steps, seed=self.seed, save_every=self.save_every, **numbers)

    def settings(self, posed: PosedImages, hints: SceneHints | None = None) -> FitSettings:
        """What a run is; a digest tells pictures, cameras and hints from others."""
        free = ("steps", "seed", "save_every")
        wishes = {name: value for name, value in asdict(self).items() if name not in free}
        hints = hints or SceneHints()
        given = [posed.images, posed.viewmats, posed.Ks, *([] if hints.points is None else [hints.points])]
        about = {"pictures": list(posed.images.shape), "digest": digest_of_tensors(given), "nearest": hints.nearest}
        return FitSettings(
            steps=self.steps, seed=self.seed, schedule="cosine", warmup_steps=min(WARMUP, self.steps),
            save_every=self.save_every, preview_every=self.save_every, identity={**wishes, **about},
        )  # fmt: skip


def new_field(
    posed: PosedImages, how: LightSpeedFit, hints: SceneHints, pseudo: PseudoViews | None = None
) -> tuple[LightSpeedField, RayViews]:
    """A field with new weights and its slabs, and the pictures by their rays, the real ones first.

    Raises:
        ValueError: for focal lengths that differ much, and as `place_slabs` does.
    """
    images, cameras = (posed.images, Cameras.of_pictures(posed)) if pseudo is None else pseudo.beside(posed)
    made, weights = _placed_field(cameras, how, hints)
    return made, RayViews.of_cameras(images, cameras, made.scale, weights)


def _placed_field(
    cameras: Cameras, how: LightSpeedFit, hints: SceneHints
) -> tuple[LightSpeedField, Float[Tensor, "views sub_scenes"]]:
    torch.manual_seed(how.seed)
    made = LightSpeedField.from_preset(how.preset, **how.options)
    check_focal_lengths(cameras.Ks, typical_focal(cameras.Ks))
    return made, place_slabs(made, cameras, how.slab, hints, how.seed)


def cameras_for_teacher(posed: PosedImages, how: LightSpeedFit, hints: SceneHints) -> Cameras:
    """From where a teacher is to make pictures.

    Raises:
        ValueError: no field can be fitted to what these and the real cameras see, as `new_field` would say later.
    """
    cameras = pseudo_cameras(posed, how.pseudo_views, how.seed)
    _placed_field(real_and_pseudo(posed, cameras), how, hints)
    return cameras


def fit_field(
    posed: PosedImages,
    how: LightSpeedFit,
    hints: SceneHints | None = None,
    output: str | Path | None = None,
    **running: Any,
) -> LightSpeedField:
    """Fits a field to pictures, and to those of a teacher that was fitted to them before, where one is asked for.

    Args:
        posed: the pictures with their cameras. Depths of theirs help a teacher; a field without one needs none.
        how: the network and the steps.
        hints: what else is known of the scene.
        output: folder of checkpoints, metrics and previews; the teacher's run and pictures are in `teacher/`. None
            keeps none.
        running: `resume` and `progress` of `fit`.

    Raises:
        ValueError: as `new_field` and `scene_ball` do.
    """
    hints = hints or SceneHints()
    pseudo = None
    if how.pseudo_views:
        with TemporaryDirectory() if output is None else nullcontext(output) as folder:
            pseudo = _taught(posed, how, hints, Path(folder) / TEACHER, **running)
    made, views = new_field(posed, how, hints, pseudo)
    made, views = made.to(posed.images.device), views.to(posed.images.device)
    objective = LightFieldFit(made, views, how.learning_rate, how.grid_rate)
    fit(objective, views.batches(how.seed, how.batch_views), how.settings(posed, hints), output, **running)
    return made


def _taught(
    posed: PosedImages, how: LightSpeedFit, hints: SceneHints, folder: Path, resume: bool = True, progress: bool = True
) -> PseudoViews:
    """Pictures of a teacher that learned from some."""
    cameras, pictures = cameras_for_teacher(posed, how, hints), folder / f"pseudo_{how.pseudo_views}"
    teacher = fit_teacher(posed, scene_ball(posed, hints), how.teacher(), folder, resume=resume, progress=progress)
    render_pseudo_views(teacher, cameras, pictures, progress=progress)
    return PseudoViews.read(cameras, pictures)


def range_of(made: LightSpeedField, posed: PosedImages, up: str) -> GridViews | OrbitViews:
    """From where a field is looked at: around, where it has several sub-scenes, or in the area of its cameras."""
    posed = whole_blocks(posed, made.scale)
    around = made.config.num_sub_scenes > 1 or is_from_all_around(posed)
    return OrbitViews.of_pictures(posed, up) if around else GridViews.of_pictures(posed)
