"""How a user's own weights were trained: out of the record that `pocket train` left with them, and of nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pipelines.files import read_json, sha256
from ..training.training_record import RECORD
from .machine_places import without_places
from .own_weights import OwnWeights
from .plain_files import refuse_links

Run = Mapping[str, Any]

NO_RECORD = "No record of `pocket train` lies with these weights, so nothing is said here."


def own_record(own: OwnWeights) -> Path | None:
    """The record in a folder, or beside it where it is the `model` of a training."""
    folder = own.folder.resolve()
    paths = [own.folder / RECORD, *([folder.parent / RECORD] if folder.name == "model" else [])]
    return next((path for path in paths if path.is_file()), None)


def read_own_training(own: OwnWeights) -> list[Run]:
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
    content = read_json(path)
    runs = content if isinstance(content, list) else [content]
    if not runs or not all(isinstance(run, dict) and {"command", "stage"} <= run.keys() for run in runs):
        raise ValueError(f"{path} is no record of `pocket train`: take it away, or call it otherwise.")
    left = runs[-1].get("digest_out")
    if left is not None and left != _digest(own):
        raise ValueError(f"{path} describes other weights than those in {own.folder}: take it away.")
    return without_places(runs)


def training_text(runs: Sequence[Run]) -> str:
    """A Markdown table of runs and their commands; a sentence where there are none."""
    if not runs:
        return NO_RECORD
    lines = ["| run | stage | preset | steps | seed | hardware | time |", "|---" * 7 + "|"]
    lines += [f"| {number} | {' | '.join(map(_text, _cells(run)))} |" for number, run in enumerate(runs, 1)]
    commands = "\n".join(run["command"] for run in runs if run["command"])
    return "\n".join([f"As `{RECORD}` records it:", "", *lines, "", "```bash", commands, "```"])


def _cells(run: Run) -> tuple[Any, ...]:
    settings, seconds = run.get("settings") or {}, run.get("seconds")
    time = None if seconds is None else f"{seconds:,.0f} s"
    seed = run.get("seed", settings.get("seed"))
    return run["stage"], run.get("preset"), settings.get("steps"), seed, run.get("hardware"), time


def _text(cell: Any) -> str:
    return "not known" if cell is None else str(cell).replace("|", "/")


def _digest(own: OwnWeights) -> str:
    """What a run calls the digest of the weights that it left."""
    total = hashlib.sha256()
    for path in sorted(path for files in own.weights().values() for path in files):
        total.update(f"{path.relative_to(own.folder).as_posix()} {sha256(path)}\n".encode())
    return total.hexdigest()
