"""What every `claims/<slug>/benchmark.py` shares: measurements by name, their rows in one file, and runs that go on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress

from ..pipelines.files import read_json
from ..pipelines.library_chatter import silence_libraries
from ..pipelines.result_folder import hardware
from .results import Row, advantage, update_rows, write_rows

Settings = TypeVar("Settings")
Measure = Callable[[Settings, Path], Iterator[Row]]
"""A measurement: makes rows, and may put pictures and records of runs into the folder it is given."""


def run_measurements(
    slug: str,
    measurements: Mapping[str, Measure],
    only: Sequence[str] | None,
    output: str | Path,
    settings: Settings,
) -> list[Row]:
    """Measure and write the rows to `output`/SLUG.json, each measurement's as soon as they are known.

    Rows that are there already and are not measured again stay, except after a whole run. The records of contenders
    stand in `output`/SLUG/, those that failed too. While a run lasts they are in `output`/.SLUG.partial/, where the
    next one finds what an interrupted run left, and does not measure it again.

    Args:
        slug: of the method.
        measurements: by name, in the order in which they are made.
        only: names of some; None or nothing takes all.
        output: folder; made if need be.
        settings: given to the measurements.

    Returns:
        The rows that were measured.

    Raises:
        ValueError: an unknown measurement, or what a measurement raises.
        OSError: results that cannot be written.
    """
    output = Path(output)
    names, path = chosen(measurements, only), output / f"{slug}.json"
    silence_libraries()
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=f"measuring {name}")
            measured = list(measurements[name](settings, output))
            update_rows(path, measured)
            rows += measured
            progress.advance(task)
    if len(names) == len(measurements):
        write_rows(path, rows)
    _keep_records(output, slug, names)
    return rows


def chosen(measurements: Mapping[str, Any], only: Sequence[str] | None) -> list[str]:
    """The names of `measurements` that `only` asks for, in their order; all of them without `only`.

    Raises:
        ValueError: a name that is unknown.
    """
    for name in only or ():
        if name not in measurements:
            raise ValueError(f"only is {name!r}; it must be one of {', '.join(measurements)}.")
    return [name for name in measurements if not only or name in only]


def record_path(output: Path, slug: str, name: str) -> Path:
    """Where a measurement writes a record of contenders while it runs.

    `name` is the measurement's own, or that with a hyphen and more where it has several records.
    """
    return output / f".{slug}.partial" / f"{name}.json"


def failures(output: str | Path, slug: str) -> list[str]:
    """A sentence for each contender that failed, out of the records in `output`/SLUG/."""
    records = sorted((Path(output) / slug).glob("*.json"))
    return [
        f"{path.stem}: {one['name']} failed: {one['error']}"
        for path in records
        for one in read_json(path)["measurements"]
        if one["error"] is not None
    ]


def new_row(slug: str, measurement: str, id: str, claim: str, **values: Any) -> Row:
    """A row of today; numbers keep six digits, `ratio` follows from measured and rival, `command` from the names."""
    values = {"size": "nano", "better": "higher", "hardware": hardware(), **values}
    for name in ("measured", "target", "rival_measured"):
        values[name] = None if values.get(name) is None else _rounded(values[name])
    if values.get("interval") is not None:
        values["interval"] = tuple(map(_rounded, values["interval"]))
    if values["rival_measured"] is not None:
        values["ratio"] = advantage(values["measured"], values["rival_measured"], values["better"])
    today = datetime.now(UTC).date().isoformat()
    return Row(id=id, claim=claim, command=f"pocket eval {slug} --only {measurement}", date=today, **values)


def _keep_records(output: Path, slug: str, names: Sequence[str]) -> None:
    draft, kept = output / f".{slug}.partial", output / slug
    for path in sorted(draft.glob("*.json")):
        if path.stem.partition("-")[0] in names:
            kept.mkdir(exist_ok=True)
            path.replace(kept / path.name)
    if draft.is_dir() and not any(draft.iterdir()):
        draft.rmdir()


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")
