"""Bars of what contenders cost: a panel for each quantity, a bar for each contender."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...pipelines.files import whole_file
from ...training.plot import import_figure


@dataclass(frozen=True)
class Bar:
    """A contender in a panel.

    Attributes:
        name: of the contender.
        value: in the unit of the panel; None for a contender that failed.
        interval: 95 % interval around `value`, or None.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One quantity: `title` says which and in what unit; less is better."""

    title: str
    bars: Sequence[Bar]


def draw_costs(path: str | Path, title: str, panels: Sequence[Panel]) -> Path:
    """Draw panels side by side into a PNG; the first contender of each is drawn in the colour of ours.

    Args:
        path: of the PNG, which appears whole or not at all; its folder is made.
        title: above all panels.
        panels: at least one, each with at least one bar.

    Returns:
        `path`.

    Raises:
        ValueError: no panels, or one without bars.
        ModuleNotFoundError: matplotlib is missing.
        OSError: the picture cannot be written.
    """
    if not panels or not all(panel.bars for panel in panels):
        raise ValueError(f"panels is {panels!r}; needed is at least one panel, each with at least one bar.")
    height = 1.2 + 0.45 * max(len(panel.bars) for panel in panels)
    figure = import_figure()(figsize=(1 + 3.6 * len(panels), height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for number, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(1, len(panels), number + 1), panel, with_names=number == 0)
    with whole_file(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
    return Path(path)


def _draw_panel(axes, panel: Panel, with_names: bool) -> None:
    rows = range(len(panel.bars))
    values = [bar.value or 0.0 for bar in panel.bars]
    axes.barh(rows, values, color=["#d1495b"] + ["#8d99ae"] * (len(panel.bars) - 1), height=0.65)
    for row, bar in zip(rows, panel.bars, strict=True):
        if bar.interval is not None:
            axes.plot(bar.interval, (row, row), color="black", linewidth=1.2)
        edge = max((bar.value or 0.0, *(bar.interval or ())))
        text = "failed" if bar.value is None else f"{bar.value:.3g}" if bar.value < 100 else f"{bar.value:,.0f}"
        axes.annotate(text, (edge, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(rows, [bar.name for bar in panel.bars] if with_names else [""] * len(panel.bars), fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.set_title(panel.title, fontsize=9)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
