"""What contenders cost, as rows and as bars: seconds, memory, how many times faster, and how much a second."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...pipelines.result_folder import hardware
from ..benchmark import Run
from ..figures.bars import Bar, Panel
from ..results import Row
from .contest import Contender, Measurement, run_contenders, speedup

EXACT: dict[str, Any] = {"size": "paper", "better": "lower", "hardware": None}
"""Of a row that counts parameters or operations at full size: the same on every machine."""

Quantity = Literal["seconds", "memory", "speedup", "rate"]


@dataclass(frozen=True)
class Costs:
    """What a contest found.

    Attributes:
        found: each contender's measurement, ours first; those that failed have an `error`.
        threads: of each contender.
    """

    found: tuple[Measurement, ...]
    threads: int

    def of(self, name: str) -> Measurement:
        """The measurement of the contender that is called so."""
        return next(one for one in self.found if one.name == name)


@dataclass(frozen=True, kw_only=True)
class CostClaim:
    """A row to be: what one contender costs, alone or beside a rival of the same contest.

    Attributes:
        id, claim, target: of the row.
        quantity: "seconds" or peak "memory" of a call, "speedup" over the rival as the median ratio of the rounds, or
            the "rate" of pictures a second.
        contender: whose cost it is; the first, ours, if left out.
        rival: its rival, by name.
        pictures: that a call handles, for a rate.
    """

    id: str
    claim: str
    quantity: Quantity
    contender: str | None = None
    rival: str | None = None
    target: float | None = None
    pictures: int = 1


def measure_costs(
    run: Run, contenders: Sequence[Contender], repeats: int, threads: int, part: str | None = None
) -> Costs:
    """Let contenders take turns (see `run_contenders`); `part` names their record among several of the measurement."""
    return Costs(tuple(run_contenders(contenders, repeats, threads, run.record_path(part))), threads)


def cost_rows(run: Run, costs: Costs, claims: Iterable[CostClaim]) -> Iterator[Row]:
    """A row for each claim.

    A rival that failed is named as such, without a number; a speed-up over it has no row. Of ours that failed a rate
    is 0 and says why.

    Raises:
        ValueError: ours failed, and its seconds, memory or speed-up are claimed.
    """
    for claim in claims:
        ours = costs.found[0] if claim.contender is None else costs.of(claim.contender)
        rival = None if claim.rival is None else costs.of(claim.rival)
        if ours.error is not None and claim.quantity != "rate":
            raise ValueError(f"{ours.name} could not be measured for {claim.id}: {ours.error}")
        if claim.quantity == "speedup" and rival.error is not None:
            continue
        failure = f" It failed: {ours.error.rstrip('.')}." if ours.error else ""
        yield run.row(
            claim.id, claim.claim + failure, target=claim.target, size="paper", seed=0,
            hardware=hardware(costs.threads), **_values(claim, ours, rival),
        )  # fmt: skip


def seconds_panel(title: str, costs: Costs, scale: float = 1.0) -> Panel:
    """Bars of a call's seconds times `scale`, with their intervals."""
    return Panel(title, [Bar(one.name, *_scaled(one, scale)) for one in costs.found])


def memory_panel(costs: Costs) -> Panel:
    """Bars of peak memory."""
    return Panel("peak memory, MB", [Bar(one.name, None if one.error else one.peak_memory_mb) for one in costs.found])


def _values(claim: CostClaim, ours: Measurement, rival: Measurement | None) -> dict[str, Any]:
    if claim.quantity == "speedup":
        times, interval = speedup(ours, rival)
        return {"measured": times, "interval": interval, "unit": "times", "n": len(ours.seconds), "rival": rival.name}
    beside = {"rival": None, "rival_measured": None}
    if rival is not None:
        beside["rival"] = rival.name if rival.error is None else f"{rival.name}, which failed"
        beside["rival_measured"] = None if rival.error else _level(claim, rival)
    values = {"measured": 0.0 if ours.error else _level(claim, ours), **beside}
    if claim.quantity == "memory":
        return {**values, "unit": "MB", "better": "lower", "n": 1}
    if claim.quantity == "seconds":
        return {**values, "interval": ours.interval, "unit": "s", "better": "lower", "n": len(ours.seconds)}
    if not ours.error and ours.interval is not None:
        values["interval"] = tuple(claim.pictures / seconds for seconds in reversed(ours.interval))
    return {**values, "unit": "pictures/s", "n": max(1, len(ours.seconds))}


def _level(claim: CostClaim, one: Measurement) -> float:
    if claim.quantity == "memory":
        return one.peak_memory_mb
    return claim.pictures / one.median_seconds if claim.quantity == "rate" else one.median_seconds


def _scaled(one: Measurement, scale: float) -> tuple[float | None, tuple[float, float] | None]:
    if one.error:
        return None, None
    return scale * one.median_seconds, one.interval and tuple(scale * seconds for seconds in one.interval)
