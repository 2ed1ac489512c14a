"""How a user's own weights were trained: out of the record that `pocket train` left with them, and of nothing else."""

from collections.abc import Sequence
from pathlib import Path

from ..pipelines.weights import weights_digest
from ..training.training_chain import RECORD, TrainingRun, read_chain
from .machine_places import without_places
from .own_weights import OwnWeights
from .plain_files import refuse_links
from .training_facts import replay_of, table_of

NO_RECORD = "No record of `pocket train` lies with these weights, so nothing is said here."


def own_record(own: OwnWeights) -> Path | None:
    """The record in a folder, or beside it where it is the `model` of a training."""
    folder = own.folder.resolve()
    paths = [own.folder / RECORD, *([folder.parent / RECORD] if folder.name == "model" else [])]
    return next((path for path in paths if path.is_file()), None)


def read_own_training(own: OwnWeights) -> list[TrainingRun]:
    """The runs that made weights, oldest first, with the last name alone of every place on this machine.

    Returns:
        The runs; none where there is no record.

    Raises:
        ValueError: when it is a link or no record of `pocket train`, or its last run left other weights than these.
    """
    path = own_record(own)
    if path is None:
        return []
    refuse_links(path)
    runs = read_chain(path)
    if runs[-1]["digest_out"] != weights_digest(
        own.folder, [file for files in own.weights().values() for file in files]
    ):
        raise ValueError(f"{path} describes other weights than those in {own.folder}: take it away.")
    return without_places(runs)


def training_text(runs: Sequence[TrainingRun]) -> str:
    """A Markdown table of runs, whether they can be done again, and their commands; a sentence if there are none."""
    if not runs:
        return NO_RECORD
    commands = "\n".join(run["command"] for run in runs if run["command"])
    parts = [f"As `{RECORD}` records it:", "", table_of(runs), "", replay_of(runs), "", "```bash", commands, "```"]
    return "\n".join(parts)
