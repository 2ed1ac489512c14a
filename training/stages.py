"""What the stages of every recipe share: data, the models of earlier stages, the loop, saving, and the record of it.

A recipe is a table of `Stage`s and for each of them a function `train(preset, run) -> folder of the model`, which reads
from top to bottom: data, model, objective, `run.learn`, `run.save`. Of several processes all learn, one writes while
the others wait.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from diffusers import DiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from .. import _CHECKPOINTS, unknown_name
from ..pipelines.files import whole_folder
from ..pipelines.fitting.loop import Batches, Objective
from ..pipelines.fitting.run_folder import RunFolder
from ..pipelines.inputs import require
from ..pipelines.repository import INDEX, save_repository
from .datasets.bad_rows import SkippedRows
from .datasets.streams import shuffled_batches, streamed_batches
from .loop import train
from .preset import Preset, configure
from .training_record import Origin, write_training_record


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    Attributes:
        train: trains it and returns the folder of the model.
        presets: name -> numbers; "nano" is for two CPU cores, "paper" the paper's.
        committed: the model that stands in for this stage where it was not run: its folder in `hub_models/checkpoints`,
            such as "snapgen-nano/vae"; "" has none.
        data: what may stand for `source`, in words.
    """

    train: Callable[[Any, "StageRun"], Path]
    presets: Mapping[str, Preset]
    committed: str = ""
    data: str = "your captioned pictures: a Hub dataset id, a folder or 'shards/*.tar'"


def run_stage(
    slug: str,
    stages: Mapping[str, Stage],
    stage: str,
    preset: str,
    output: str | Path,
    resume: bool = True,
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Path:
    """Trains one stage into `output`/<stage>: its model, `training.json` with what made it, and what the loop leaves.

    Args:
        slug: of the recipe, as the command knows it.
        stages: of the recipe.
        stage: one of them.
        preset: one of its presets.
        output: folder that the stages share, for each finds there what the earlier ones left.
        resume: go on from the last checkpoint in `output`/<stage>.
        seed: in place of the preset's.
        overrides: other values for fields of the stage's preset, as text.

    Returns:
        The folder of the model.

    Raises:
        ValueError: unknown stage, preset or field, a value that does not fit it, or data that cannot be used.
        FileNotFoundError: what an earlier stage should have left, or local data, is missing.
        OSError: `output` cannot be written to, another run writes there, or a model cannot be reached.
    """
    if stage not in stages:
        raise unknown_name("stage", stage, stages)
    chosen = configure(stages[stage].presets, preset, seed, overrides, f"setting of stage {stage}")
    require(chosen.source != "", "source", "", stages[stage].data)
    Accelerator()  # meets the other processes, on CPUs too: `PartialState()` alone would take each for the only one
    run = StageRun(stages, chosen, Path(output) / stage, resume)
    folder = RunFolder(run.folder)
    if PartialState().is_main_process:
        with folder.locked():  # what forbids to write there shows before data are fetched or made
            pass
    start = perf_counter()
    try:
        model = stages[stage].train(chosen, run)
    except BaseException:
        folder.remove_if_empty()
        raise
    changed = ({} if seed is None else {"seed": seed}) | dict(overrides or {})
    seconds = perf_counter() - start
    on_main_process(
        lambda: write_training_record(run.folder, model, slug, stage, preset, chosen, changed, run.origins, seconds)
    )
    return model


@dataclass(frozen=True)
class StageRun:
    """A stage while it is trained, and what it may ask for.

    Attributes:
        stages: of the recipe.
        preset: the numbers of this run.
        folder: where it writes, `output`/<stage>.
        resume: go on from the last checkpoint.
        skipped: bad rows that this process did without.
        origins: the models that it began with, by what the recipe calls them.
    """

    stages: Mapping[str, Stage]
    preset: Any
    folder: Path
    resume: bool
    skipped: SkippedRows = field(default_factory=SkippedRows)
    origins: dict[str, Origin] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where models go, as accelerate is configured."""
        return PartialState().device

    # Data

    def pocketworld(self, read: Callable[[str, int, int], Any]) -> Any:
        """Pictures of PocketWorld in memory, by `read(split, size, count)`."""
        return read(self.preset.split, self.preset.image_size, self.preset.num_pictures)

    def indices(self, count: int) -> Batches:
        """Shuffled batches of indices into data in memory."""
        preset = self.preset
        return shuffled_batches(count, preset.batch_size, preset.seed, preset.gradient_accumulation_steps)

    def stream(self, read: Callable[..., tuple], **columns: Any) -> Batches:
        """Batches of what `read(row, size, image_column, **columns)` makes of the rows of the preset's own source."""
        preset, skipped = self.preset, self.skipped if self.preset.skip_bad_rows else None
        read = partial(read, size=preset.image_size, image_column=preset.image_column, **columns)
        micro_steps = preset.gradient_accumulation_steps
        return streamed_batches(preset.source, read, preset.batch_size, preset.seed, preset.split, micro_steps, skipped)

    # Models

    def begins_with(self, name: str, source: str | Path) -> str | Path:
        """Notes a model that is about to be read, for the record of the run; every stage says so of all it reads.

        Args:
            name: what the recipe calls it.
            source: its folder or Hub id.

        Returns:
            `source`.
        """
        self.origins[name] = Origin.of(source)
        return source

    def earlier(self, *stages: str) -> Path:
        """Folder of the model that the first of these stages to have been run left in the same output.

        Where none was, it is what is committed for the last.

        Raises:
            FileNotFoundError: there is neither.
        """
        output, last = self.folder.parent, stages[-1]
        left = [output / stage / "model" for stage in stages]
        for folder in (*left, _CHECKPOINTS / self.stages[last].committed):
            if any((folder / name).is_file() for name in ("config.json", INDEX)):
                return folder
        raise FileNotFoundError(f"there is no {last} model in {output}: train stage {last} into that output first")

    def new_model(self, kind: type, part: str = "", init: str | Path = "", **options: Any) -> nn.Module:
        """A model with new weights of the preset's seed, or with those that a run goes on from.

        Args:
            kind: its class, with the preset's `model` among its presets.
            part: subfolder where a repository holds it.
            init: folder to go on from, the model's or its repository's; "" is the preset's.
            options: in place of the model preset's, for new weights.
        """
        torch.manual_seed(self.preset.seed)
        init = init or self.preset.init
        if not init:
            return kind.from_preset(self.preset.model, **options)
        inside = Path(self.begins_with("init", init)) / part
        return kind.from_pretrained(inside if inside.is_dir() else init)

    def learn(self, objective: Objective, batches: Batches) -> None:
        """Trains what the objective holds, with attention in the form that trains fastest here.

        Afterwards it is in eval mode, with averaged weights if the preset has an average.
        """
        attending = [part for part in objective.parts.values() if hasattr(part, "set_attention_form")]
        for part in attending:
            part.set_attention_form("explicit" if self.device.type == "cpu" else "fused")
        processors = [
            (part, dict(part.attn_processors))
            for part in objective.parts.values()
            if hasattr(part, "set_attn_processor")
        ]
        for part, _ in processors:
            part.set_attn_processor(AttnProcessor() if self.device.type == "cpu" else AttnProcessor2_0())
        settings = self.preset.settings(log_every=50, preview_every=1000)
        try:
            train(objective, batches, settings, self.folder, self.resume)
        finally:
            if self.skipped:
                print(self.skipped.sentence())
            for part in attending:
                part.set_attention_form("fused")
            for part, before in processors:
                part.set_attn_processor(before)

    # What is left

    def save(self, *components: Any) -> Path:
        """Writes models and tokenizers that belong together to `folder`/model, whole or not at all."""

        def write(folder: Path) -> None:
            with whole_folder(folder) as draft:
                for component in components:
                    component.save_pretrained(draft)

        return self.write(write)

    def write(self, write: Callable[[Path], Any]) -> Path:
        """Has one process write `folder`/model by `write(folder)`, whole or not at all."""
        on_main_process(lambda: write(self.folder / "model"))
        return self.folder / "model"

    def save_pipeline(self, pipeline: DiffusionPipeline, **embedded: Path) -> Path:
        """Writes a whole repository to `folder`/model; `embedded` as `save_repository` takes it."""
        on_main_process(lambda: save_repository(pipeline, self.folder / "model", embedded=embedded))
        return self.folder / "model"


def on_main_process(write: Callable[[], Any]) -> None:
    """Lets one process write while the others wait."""
    state = PartialState()
    if state.is_main_process:
        write()
    state.wait_for_everyone()
