"""The chain of runs that made a model: what `training.json` holds, and whether its commands can be run again."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..pipelines.files import read_json

RECORD = "training.json"

TrainingRun = Mapping[str, Any]
"""One run of a stage. What is not known is null.

- `method`, `stage`, `preset`: of the recipe
- `command`: without --output; `EARLIER` stands for the folder of a model in `digest_in`
- `seed`, `data` in words, `settings`: every number that was used
- `seconds` of all steps, `hardware`, `date`, `versions` of the packages that decide a result
- `digest_in`: `weights_digest` of each model that the run began with, by what the recipe calls it; none of a run that
  began with new weights
- `digest_out`: that of the model it left; `parts`: those of the parts of the model
- `note`: what else is known of a run whose record was not written by the run itself
"""

KEYS = (
    "method", "stage", "preset", "command", "seed", "data", "settings", "seconds", "hardware", "date", "versions",
    "digest_in", "digest_out", "parts", "note",
)  # fmt: skip

DECISIVE = {
    "command": "the command of {}",
    "seed": "the seed of {}",
    "data": "the data of {}",
    "hardware": "the hardware of {}",
    "versions": "the package versions of {}",
    "digest_in": "the digest of what {} began with",
    "digest_out": "the digest of what {} left",
}
"""What must be known of a run for it to be done again, in words."""


def read_chain(path: Path) -> list[TrainingRun]:
    """The runs in a record, oldest first.

    Raises:
        FileNotFoundError: there is no record.
        ValueError: it is no list of runs, or a run lacks a key or has one too many.
    """
    runs = read_json(path, list)
    if not runs:
        raise ValueError(f"{path} must hold at least one run.")
    for number, run in enumerate(runs, 1):
        if not isinstance(run, dict):
            raise ValueError(f"{path}: run {number} must be a JSON object.")
        wrong = sorted(set(KEYS) ^ run.keys())
        if wrong:
            raise ValueError(f"{path}: run {number} must have exactly the keys {', '.join(KEYS)}; see {wrong[0]!r}.")
    return runs


def digests_left(run: TrainingRun) -> set[str]:
    """The digests of the model that a run left and of its parts, those that are known."""
    return {digest for digest in (run["digest_out"], *(run["parts"] or {}).values()) if digest is not None}


def gaps(runs: Sequence[TrainingRun]) -> list[str]:
    """What a chain of runs lacks for it to be done again, each in a few words; nothing if it can.

    It can if of every run everything in `DECISIVE` is known, and each began with models that earlier ones left.
    """
    found = []
    for key, words in DECISIVE.items():
        unknown = [number for number, run in enumerate(runs, 1) if not _known(run[key])]
        if unknown:
            found.append(words.format(_numbered(unknown, len(runs))))
    left: set[str] = set()
    for number, run in enumerate(runs, 1):
        for name, digest in (run["digest_in"] or {}).items():
            if digest is not None and digest not in left:
                found.append(f"the run that left what run {number} began with ({name})")
        left |= digests_left(run)
    return found


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, Mapping) and None in value.values())


def _numbered(numbers: Sequence[int], count: int) -> str:
    """Such as "run 3", "runs 1, 3 and 5 to 8" or "every run"."""
    if len(numbers) == count:
        return "every run" if count > 1 else "the run"
    spans = [list(group) for _, group in groupby(numbers, lambda number: number - numbers.index(number))]
    words = [word for span in spans for word in ([f"{span[0]} to {span[-1]}"] if len(span) > 2 else map(str, span))]
    return f"run{'s' * (len(numbers) > 1)} {listed(words)}"


def listed(words: Sequence[str]) -> str:
    """Such as "a", "a and b" or "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
