"""What a picture costs at full size: LightSpeed beside MobileR2L in ONNX Runtime, turn by turn, and by resolution."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.bars import draw_costs
from ...figures.lines import Line, draw_lines
from ...results import Row
from ...timing.contest import Contender
from ...timing.cost_rows import CostClaim, Costs, cost_rows, measure_costs, memory_panel, seconds_panel
from .graphs import FRONTAL, Frame, lightspeed_view, mobile_r2l_view, write_graph
from .settings import Settings

OURS, RIVAL = "LightSpeed", "MobileR2L"
VIEWS = {OURS: lightspeed_view, RIVAL: mobile_r2l_view}
FRAMES = {
    "frontal": FRONTAL,
    "object": Frame("paper", "8x", height=800, width=800),
}
MEMORY_GB = 1.0
GRAPH_BYTES = "graph_bytes"


def measure_latency(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds, memory and bytes of a picture of each size, beside MobileR2L; draws lightspeed.png."""
    import_figure()
    panels = []
    for name, frame in FRAMES.items():
        costs = frame_costs(settings, run, frame, name)
        yield from _frame_rows(run, name, frame, costs)
        panels.append(seconds_panel(f"{frame.width}x{frame.height}, milliseconds", costs, scale=1000))
    panels.append(memory_panel(costs))
    title = f"A picture in ONNX Runtime on the CPU, {settings.threads} threads"
    draw_costs(run.picture_path(), title, panels)


def measure_scaling(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds of a picture by its side, beside MobileR2L; draws lightspeed-scaling.png."""
    import_figure()
    found: dict[str, dict[int, float]] = {name: {} for name in VIEWS}
    for side in settings.sides:
        frame = replace(FRAMES["object"], height=side, width=side)
        costs = frame_costs(settings, run, frame, str(side))
        yield from cost_rows(run, costs, [
            CostClaim(
                id=f"scaling-{side}", quantity="seconds", rival=RIVAL,
                claim=f"{_what(OURS, frame)} takes so many seconds.",
            )
        ])  # fmt: skip
        for one in costs.found:
            if one.error is None:
                found[one.name][side] = one.median_seconds
    lines = [Line(name, list(seconds), list(seconds.values())) for name, seconds in found.items() if seconds]
    if lines:
        axes = ("side of the picture, pixels", "seconds")
        draw_lines(run.picture_path("scaling"), "Cost of a picture", axes, lines, log=(True, True))


def frame_costs(settings: Settings, run: Run, frame: Frame, part: str) -> Costs:
    """Both fields' graphs of a picture, timed turn by turn; the graphs lie in a folder for as long as that takes."""
    with TemporaryDirectory(prefix="pocket-graphs-") as scratch:
        contenders = []
        for name, view in VIEWS.items():
            graph = f"{name.lower()}.onnx"
            write_graph(view(frame), Path(scratch) / graph)
            contenders.append(
                Contender(
                    name=name, build=f"{__package__}.contenders:build_graph", folder=Path(scratch),
                    arguments={"graph": graph, "threads": settings.threads}, memory_gb=MEMORY_GB,
                )
            )  # fmt: skip
        return measure_costs(run, contenders, settings.repeats, settings.threads, part)


def _frame_rows(run: Run, name: str, frame: Frame, costs: Costs) -> Iterator[Row]:
    what = _what(OURS, frame)
    yield from cost_rows(run, costs, [
        CostClaim(
            id=f"latency-{name}", claim=f"{what} takes so many seconds.", quantity="seconds", rival=RIVAL,
        ),
        CostClaim(
            id=f"latency-{name}-speedup", quantity="speedup", rival=RIVAL,
            claim=f"{what} takes so many times less than by {RIVAL}, of 29 blocks and the same tail.",
        ),
        CostClaim(
            id=f"latency-{name}-mobiler2l", contender=RIVAL, quantity="seconds",
            claim=f"{_what(RIVAL, frame)} takes so many seconds.",
        ),
        CostClaim(
            id=f"latency-{name}-memory", quantity="memory", rival=RIVAL,
            claim=f"{what} is made in a process that holds at most so much memory.",
        ),
    ])  # fmt: skip
    ours, rival = (costs.of(one) for one in (OURS, RIVAL))
    failed = [f" {one.name} failed: {one.error.rstrip('.')}." for one in (ours, rival) if one.error is not None]
    sizes = [None if one.error else one.facts[GRAPH_BYTES] / 1e6 for one in (ours, rival)]
    yield run.row(
        f"latency-{name}-bytes", f"The graph of {what[0].lower()}{what[1:]} takes so many bytes.{''.join(failed)}",
        measured=sizes[0], unit="MB", better="lower", size="paper", hardware=None, rival=RIVAL,
        rival_measured=sizes[1], date=costs.date,
    )  # fmt: skip


def _what(name: str, frame: Frame) -> str:
    size = f"{frame.width}x{frame.height} pixels"
    preset = f"the preset {frame.preset} (one slab)" if name == OURS else f"its public code at {frame.tail}"
    return f"A picture of {size} by {name} at the size of {preset}, from pose to pixels in float32 by ONNX Runtime,"
