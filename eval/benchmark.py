"""A benchmark: measurements by name, their rows in one file, and runs that go on where they were broken off."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import Progress

from .. import _CHECKPOINTS, unknown_name
from ..pipelines import METHODS
from ..pipelines.files import read_json
from ..pipelines.library_chatter import silence_libraries
from ..pipelines.result_folder import hardware
from .intervals import wilson_interval
from .results import Row, advantage, update_rows, write_rows

BENCHMARKS = (*METHODS, "world")
"""What `pocket eval` can measure: every method, and the world that they learn from."""

CHECKPOINTS = _CHECKPOINTS
"""Folder of the committed weights."""

Settings = TypeVar("Settings")
Measure = Callable[[Settings, "Run"], Iterator[Row]]
"""A measurement: makes rows, and may put pictures and records of contenders where its run says."""


class MissingData(FileNotFoundError):
    """Real data that a measurement needs are not on this machine; its message says how to have them."""


@dataclass(frozen=True)
class Benchmark(Generic[Settings]):
    """What is claimed of a method, and how it is measured: `BENCHMARK` in `claims/<slug>/benchmark.py`.

    Attributes:
        slug: of the method, or "world".
        settings: how much is measured; those given here made the committed rows.
        measurements: by name, in the order in which they are made: speeds first, before caches and threads of others.
    """

    slug: str
    settings: Settings
    measurements: Mapping[str, Measure]

    def run(self, only: Sequence[str] | None, output: str | Path, settings: Settings | None = None) -> list[Row]:
        """Measure and write the rows to `output`/SLUG.json, each measurement's as soon as they are known.

        Rows that are there already and are not measured again stay, except after a whole run. The records of
        contenders stand in `output`/SLUG/, those that failed too. While a run lasts they are in
        `output`/.SLUG.partial/, where the next one finds what an interrupted run left, and does not measure it again.

        Args:
            only: names of some measurements; None or nothing takes all that have their data here.
            output: folder; made if need be.
            settings: how much is measured, if it is not `self.settings`.

        Returns:
            The rows that were measured.

        Raises:
            ValueError: an unknown measurement, or what a measurement raises.
            FileNotFoundError: a checkpoint, or data that `only` asks for, is missing.
            OSError: results that cannot be written.
        """
        for name in only or ():
            if name not in self.measurements:
                raise unknown_name("measurement", name, self.measurements)
        output, path = Path(output), Path(output) / f"{self.slug}.json"
        names = [name for name in self.measurements if not only or name in only]
        silence_libraries()
        rows, left_out = [], []
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=len(names))
            for name in names:
                progress.update(task, description=f"measuring {name}")
                try:
                    measured = self.measure(name, output, settings)
                except MissingData as error:
                    if only:
                        raise
                    left_out.append(name)
                    progress.console.print(f"Left out {name}: {error}")
                else:
                    update_rows(path, measured)
                    rows += measured
                progress.advance(task)
        if not only and not left_out:
            write_rows(path, rows)
        self._keep_records(output, names)
        return rows

    def measure(self, name: str, output: Path, settings: Settings | None = None) -> list[Row]:
        """The rows of one measurement; its pictures and records of contenders are written, the rows are not."""
        return list(self.measurements[name](settings or self.settings, Run(self, name, output)))

    def row(self, measurement: str, id: str, claim: str, **values: Any) -> Row:
        """A row; numbers keep six digits, `ratio` follows from measured and rival, `command` from the names.

        Size is nano, higher better, the hardware this machine and the date today unless `values` say otherwise.
        """
        today = datetime.now(UTC).date().isoformat()
        values = {"size": "nano", "better": "higher", "hardware": hardware(), "date": today, **values}
        for name in ("measured", "target", "rival_measured", "interval"):
            values[name] = _rounded(values.get(name))
        if values["rival_measured"] is not None:
            values["ratio"] = advantage(values["measured"], values["rival_measured"], values["better"])
        return Row(id=id, claim=claim, command=f"pocket eval {self.slug} --only {measurement}", **values)

    def failures(self, output: str | Path) -> list[str]:
        """A sentence for each contender that failed, out of the records in `output`/SLUG/."""
        return [
            f"{path.stem}: {one['name']} failed: {one['error']}"
            for path in sorted((Path(output) / self.slug).glob("*.json"))
            for one in read_json(path)["measurements"]
            if one.get("error") is not None
        ]

    def drafts(self, output: Path) -> Path:
        """Folder of the records of contenders while a run lasts."""
        return output / f".{self.slug}.partial"

    def _keep_records(self, output: Path, names: Sequence[str]) -> None:
        drafts, kept = self.drafts(output), output / self.slug
        for path in sorted(drafts.glob("*.json")):
            if path.stem.partition("-")[0] in names:
                kept.mkdir(exist_ok=True)
                path.replace(kept / path.name)
        if drafts.is_dir() and not any(drafts.iterdir()):
            drafts.rmdir()


@dataclass(frozen=True)
class Run:
    """One measurement at work: the command in its rows measures them again, and its files lie where they are found."""

    benchmark: Benchmark
    measurement: str
    output: Path

    def row(self, id: str, claim: str, **values: Any) -> Row:
        """See `Benchmark.row`."""
        return self.benchmark.row(self.measurement, id, claim, **values)

    def record_path(self, part: str | None = None) -> Path:
        """Where a record of contenders is written while the run lasts; `part` tells several records apart."""
        name = self.measurement if part is None else f"{self.measurement}-{part}"
        return self.benchmark.drafts(self.output) / f"{name}.json"

    def picture_path(self, name: str | None = None) -> Path:
        """`output`/SLUG-NAME.png, or without a name `output`/SLUG.png, the picture of the whole benchmark."""
        return self.output / f"{'-'.join(filter(None, (self.benchmark.slug, name)))}.png"


def find_benchmark(slug: str) -> Benchmark:
    """The benchmark of a method or of the world.

    Raises:
        ValueError: for another name, naming the nearest one.
    """
    if slug not in BENCHMARKS:
        raise unknown_name("method", slug, BENCHMARKS)
    return import_module(f".claims.{slug}.benchmark", __package__).BENCHMARK


def share(right: int, count: int) -> dict[str, Any]:
    """Values of a row that says how many of `count` were right, with Wilson's interval."""
    interval = wilson_interval(right, count)
    return {"measured": right / count, "unit": "share", "interval": interval, "n": count, "seed": 0}


def _rounded(value: float | tuple[float, float] | None) -> float | tuple[float, float] | None:
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    return None if value is None else float(f"{value:.6g}")
