"""The loss plot of a run."""

from pathlib import Path

from .. import missing_package
from ..pipelines.fitting.run_folder import RunFolder


def plot_losses(folder: RunFolder) -> Path | None:
    """Draws every loss in metrics.jsonl over the steps, into `loss.png`.

    Returns:
        the picture, or None while there are no metrics.

    Raises:
        ImportError: matplotlib is missing; names the extra that brings it.
        OSError: the picture could not be written.
    """
    figure_class = import_figure()
    records = folder.metrics()
    if not records:
        return None
    figure = figure_class(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for name in [name for name in records[0] if name.endswith("loss")]:
        points = [(record["step"], record[name]) for record in records if name in record]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
    if all(record[name] > 0 for record in records for name in record if name.endswith("loss")):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    target = folder.path / "loss.png"
    folder.write(target, lambda path: figure.savefig(path, format="png", dpi=100))
    return target


def import_figure() -> type:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("a plot", "matplotlib", "train") from error
    return Figure
