"""Lines through measured points: how a quantity grows with another, a line for each contender."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...pipelines.files import whole_file
from ...training.plot import import_figure

OURS, RIVALS = "#d1495b", ("#2e4057", "#66a182", "#edae49", "#8d99ae", "#6c4f77", "#3a86c8")


@dataclass(frozen=True)
class Line:
    """The points of a contender.

    Attributes:
        name: of the contender.
        x, y: of each point, in the units of the axes.
        intervals: 95 % interval around each y, or None where none are known.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class Chart:
    """Lines of one pair of quantities.

    Attributes:
        title: above them.
        axes_names: what x and y are, with their units.
        lines: at least one, each with at least one point and as many x as y (and intervals); the first is drawn in the
            colour of ours.
        log: whether each axis is logarithmic; x then has its ticks at the points of the first line.
    """

    title: str
    axes_names: tuple[str, str]
    lines: Sequence[Line]
    log: tuple[bool, bool] = (False, False)


def draw_lines(
    path: str | Path,
    title: str,
    axes_names: tuple[str, str],
    lines: Sequence[Line],
    log: tuple[bool, bool] = (False, False),
) -> Path:
    """Draw one `Chart` into a PNG, as `draw_charts` does."""
    return draw_charts(path, [Chart(title, axes_names, lines, log)])


def draw_charts(path: str | Path, charts: Sequence[Chart]) -> Path:
    """Draw charts side by side into a PNG.

    Args:
        path: of the PNG, which appears whole or not at all; its folder is made.
        charts: at least one.

    Returns:
        `path`.

    Raises:
        ValueError: no charts or no lines, or a line without points or with another number of x than of y.
        ModuleNotFoundError: matplotlib is missing.
        OSError: the picture cannot be written.
    """
    if not charts or not all(chart.lines for chart in charts):
        raise ValueError("charts or lines are empty; needed is at least one of each.")
    for line in (line for chart in charts for line in chart.lines):
        counts = {len(line.x), len(line.y), len(line.x if line.intervals is None else line.intervals)}
        if len(counts) > 1 or not line.x:
            raise ValueError(f"line {line.name!r} has {len(line.x)} x and {len(line.y)} y; needed are as many, some.")
    figure = import_figure()(figsize=(6.4 * len(charts), 4.2), layout="constrained")
    for number, chart in enumerate(charts):
        _draw_chart(figure.add_subplot(1, len(charts), number + 1), chart)
    with whole_file(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
    return Path(path)


def _draw_chart(axes, chart: Chart) -> None:
    axes.set_title(chart.title, fontsize=10)
    for number, line in enumerate(chart.lines):
        _draw_line(axes, line, OURS if number == 0 else RIVALS[(number - 1) % len(RIVALS)])
    for axis, name, logarithmic in zip("xy", chart.axes_names, chart.log, strict=True):
        getattr(axes, f"set_{axis}label")(name, fontsize=9)
        if logarithmic:
            getattr(axes, f"set_{axis}scale")("log")
            _tick_plainly(getattr(axes, f"{axis}axis"))
    if chart.log[0]:
        axes.set_xticks(chart.lines[0].x, [f"{x:g}" for x in chart.lines[0].x])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _tick_plainly(axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, 20..., written without powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _draw_line(axes, line: Line, color: str) -> None:
    axes.plot(line.x, line.y, color=color, marker="o", markersize=4, linewidth=1.4, label=line.name)
    if line.intervals is not None:
        low, high = zip(*line.intervals, strict=True)
        axes.fill_between(line.x, low, high, color=color, alpha=0.15, linewidth=0)
