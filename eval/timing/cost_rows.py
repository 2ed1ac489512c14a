"""What contenders cost, as rows and as bars: seconds, memory, how many times faster, and how much a second."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...pipelines.result_folder import hardware
from ..benchmark import Run
from ..figures.bars import Bar, Panel
from ..results import Better, Row
from .contender_process import IMPORTS
from .contest import Contender, Measurement, run_contenders, speedup
from .record import record_date

EXACT: dict[str, Any] = {"size": "paper", "better": "lower", "hardware": None}
"""Of a row that counts parameters or operations at full size: the same on every machine."""

Quantity = Literal["seconds", "memory", "speedup", "slowdown", "memory share", "rate"]
_UNITS: dict[Quantity, tuple[str, Better]] = {
    "seconds": ("s", "lower"),
    "memory": ("MB", "lower"),
    "speedup": ("times", "higher"),
    "slowdown": ("times", "lower"),
    "memory share": ("times", "lower"),
    "rate": ("", "higher"),  # the unit is the claim's own
}


@dataclass(frozen=True)
class Costs:
    """What a contest found.

    Attributes:
        found: each contender's measurement, ours first; those that failed have an `error`.
        threads: of each contender.
        date: ISO date of the contest, UTC; of one that was broken off and went on, of its last call.
    """

    found: tuple[Measurement, ...]
    threads: int
    date: str

    def of(self, name: str) -> Measurement:
        """The measurement of the contender that is called so."""
        return next(one for one in self.found if one.name == name)


@dataclass(frozen=True, kw_only=True)
class CostClaim:
    """A row to be: what one contender costs, alone or beside a rival of the same contest.

    Attributes:
        id, claim, target: of the row.
        quantity: "seconds" or peak "memory" of a call; "speedup" over the rival as the median ratio of the rounds, or
            its inverse "slowdown"; "memory share", the peaks' ratio above what each held before it built anything
            (its fact `IMPORTS`); or the "rate" at which a call handles something.
        contender: whose cost it is; the first, ours, if left out.
        rival: its rival, by name.
        amount: that a call handles, for a rate.
        rate_unit: what that is, a second.
    """

    id: str
    claim: str
    quantity: Quantity
    contender: str | None = None
    rival: str | None = None
    target: float | None = None
    amount: float = 1
    rate_unit: str = "pictures/s"


def measure_costs(
    run: Run, contenders: Sequence[Contender], repeats: int, threads: int, part: str | None = None
) -> Costs:
    """Let contenders take turns (see `run_contenders`); `part` names their record among several of the measurement."""
    path = run.record_path(part)
    found = run_contenders(contenders, repeats, threads, path)
    return Costs(tuple(found), threads, record_date(path))


def cost_rows(run: Run, costs: Costs, claims: Iterable[CostClaim]) -> Iterator[Row]:
    """A row for each claim; what failed has no number there, and the row's claim says why."""
    for claim in claims:
        ours = costs.found[0] if claim.contender is None else costs.of(claim.contender)
        rival = None if claim.rival is None else costs.of(claim.rival)
        failed = [one for one in (ours, rival) if one is not None and one.error is not None]
        reasons = [f" {one.name} failed: {one.error.rstrip('.')}." for one in failed]
        yield run.row(
            claim.id, claim.claim + "".join(reasons), target=claim.target, size="paper", seed=0,
            hardware=hardware(costs.threads), date=costs.date, **_values(claim, ours, rival),
        )  # fmt: skip


def seconds_panel(title: str, costs: Costs, scale: float = 1.0) -> Panel:
    """Bars of a call's seconds times `scale`, with their intervals."""
    return Panel(title, [Bar(one.name, *_scaled(one, scale)) for one in costs.found])


def memory_panel(costs: Costs) -> Panel:
    """Bars of peak memory."""
    return Panel("peak memory, MB", [Bar(one.name, None if one.error else one.peak_memory_mb) for one in costs.found])


def _values(claim: CostClaim, ours: Measurement, rival: Measurement | None) -> dict[str, Any]:
    unit, better = _UNITS[claim.quantity]
    measured, interval = _level(claim, ours)
    values: dict[str, Any] = {"unit": unit or claim.rate_unit, "better": better}
    if rival is not None:
        values["rival"] = rival.name if rival.error is None else f"{rival.name}, which failed"
        if claim.quantity in _RATIOS:
            measured, interval = (None, None) if ours.error or rival.error else _RATIOS[claim.quantity](ours, rival)
        else:
            values["rival_measured"] = _level(claim, rival)[0]
    calls = None if measured is None else 1 if "memory" in claim.quantity else len(ours.seconds)
    return {**values, "measured": measured, "interval": interval, "n": calls}


def _memory_share(ours: Measurement, rival: Measurement) -> tuple[float, None]:
    above = [one.peak_memory_mb - one.facts[IMPORTS] for one in (ours, rival)]
    return above[0] / above[1], None


_RATIOS: dict[Quantity, Callable[[Measurement, Measurement], tuple[float, tuple[float, float] | None]]] = {
    "speedup": speedup,
    "slowdown": lambda ours, rival: speedup(rival, ours),
    "memory share": _memory_share,
}


def _level(claim: CostClaim, one: Measurement) -> tuple[float | None, tuple[float, float] | None]:
    """What a contender takes by itself, with its interval; nothing of one that failed."""
    if one.error is not None:
        return None, None
    if claim.quantity == "memory":
        return one.peak_memory_mb, None
    if claim.quantity == "rate":
        interval = one.interval and tuple(claim.amount / seconds for seconds in reversed(one.interval))
        return claim.amount / one.median_seconds, interval
    return one.median_seconds, one.interval


def _scaled(one: Measurement, scale: float) -> tuple[float | None, tuple[float, float] | None]:
    if one.error:
        return None, None
    return scale * one.median_seconds, one.interval and tuple(scale * seconds for seconds in one.interval)
