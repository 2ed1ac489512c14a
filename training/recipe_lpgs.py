"""LPGS's training: one stage, which fits one scene to its pictures.

| stage | what learns | data of preset `nano` | of preset `paper` |
|---|---|---|---|
| scene | parents, hash grid and networks | a still scene of PocketWorld | a COLMAP folder or a transforms.json |
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ..hub_models.container_lpgs import decode_scene
from ..pipelines.fitting.forest_lpgs import ForestFit
from ..pipelines.fitting.scene_lpgs import LPGSFit, encode_within, plant_in_points
from ..pipelines.fitting.splat_views import SplatViews
from ..pipelines.inputs import check_choice, require
from ..pipelines.pipeline_lpgs import LPGSPipeline
from ..pipelines.scene_cameras import DIRECTIONS, Circle
from .datasets.posed_captures import Captures, read_captures, world_captures
from .preset import Preset
from .stages import Stage, StageRun, run_stage

# The numbers


@dataclass(frozen=True, kw_only=True)
class ScenePreset(Preset):
    """Parents, grid and networks of one scene.

    Attributes:
        source: "pocketworld", or a capture as `read_captures` takes it.
        scene: number of the still scene of PocketWorld.
        image_size: longest side of a picture in pixels; of PocketWorld's pictures both.
        batch_size: 1, for a step looks at one view.
        learning_rate: of the networks; centres, scales and grid have rates of their own.
        model: preset of `LPGSGaussians`; "" takes networks and a grid that suit the bytes.
        max_bytes: of the scene's file.
        children_per_parent: K.
        up: which of the scene's axes points up.
    """

    split: str = "test"
    scene: int = 0
    batch_size: int = 1
    mixed_precision: str = "no"
    warmup_steps: int = 0
    model: str
    max_bytes: int
    children_per_parent: int = 2
    up: str = "-y"

    def __post_init__(self):
        super().__post_init__()
        require(self.batch_size == 1, "batch_size", self.batch_size, "1: a step looks at one view")
        require(self.scene >= 0, "scene", self.scene, "at least 0")
        check_choice("up", self.up, DIRECTIONS)
        self.fit()

    def fit(self) -> LPGSFit:
        """Bytes and steps as the fit takes them."""
        return LPGSFit(
            max_bytes=self.max_bytes, steps=self.steps, seed=self.seed, preset=self.model,
            children_per_parent=self.children_per_parent,
        )  # fmt: skip

    def captures(self) -> tuple[Captures, Captures]:
        """What is learned from, and what is held out."""
        if self.source == "pocketworld":
            return world_captures(self.split, self.scene, self.image_size)
        seen, held_out = (read_captures(self.source, self.image_size, split) for split in ("train", "test"))
        return seen, held_out


# fmt: off
SCENE = {
    "nano":  ScenePreset(model="",   image_size=128,  steps=2_000,  max_bytes=64_000, learning_rate=5e-3, scene=2,
                         up="y"),
    # The published schedule: 30,000 steps, of which a quarter with parents alone.
    "paper": ScenePreset(model="C3", image_size=1600, steps=30_000, max_bytes=40_000_000, source="",
                         split="train"),
}
# fmt: on


# Stage scene


def train_scene(preset: ScenePreset, run: StageRun) -> Path:
    seen, _ = preset.captures()
    how = preset.fit()
    views = SplatViews.of_pictures(seen.posed).to(run.device)
    forest, rule, radius = plant_in_points(seen.positions.to(run.device), how)
    run.learn(ForestFit(forest, views, rule, radius, preset.learning_rate), views.batches(how.seed))
    made = encode_within(forest.scene, rule.file, how.max_bytes)
    circle = asdict(Circle.of_cameras(seen.posed.viewmats, preset.up))
    return run.save_pipeline(LPGSPipeline(decode_scene(made.data), **vars(made.steps), circle=circle))


STAGES = {
    "scene": Stage(train_scene, SCENE, data="your capture: a folder of COLMAP or with a transforms.json"),
}
run = partial(run_stage, "lpgs", STAGES)
