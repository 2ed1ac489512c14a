"""How weights were trained, as a card says it: out of the record that the runs wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..training.training_chain import TrainingRun, gaps, listed, read_chain

UNKNOWN = "not known"

REPLAYABLE = (
    "The commands below make these weights again: on the same machine and with the same versions, the same seed gives "
    "the same weights."
)

UNREPEATABLE = "These weights cannot be made again exactly"


def read_training(path: Path, digest: str) -> dict[str, str]:
    """How weights were trained.

    The last run must have left the weights themselves, so that a record cannot outlive them.

    Args:
        path: the record of their chain of runs.
        digest: `weights_digest` of the weights.

    Returns:
        `replay`, whether the commands make these weights again, and if not, why; `table`, a line a run; `commands`, a
        line each.

    Raises:
        FileNotFoundError: when there is no record.
        ValueError: when it is no chain of runs, or describes other weights.
    """
    runs = read_chain(path)
    if runs[-1]["digest_out"] != digest:
        raise ValueError(
            f"{path} describes other weights than those here, whose digest is {digest}: put the training.json of the "
            "run that left them in its place."
        )
    commands = [run["command"] for run in runs if run["command"] is not None]
    return {"replay": replay_of(runs), "table": table_of(runs), "commands": "\n".join(commands)}


def replay_of(runs: Sequence[TrainingRun]) -> str:
    """One paragraph: that the runs can be done again, or that they cannot and what of them is not known."""
    found = gaps(runs)
    if not found:
        return REPLAYABLE
    return f"**{UNREPEATABLE}** until they are retrained: their record lacks {listed(found)}."


def table_of(runs: Sequence[TrainingRun]) -> str:
    """A Markdown table of the runs."""
    lines = ["| run | stage | what it learned | data | seed | hardware | time | sha256 |", "|---" * 8 + "|"]
    for number, run in enumerate(runs, 1):
        cells = (
            number, _text(run["stage"]), _learned(run), _text(run["data"]), _text(run["seed"]),
            _text(run["hardware"]), _time(run["seconds"]), _short(run["digest_out"]),
        )  # fmt: skip
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _learned(run: TrainingRun) -> str:
    settings = run["settings"] or {}
    steps, batch = settings.get("steps"), settings.get("batch_size")
    told = [f"{steps:,} steps" + (f" of {batch}" if batch else "")] if steps else []
    return "; ".join([*told, *([run["note"]] if run["note"] else [])]) or UNKNOWN


def _text(value: Any) -> str:
    return UNKNOWN if value is None else str(value)


def _time(seconds: int | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds} s"


def _short(digest: str | None) -> str:
    return UNKNOWN if digest is None else f"`{digest[:12]}`"
