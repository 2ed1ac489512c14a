"""What a clip costs at the paper's size: seconds of ControlMM beside motion diffusion, by batch and by length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.bars import draw_costs
from ...figures.lines import Chart, Line, draw_charts
from ...results import Row
from ...timing.contest import Contender, Measurement
from ...timing.cost_rows import CostClaim, Costs, cost_rows, measure_costs, memory_panel, seconds_panel
from .diffusion_networks import FEW_GRADIENTS, LAST_STEPS, MANY_GRADIENTS, STEPS
from .settings import Settings

BUILDERS = f"{__package__}.contenders"
MEMORY_GB = 2.0
PRESETS = ("fast", "balanced", "accurate")
FREE = "text alone"


@dataclass(frozen=True)
class Phase:
    """Steps of a diffusion that cost alike."""

    network: str
    steps: int
    gradients: int

    @property
    def name(self) -> str:
        """Of the contender that takes some of these steps."""
        return f"{self.network}, {self.gradients} gradients a step"


DIFFUSIONS = {
    "MDM, 1,000 steps": (Phase("mdm", STEPS, 0),),
    "OmniControl, 1,000 steps": (
        Phase("omnicontrol", STEPS - LAST_STEPS, FEW_GRADIENTS),
        Phase("omnicontrol", LAST_STEPS, MANY_GRADIENTS),
    ),
    "MDM, 50 steps": (Phase("mdm", 50, 0),),
}
MDM, OMNICONTROL, FEW_STEPS = DIFFUSIONS
TARGETS = {("fast", MDM): 20.0, ("fast", OMNICONTROL): 20.0, ("accurate", MDM): 1.0, ("accurate", OMNICONTROL): 1.0}
PUBLISHED = {
    "speedup-fast-omnicontrol-1000-steps": 87.33 / 4.94,
    "speedup-accurate-omnicontrol-1000-steps": 87.33 / 71.72,
    "speedup-fast-mdm-1000-steps": 10.14 / 4.94,
}
"""By the seconds a batch on the authors' page, which names neither the machine nor the batch."""


def measure_speed(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds of a clip by each preset, beside MDM and OmniControl; draws controlmm.png."""
    import_figure()
    shape = {"batch": 1, "length": settings.length}
    phases = {phase.name: phase for phases in DIFFUSIONS.values() for phase in phases}.values()
    costs = measure_costs(
        run,
        [*(ours(settings, name, shape) for name in (*PRESETS, FREE)),
         *(timed_phase(settings, phase, shape) for phase in phases)],
        settings.repeats, settings.threads,
    )  # fmt: skip
    mine = tuple(costs.of(name) for name in (*PRESETS, FREE))
    costs = replace(costs, found=(*mine, *(whole(settings, costs, name) for name in DIFFUSIONS)))
    for row in cost_rows(run, costs, speed_claims(settings)):
        yield replace(row, published=PUBLISHED.get(row.id))
    title = f"A clip of {settings.length} frames on the CPU, {settings.threads} threads"
    draw_costs(run.picture_path(), title, [seconds_panel("seconds", costs), memory_panel(costs)])


def speed_claims(settings: Settings) -> list[CostClaim]:
    """Seconds of each contender, and each of ours beside each diffusion."""
    clip = f"A clip of {settings.length} frames on the CPU, networks of the paper's size with random weights,"
    reckoned = reckoned_from(settings)
    claims = []
    for name in (*PRESETS, FREE):
        how = "from text alone" if name == FREE else f"with its pelvis controlled, by the preset {name},"
        claims.append(
            CostClaim(
                id=f"seconds-{slug(name)}", claim=f"{clip} {how} takes so many seconds.", quantity="seconds",
                contender=name,
            )
        )  # fmt: skip
        claims += [
            CostClaim(
                id=f"speedup-{slug(name)}-{slug(rival)}", contender=name, rival=rival, quantity="speedup",
                target=TARGETS.get((name, rival)),
                claim=f"{clip} {how} takes so many times less than motion diffusion of that size, {rival}; {reckoned}.",
            )
            for rival in DIFFUSIONS
        ]  # fmt: skip
    claims += [
        CostClaim(
            id=f"seconds-{slug(name)}", contender=name, quantity="seconds",
            claim=f"{clip} takes so many seconds by motion diffusion of that size, {name}; {reckoned}.",
        )
        for name in DIFFUSIONS
    ]  # fmt: skip
    return [
        *claims,
        CostClaim(
            id="memory-accurate", claim=f"{clip} by the preset accurate takes so much memory.", quantity="memory",
            contender="accurate", rival=OMNICONTROL,
        ),
    ]  # fmt: skip


def measure_scaling(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds a clip against the clips at once and against their length; draws controlmm-scaling.png."""
    import_figure()
    charts, reckoned = [], reckoned_from(settings)
    for part, axis, values, shapes in (
        ("batch", "clips at once", settings.batches,
         [{"batch": count, "length": settings.length} for count in settings.batches]),
        ("length", "frames of a clip", settings.lengths,
         [{"batch": 1, "length": length} for length in settings.lengths]),
    ):  # fmt: skip
        found: dict[str, list[tuple[int, Measurement]]] = {"fast": [], MDM: []}
        for value, shape in zip(values, shapes, strict=True):
            costs = measure_costs(
                run, [ours(settings, "fast", shape), timed_phase(settings, DIFFUSIONS[MDM][0], shape)],
                settings.repeats, settings.threads, f"{part}-{value}",
            )  # fmt: skip
            each = [costs.of("fast"), whole(settings, costs, MDM)]
            costs = replace(costs, found=tuple(scaled(one, 1 / shape["batch"]) for one in each))
            for one in costs.found:
                found[one.name].append((value, one))
            yield from cost_rows(run, costs, [
                CostClaim(
                    id=f"scaling-{part}-{value}", quantity="seconds", rival=MDM,
                    claim=f"Seconds a clip on the CPU, the pelvis controlled by the preset fast, {shape['batch']} "
                    f"at once of {shape['length']} frames, beside MDM of 1,000 steps; {reckoned}.",
                )
            ])  # fmt: skip
        lines = [line for name, points in found.items() if (line := line_of(name, points)) is not None]
        if lines:
            charts.append(Chart("Cost of a clip", (axis, "seconds a clip"), lines, log=(True, True)))
    if charts:
        draw_charts(run.picture_path("scaling"), charts)


def ours(settings: Settings, name: str, shape: dict[str, int]) -> Contender:
    """ControlMM by a preset, or from text alone."""
    asked = {"model": settings.model, "optimization": None if name == FREE else name}
    return Contender(
        name=name, build=f"{BUILDERS}:build_controlmm", arguments={**asked, **shape}, memory_gb=MEMORY_GB
    )  # fmt: skip


def timed_phase(settings: Settings, phase: Phase, shape: dict[str, int]) -> Contender:
    """A few steps of a diffusion."""
    asked: dict[str, Any] = {
        "network": phase.network, "steps": timed_steps(settings, phase), "gradients": phase.gradients,
    }  # fmt: skip
    return Contender(
        name=phase.name, build=f"{BUILDERS}:build_diffusion", arguments={**asked, **shape}, memory_gb=MEMORY_GB
    )  # fmt: skip


def timed_steps(settings: Settings, phase: Phase) -> int:
    """A single step where each takes hundreds of gradients."""
    return 1 if phase.gradients == MANY_GRADIENTS else settings.timed_steps


def whole(settings: Settings, costs: Costs, name: str) -> Measurement:
    """What a diffusion takes for all its steps, by what some of each phase took in the same rounds."""
    phases = DIFFUSIONS[name]
    parts = [costs.of(phase.name) for phase in phases]
    times = [phase.steps / timed_steps(settings, phase) for phase in phases]
    error = next((one.error for one in parts if one.error is not None), None)
    if error is not None:
        return replace(parts[0], name=name, seconds=(), error=error)
    rounds = zip(*(scaled(one, factor).seconds for one, factor in zip(parts, times, strict=True)), strict=True)
    peak = max(one.peak_memory_mb for one in parts)
    return replace(parts[0], name=name, seconds=tuple(map(sum, rounds)), peak_memory_mb=peak)


def scaled(one: Measurement, factor: float) -> Measurement:
    """A measurement as if each call took so many times as long."""
    return replace(one, seconds=tuple(factor * seconds for seconds in one.seconds))


def reckoned_from(settings: Settings) -> str:
    """How the seconds of a diffusion are known."""
    return (
        f"the diffusion's seconds are reckoned from {settings.timed_steps} of its steps, as all cost alike, and of the "
        f"last {LAST_STEPS} of OmniControl, with {MANY_GRADIENTS} gradients each, from one"
    )


def line_of(name: str, points: Sequence[tuple[int, Measurement]]) -> Line | None:
    """The points that did not fail, if any."""
    kept = [(value, one.median_seconds) for value, one in points if one.error is None]
    return Line(name, *zip(*kept, strict=True)) if kept else None


def slug(name: str) -> str:
    """A contender's name as a part of ids."""
    return name.lower().replace(",", "").replace(" ", "-")
