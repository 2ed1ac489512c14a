"""LightSpeed's training: one stage, which fits one light field to the pictures of its scene.

| stage | what learns | data of preset `nano` | of preset `paper` and `paper-frontal` |
|---|---|---|---|
| field | grids and decoders of all sub-scenes, first a teacher if asked for | a still scene of PocketWorld from all \
around | your capture |
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from accelerate import PartialState

from ..hub_models.field_lightspeed import LightSpeedField
from ..pipelines.fitting.field_lightspeed import TEACHER, LightSpeedFit, cameras_for_teacher, new_field, range_of
from ..pipelines.fitting.light_field_fitting import LightFieldFit
from ..pipelines.fitting.pseudo_views_lightspeed import PseudoViews, render_pseudo_views, scene_ball
from ..pipelines.fitting.slabs_lightspeed import SceneHints
from ..pipelines.fitting.teacher_lightspeed import RadianceFit, new_teacher
from ..pipelines.inputs import PosedImages, check_choice, require
from ..pipelines.pipeline_lightspeed import LightSpeedPipeline
from ..pipelines.scene_cameras import DIRECTIONS
from .datasets.posed_captures import Captures, read_captures
from .datasets.world_orbits import world_orbit
from .preset import Preset
from .stages import Stage, StageRun, run_stage

# The numbers


@dataclass(frozen=True, kw_only=True)
class FieldPreset(Preset):
    """Grids and decoders of one scene.

    Attributes:
        source: "pocketworld", or a capture as `read_captures` takes it.
        scene: number of the still scene of PocketWorld.
        num_pictures: of it, to learn from; a capture is read whole.
        held_out: pictures of PocketWorld's scene that are not learned from.
        image_size: longest side of a picture in pixels; of PocketWorld's pictures both.
        batch_size: whole pictures in a step.
        learning_rate: of the decoders.
        grid_rate: of the grids.
        model: preset of `LightSpeedField`.
        sub_scenes: clusters of cameras, each with a light slab of its own; 0 takes those of the model's preset.
        slab: as `place_slabs` takes it.
        up: which of the scene's axes points up.
        teacher_steps: of a teacher that learns from the pictures first; 0 has none. Depths of the pictures help it.
        pseudo_views: pictures that it then makes, to learn from beside the real ones; 0 has none.
    """

    split: str = "test"
    scene: int = 0
    num_pictures: int = 960
    held_out: int = 24
    mixed_precision: str = "no"
    model: str
    grid_rate: float
    sub_scenes: int = 0
    slab: str = "auto"
    up: str = "-y"
    teacher_steps: int = 0
    pseudo_views: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("scene", "sub_scenes"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        require(self.held_out >= 1, "held_out", self.held_out, "at least 1")
        micro_steps = self.gradient_accumulation_steps
        require(micro_steps == 1, "gradient_accumulation_steps", micro_steps, "1: a step looks at one sub-scene")
        check_choice("model", self.model, tuple(LightSpeedField.presets))
        check_choice("up", self.up, DIRECTIONS)
        self.fit()

    def fit(self) -> LightSpeedFit:
        """The network and steps as the fit takes them."""
        return LightSpeedFit(
            preset=self.model, options={"num_sub_scenes": self.sub_scenes} if self.sub_scenes else {}, slab=self.slab,
            steps=self.steps, batch_views=self.batch_size, learning_rate=self.learning_rate, grid_rate=self.grid_rate,
            teacher_steps=self.teacher_steps, pseudo_views=self.pseudo_views, seed=self.seed,
        )  # fmt: skip

    def captures(self) -> tuple[Captures, Captures]:
        """What is learned from, and what is held out."""
        if self.source == "pocketworld":
            return world_orbit(self.split, self.scene, self.image_size, self.num_pictures, self.held_out)
        seen, held_out = (read_captures(self.source, self.image_size, split) for split in ("train", "test"))
        return seen, held_out


# fmt: off
FIELD = {
    "nano":          FieldPreset(model="nano", image_size=256, batch_size=2, steps=12_000, learning_rate=2e-3,
                                 grid_rate=2e-2, sub_scenes=5, up="y", scene=35),
    # MobileR2L's schedule, over the number of steps that is remembered of LightSpeed. Its teacher learns for 30 and 20
    # epochs, of 1,000 steps each in the code of that teacher (ngp_pl).
    "paper":         FieldPreset(model="paper", image_size=800, batch_size=10, steps=240_000, learning_rate=5e-4,
                                 grid_rate=5e-3, warmup_steps=200, source="", split="train", teacher_steps=30_000,
                                 pseudo_views=10_000),
    "paper-frontal": FieldPreset(model="paper-frontal", image_size=1008, batch_size=10, steps=240_000,
                                 learning_rate=5e-4, grid_rate=5e-3, warmup_steps=200, source="", split="train",
                                 teacher_steps=20_000, pseudo_views=8_000),
}
# fmt: on


# Stage field


def train_field(preset: FieldPreset, run: StageRun) -> Path:
    seen, _ = preset.captures()
    how, hints = preset.fit(), SceneHints.of_captures(seen)
    pseudo = taught(seen.posed, how, hints, run) if how.pseudo_views else None
    field, views = new_field(seen.posed, how, hints, pseudo)
    views = views.to(run.device)
    objective = LightFieldFit(field, views, how.learning_rate, how.grid_rate)
    run.learn(objective, views.batches(how.seed, how.batch_views))
    return run.save_pipeline(LightSpeedPipeline(field, range_of(field, seen.posed, preset.up).to_config()))


def taught(posed: PosedImages, how: LightSpeedFit, hints: SceneHints, run: StageRun) -> PseudoViews:
    """Pictures of a teacher that learns from real ones first; every process makes a share of them."""
    state, folder = PartialState(), run.folder / TEACHER
    cameras, pictures = cameras_for_teacher(posed, how, hints), folder / f"pseudo_{how.pseudo_views}"
    teacher = new_teacher(scene_ball(posed, hints), how.teacher())
    objective = RadianceFit(teacher, posed.to(run.device), how.teacher())
    inside = replace(run, folder=folder, preset=replace(run.preset, steps=how.teacher_steps))
    inside.learn(objective, objective.batches())
    share = (state.process_index, state.num_processes)
    render_pseudo_views(teacher, cameras.to(run.device), pictures, *share, progress=state.is_main_process)
    state.wait_for_everyone()
    return PseudoViews.read(cameras, pictures)


STAGES = {
    "field": Stage(
        train_field, FIELD, data="your capture: a folder of COLMAP, LLFF, a transforms.json or a camera grid"
    ),
}
run = partial(run_stage, "lightspeed", STAGES)
