"""Result rows: one claim, what was published, what was measured here, and whether the target is met."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

from rich.table import Table

from ..pipelines.files import read_json, write_json

RESULTS = Path(__file__).with_name("results")
"""Folder of the committed results, `<slug>.json` each; only a benchmark writes there."""

Size = Literal["nano", "paper"]
Better = Literal["higher", "lower", "within"]
Target = float | tuple[float, float]
"""What `measured` must reach, or of a row that is better "within" a band its two ends."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured claim; None stands for what does not apply.

    Attributes:
        id: lower case words joined by hyphens, unique in its file.
        claim: what is claimed, in one sentence.
        size: of the model that was measured, "nano" or "paper".
        published: the paper's number, in `unit`.
        measured: ours, in `unit`; for several items their mean or share. None where it failed, and `claim` says why.
        unit: of `published`, `measured`, `target`, `rival_measured` and `interval`.
        better: whether "higher" or "lower" numbers are better, or those "within" the target's two ends.
        target: what `measured` must reach; a pair (low, high), both included, if `better` is "within".
        rival: what was measured beside it in the same run, and its number `rival_measured`.
        ratio: how many times better than the rival, `advantage(measured, rival_measured, better)`.
        interval: 95 % confidence interval (low, high) of `measured`.
        n: items that were measured.
        seed: of everything random in the measurement.
        hardware: see `pipelines.result_folder.hardware`.
        command: measures the row again.
        date: ISO date of the measurement, UTC.

    Raises:
        ValueError: for a value that its field does not allow.
    """

    id: str
    claim: str
    size: Size
    published: float | None = None
    measured: float | None
    unit: str
    better: Better
    target: Target | None = None
    rival: str | None = None
    rival_measured: float | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    seed: int | None = None
    hardware: str | None = None
    command: str
    date: str

    def __post_init__(self) -> None:
        for name in ("id", "claim", "unit", "command", "date"):
            _check(self, name, isinstance(getattr(self, name), str) and getattr(self, name).strip(), "a text")
        for name in ("rival", "hardware"):
            value = getattr(self, name)
            _check(self, name, value is None or (isinstance(value, str) and value.strip()), "a text or null")
        for name in ("published", "measured", "rival_measured", "ratio"):
            value = getattr(self, name)
            _check(self, name, value is None or _is_number(value), "a finite number or null")
        for name, least in (("n", 1), ("seed", 0)):
            value = getattr(self, name)
            allowed = value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least)
            _check(self, name, allowed, f"a whole number from {least} or null")
        _check(self, "id", re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id), "lower case words joined by hyphens")
        _check(self, "size", self.size in get_args(Size), "nano or paper")
        _check(self, "better", self.better in get_args(Better), "higher, lower or within")
        _check(self, "date", _is_date(self.date), "an ISO date such as 2025-01-31")
        told = self.measured is not None or "failed: " in self.claim
        _check(self, "measured", told, "a number, or null with the reason behind 'failed: ' in the claim")
        self._check_target()
        self._check_interval()
        self._check_rival()

    def _check_target(self) -> None:
        if self.better == "within":
            ordered = _is_pair(self.target) and self.target[0] <= self.target[1]
            _check(self, "target", ordered, "the two ends of a band, the lower one first")
        else:
            _check(self, "target", self.target is None or _is_number(self.target), "a finite number or null")

    def _check_interval(self) -> None:
        if self.interval is None:
            return
        known = self.measured is not None and _is_pair(self.interval)
        inside = known and self.interval[0] <= self.measured <= self.interval[1]
        _check(self, "interval", inside, f"two numbers around measured = {self.measured}, or null")

    def _check_rival(self) -> None:
        _check(self, "rival_measured", self.rival_measured is None or self.rival, "null without a rival")
        expected = None
        if self.rival_measured is not None:
            expected = advantage(self.measured, self.rival_measured, self.better)
        agrees = self.ratio == expected or (
            None not in (self.ratio, expected) and math.isclose(self.ratio, expected, rel_tol=1e-3)
        )
        _check(self, "ratio", agrees, f"{expected}, as measured and rival_measured make it")

    @property
    def passed(self) -> bool | None:
        """Whether `measured` meets `target`, which nothing that failed does; None without a target."""
        if self.target is None:
            return None
        if self.measured is None:
            return False
        if self.better == "within":
            return self.target[0] <= self.measured <= self.target[1]
        return self.measured >= self.target if self.better == "higher" else self.measured <= self.target

    @classmethod
    def from_record(cls, record: Any) -> "Row":
        """The row of a JSON object, which has exactly the fields of `Row` as keys.

        Raises:
            ValueError: for a missing or an unknown key, or a value that its field does not allow.
        """
        if not isinstance(record, dict):
            raise ValueError(f"a row is a JSON object, not {record!r}.")
        wrong = sorted(set(record) ^ {field.name for field in fields(cls)})
        if wrong:
            name, state = wrong[0], "unknown" if wrong[0] in record else "missing"
            keys = " ".join(field.name for field in fields(cls))
            raise ValueError(f"row {record.get('id')!r}: key {name!r} is {state}; the keys are exactly {keys}.")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in record.items()})

    def to_record(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def band(number: float, tolerance: float) -> tuple[float, float]:
    """The ends of a band around a number, as far away as this share of it: `band(200, 0.03)` is from 194 to 206."""
    return number * (1 - tolerance), number * (1 + tolerance)


def advantage(measured: float | None, rival: float, better: Better) -> float | None:
    """How many times better than the rival: above 1 is better, below 1 worse.

    None where nothing was measured, where a 0 makes it undefined, and within a band, where more is not better.
    """
    if measured is None or better == "within":
        return None
    one, other = (measured, rival) if better == "higher" else (rival, measured)
    return None if other == 0 else one / other


def read_rows(path: str | Path) -> list[Row]:
    """Read a file of rows.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON list of valid rows with different ids.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `pocket eval {path.stem}` writes it.")
    rows = [Row.from_record(record) for record in read_json(path, list)]
    _check_ids(rows)
    return rows


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Write a file of rows, whole or not at all; folders are made.

    Raises:
        ValueError: two rows have one id.
        OSError: the file cannot be written.
    """
    path = Path(path)
    _check_ids(rows)
    write_json(path, [row.to_record() for row in rows])


def update_rows(path: str | Path, rows: Iterable[Row]) -> list[Row]:
    """Put rows into a file, each in the place of the one with its id, new ones at the end; returns all rows."""
    path = Path(path)
    kept = {row.id: row for row in read_rows(path)} if path.is_file() else {}
    merged = list((kept | {row.id: row for row in rows}).values())
    write_rows(path, merged)
    return merged


def rows_table(rows: Iterable[Row]) -> Table:
    """The rows as a table for a terminal, readable at 80 columns."""
    table = Table("claim", show_lines=True)
    for name in ("measured", "target", "published", "met"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        published = "" if row.published is None else f"{row.published:.4g}"
        met = {None: "", True: "[green]yes[/]", False: "[bold red]NO[/]"}[row.passed]
        table.add_row(_claim_cell(row), _measured_cell(row), _target_cell(row), published, met)
    return table


def _claim_cell(row: Row) -> str:
    lines = [f"[bold]{row.id}[/] ({row.size})", row.claim]
    if row.rival_measured is not None:
        ratio = "" if row.ratio is None else f", ratio {row.ratio:.3g}"
        lines.append(f"[dim]{row.rival}: {row.rival_measured:.4g}{ratio}[/]")
    return "\n".join(lines)


def _measured_cell(row: Row) -> str:
    lines = ["failed" if row.measured is None else f"{row.measured:.4g}", f"[dim]{row.unit}[/]"]
    if row.interval is not None:
        lines.append(f"[dim]{row.interval[0]:.4g} to {row.interval[1]:.4g}[/]")
    return "\n".join(lines)


def _target_cell(row: Row) -> str:
    if row.target is None:
        return ""
    if row.better == "within":
        return f"{row.target[0]:.4g}\nto {row.target[1]:.4g}"
    return f"{'≥' if row.better == 'higher' else '≤'} {row.target:.4g}"


def _check(row: Row, name: str, allowed: Any, wanted: str) -> None:
    if not allowed:
        raise ValueError(f"row {row.id!r}: {name} must be {wanted}, not {getattr(row, name)!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_ids(rows: Sequence[Row]) -> None:
    ids = [row.id for row in rows]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"row id {twice!r} comes twice; ids must differ.")
