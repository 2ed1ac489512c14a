"""`pocket quantize --train`: the UNet of a Stable Diffusion in a few bits, which it learns to be of from captioned
pictures of your own (BitsFusion, arXiv 2406.04333).
"""

import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate import Accelerator, PartialState
from diffusers import UNet2DConditionModel
from rich.progress import Progress

from .. import unknown_name
from ..pipelines.files import read_json, write_json
from ..pipelines.inputs import require
from ..pipelines.pipeline_bitsfusion import OTHER_CONDITIONS
from ..pipelines.quantization_bitsfusion import Quantization, replace_model
from ..pipelines.quantization_choice_bitsfusion import MEASURED, ChosenModel, choose_bits, choose_model
from .preset import configure
from .recipe_bitsfusion import STAGES, run
from .stages import on_main_process
from .training_chain import RECORD

LEARNING, PRESET = ("distill", "finetune"), "paper"
JOB, BITS = "job.json", "bits.json"
CACHED_STEPS = 50  # as in the paper; the recipe always caches, for the layers of time do not learn
BY_OPTIONS = {"base", "source", "bits", "cache_steps"}  # settings of the stages that the command has options for
FREE = {"compile", "skip_bad_rows", "save_every"}  # a training may go on with others


def quantize_by_training(
    source: str | Path,
    target: str | Path,
    data: str,
    bits: float = 4,
    recipe: str | Path | None = None,
    overwrite: bool = False,
    cache_steps: int | None = None,
    component: str | None = None,
    calibrate: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Quantization | None:
    """Trains the UNet of a pipeline by stages `distill` and `finetune` of the recipe, and copies the rest of it.

    Checkpoints, metrics and the models of both stages are in `training_folder(target)`, where a run that was stopped
    goes on when it is started again with the same arguments. The whole pipeline is in memory, the UNet twice.

    Args:
        source: a pipeline like Stable Diffusion 1.5's, as `quantize_folder` takes it.
        target: the folder to make; there whole or not at all.
        data: captioned pictures, as setting `source` of `pocket train` takes them: a Hub dataset, a folder, shards.
        bits, recipe, overwrite, component, calibrate: as `quantize_folder` takes them.
        cache_steps: likewise; None is 50.
        settings: of the stages by name, as text, in place of those of preset `paper`; each stage takes those it has.

    Returns:
        What was done; None in processes of `accelerate launch` that did not write it.

    Raises:
        FileNotFoundError: there is no model or no data, or a part of it is missing.
        FileExistsError: there is a target, and it is not to be replaced.
        OSError: something cannot be written or reached, or another run writes there.
        ValueError: an argument, the model or the data are not as they must be, or another training is in the way.
        FloatingPointError: a loss is not finite.
    """
    start, target = perf_counter(), Path(target)
    chosen = choose_model(source, target, component, overwrite)
    _check_trainable(chosen)
    changed = _by_stage(settings or {})
    steps = CACHED_STEPS if cache_steps is None else cache_steps
    with Progress(disable=calibrate is None) as bar:
        task = bar.add_task("drawing with each layer at few bits", total=1)
        config = choose_bits(
            chosen, bits, recipe, steps, calibrate, target.parent / MEASURED, lambda part: bar.advance(task, part)
        )
    by_layer = config.layer_bits(chosen.model)
    folder = training_folder(target)
    job = {
        "weights": [list(each) for each in chosen.stats], "data": data, "bits": by_layer, "cache_steps": steps,
        "settings": {name: value for name, value in (settings or {}).items() if name not in FREE},
    }  # fmt: skip
    _check_job(folder, job, target)
    Accelerator()  # meets the other processes
    on_main_process(lambda: (write_json(folder / BITS, by_layer), write_json(folder / JOB, job)))
    given = {"base": str(chosen.folder.place), "source": data}
    of_bits = {"bits": str(folder / BITS), "cache_steps": str(steps)}
    try:
        run("distill", PRESET, folder, overrides=given | of_bits | changed["distill"])
        model = run("finetune", PRESET, folder, overrides=given | changed["finetune"])
    except BaseException:
        if PartialState().is_main_process:  # the others may never come to wait for it
            _forget_unbegun(folder)
        raise
    inputs = {
        "source": chosen.named, "train": data, "bits": bits, "recipe": recipe and Path(recipe).name,
        "cache_steps": steps, "component": chosen.folder.component, "calibrate": calibrate and Path(calibrate).name,
        "settings": dict(settings or {}),
    }  # fmt: skip
    done: list[Quantization] = []
    record = folder / "finetune" / RECORD
    on_main_process(
        lambda: done.append(
            replace_model(chosen, model / "unet", target, inputs, perf_counter() - start, beside=(record,))
        )
    )
    return done[0] if done else None


def training_folder(target: Path) -> Path:
    """Where the training for a result goes on."""
    return target.with_name(f"{target.name}-training")


def _check_trainable(chosen: ChosenModel) -> None:
    """Refuses what the recipe could not load, or would not show all that its UNet is conditioned on."""
    folder, name = chosen.folder, chosen.folder.model_class.__name__
    found = f"{name}, {folder.component} of a {folder.loader}" if folder.is_pipeline else f"{name} without a pipeline"
    trained = issubclass(folder.model_class, UNet2DConditionModel) and folder.component == "unet"
    require(trained, "a model to train", found, "the UNet2DConditionModel of a pipeline like Stable Diffusion 1.5's")
    encoder = folder.index.get("text_encoder") or [None]
    require(encoder[-1] == "CLIPTextModel", "text_encoder of a pipeline to train", encoder[-1], "a CLIPTextModel")
    others = " and ".join(name for name in OTHER_CONDITIONS if folder.config.get(name) is not None)
    require(not others, "the conditions of a UNet to train", f"by its {others}", "a text alone")
    require(chosen.variant is None, "weights to train", f"of variant {chosen.variant!r} alone", "there without variant")


def _by_stage(settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The settings that each stage has; refuses one that neither has, and a value that does not fit."""
    known = {stage: {entry.name for entry in fields(STAGES[stage].presets[PRESET])} - BY_OPTIONS for stage in LEARNING}
    for name in settings:
        if not any(name in names for names in known.values()):
            raise unknown_name("setting of the training", name, sorted(set().union(*known.values())))
    own = {stage: {name: value for name, value in settings.items() if name in known[stage]} for stage in LEARNING}
    for stage in LEARNING:
        configure(STAGES[stage].presets, PRESET, overrides=own[stage])
    return own


def _check_job(folder: Path, job: dict[str, Any], target: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / JOB).is_file():
        raise FileExistsError(f"{folder} is already there and no training of {target.name}: choose another output.")
    found = read_json(folder / JOB, dict)
    other = [name for name, value in job.items() if found.get(name) != value]
    if other:
        raise ValueError(
            f"{folder} holds a training with other {' and '.join(other)}: remove it to begin anew, or choose another "
            "output."
        )


def _forget_unbegun(folder: Path) -> None:
    """Removes what stands beside stages of which none has left anything."""
    if not any((folder / stage).exists() for stage in LEARNING):
        shutil.rmtree(folder, ignore_errors=True)
