"""What made a model: a JSON file beside it, from which its card tells how to make it again."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..pipelines.files import write_json
from ..pipelines.fitting.run_folder import RunFolder
from ..pipelines.result_folder import hardware, installed_versions
from .preset import Preset

RECORD = "training.json"


def write_training_record(
    folder: str | Path, slug: str, stage: str, preset: str, chosen: Preset, overrides: Mapping[str, Any] | None = None
) -> Path:
    """Writes `training.json` into the folder of a run.

    It holds `command` (without --output), `method`, `stage`, `preset`, `settings` (every number that was used),
    `seconds` (of all steps, interruptions left out), `hardware`, `date` and `versions`.

    Args:
        folder: what `train` got as output.
        slug, stage, preset: of the recipe.
        chosen: the preset with other values put in.
        overrides: those values by name, `seed` among them if it was given.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
    """
    run = RunFolder(folder)
    record = {
        "command": command(slug, stage, preset, overrides or {}),
        "method": slug,
        "stage": stage,
        "preset": preset,
        "settings": asdict(chosen),
        "seconds": round(seconds_of(run.metrics())),
        "hardware": hardware(processes=PartialState().num_processes),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": installed_versions(),
    }
    return write_json(run.path / RECORD, record)


def command(slug: str, stage: str, preset: str, overrides: Mapping[str, Any]) -> str:
    """The command line, without the folder of its output."""
    words = ["pocket", "train", slug, "--stage", stage, "--preset", preset]
    for name, value in overrides.items():
        words += ["--seed", str(value)] if name == "seed" else ["--set", f"{name}={value}"]
    return shlex.join(words)


def seconds_of(metrics: Sequence[Mapping[str, Any]]) -> float:
    """How long the steps in metrics.jsonl took, whether or not the run was interrupted in between."""
    starts = [0, *(line["step"] for line in metrics)]
    return sum((line["step"] - start) / line["steps_per_second"] for start, line in zip(starts, metrics, strict=False))
