"""What made a model: a JSON file beside it, from which its card tells how to make it again."""

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from accelerate import PartialState

from .. import _CHECKPOINTS
from ..pipelines.files import sha256, write_json
from ..pipelines.fitting.run_folder import RunFolder
from ..pipelines.result_folder import hardware, installed_versions
from ..pipelines.weights import part_digests, weights_digest
from .preset import Preset
from .training_chain import RECORD, TrainingRun, digests_left, read_chain

EARLIER = "EARLIER"
"""Stands in a record for the folder of a model that an earlier run left: its digest says which it was."""

COMMITTED_RECORDS = _CHECKPOINTS.parents[1] / "model_cards" / "training"


@dataclass(frozen=True)
class Origin:
    """A model that a run begins with.

    Attributes:
        source: its folder or Hub id, or a file of weights.
        digest: `weights_digest` of the folder, sha256 of a file; None for a Hub id, which names weights but does not
            fix them, and for a folder without safetensors.
        runs: the chain that made it, as far as a record of it is at hand.
    """

    source: str
    digest: str | None = None
    runs: tuple[TrainingRun, ...] = ()

    @classmethod
    def of(cls, source: str | Path) -> Self:
        """Looks at the weights and for their record; one that cannot be read is warned of, and is none."""
        folder = Path(source)
        if folder.is_file():
            return cls(str(source), sha256(folder))
        if not folder.is_dir() or not any(folder.rglob("*.safetensors")):
            return cls(str(source))
        digest = weights_digest(folder)
        for record in records_near(folder):
            try:
                runs = read_chain(record) if record.is_file() else []
            except ValueError as error:
                warnings.warn(f"{error} The new record will not say how {source} was made.", stacklevel=2)
                continue
            if runs and digest in digests_left(runs[-1]):
                return cls(str(source), digest, tuple(runs))
        return cls(str(source), digest)


def records_near(folder: Path) -> list[Path]:
    """Where the record of a model may be: beside the model, which `folder` is or a part of it, or with its card."""
    folder = folder.resolve()
    found = [folder.parent / RECORD, folder.parent.parent / RECORD]
    if folder.is_relative_to(_CHECKPOINTS.resolve()):
        name = folder.relative_to(_CHECKPOINTS.resolve()).parts[0]
        found.append(COMMITTED_RECORDS / f"{name}.json")
    return found


def write_training_record(
    folder: str | Path,
    model: str | Path,
    slug: str,
    stage: str,
    preset: str,
    chosen: Preset,
    overrides: Mapping[str, Any] | None = None,
    origins: Mapping[str, Origin] | None = None,
    seconds: float = 0.0,
) -> Path:
    """Writes `training.json` into the folder of a run: the runs that made what it began with, then itself.

    Args:
        folder: what `train` got as output.
        model: the folder of the model that it left.
        slug, stage, preset: of the recipe.
        chosen: the preset with other values put in.
        overrides: those values by name, `seed` among them if it was given.
        origins: the models that the run began with, by what the recipe calls them.
        seconds: that a run without steps took; of others the steps are counted, however often they were interrupted.

    Returns:
        The file, a list of `TrainingRun`s.

    Raises:
        FileNotFoundError: the model has no weights.
        OSError: it cannot be written.
    """
    run, model, origins = RunFolder(folder), Path(model), origins or {}
    overrides, settings = (_without_places(values, origins) for values in (overrides or {}, asdict(chosen)))
    record = {
        "method": slug,
        "stage": stage,
        "preset": preset,
        "command": command(slug, stage, preset, overrides),
        "seed": chosen.seed,
        "data": data_of(chosen),
        "settings": settings,
        "seconds": round(seconds_of(run.metrics()) or seconds),
        "hardware": hardware(processes=PartialState().num_processes),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": installed_versions(),
        "digest_in": {name: origin.digest for name, origin in origins.items()},
        "digest_out": weights_digest(model),
        "parts": part_digests(model),
        "note": None,
    }
    chain = []
    for earlier in (*(run for origin in origins.values() for run in origin.runs), record):
        if earlier not in chain:
            chain.append(earlier)
    return write_json(run.path / RECORD, chain)


def command(slug: str, stage: str, preset: str, overrides: Mapping[str, Any]) -> str:
    """The command line, without the folder of its output."""
    words = ["pocket", "train", slug, "--stage", stage, "--preset", preset]
    for name, value in overrides.items():
        words += ["--seed", str(value)] if name == "seed" else ["--set", f"{name}={value}"]
    return shlex.join(words)


def data_of(chosen: Preset) -> str:
    """What a run learned from, in words."""
    if hasattr(chosen, "num_clips"):
        part = f"the first {chosen.num_clips:,} clips of " if chosen.source == "motionworld" else ""
        return f"{chosen.source}, {part}split {chosen.split}"
    part = f"the first {chosen.num_pictures:,} pictures of " if chosen.source == "pocketworld" else ""
    if hasattr(chosen, "scene"):
        part = f"scene {chosen.scene} of "
    return f"{chosen.source}, {part}split {chosen.split}, size {chosen.image_size}"


def seconds_of(metrics: Sequence[Mapping[str, Any]]) -> float:
    """How long the steps in metrics.jsonl took, whether or not the run was interrupted in between."""
    starts = [0, *(line["step"] for line in metrics)]
    return sum((line["step"] - start) / line["steps_per_second"] for start, line in zip(starts, metrics, strict=False))


def _without_places(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Settings with `EARLIER` for the folders and files of models, which are places of one machine."""
    folders = {(name, origin.source) for name, origin in origins.items() if origin.digest is not None}
    return {name: EARLIER if (name, value) in folders else value for name, value in values.items()}
