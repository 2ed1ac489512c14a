"""How well AsCAN's nano models see: real handwriting, and the objects of PocketWorld, clean and degraded."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from ....pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from ....training.datasets.digits import load_digits
from ....training.objectives.degradation import degrade
from ...benchmark import Run, share
from ...drawing import load_committed
from ...instruments.judge import JUDGE
from ...intervals import bootstrap_interval
from ...results import Row
from ...scores.instance_f1 import InstanceCounts, count_all, ground_truth
from ...scores.retrieval import to_pictures, world_records
from .settings import Settings

DIGITS = "ascan-nano-digits"
NEIGHBOURS = 3
DEGRADATION_SEED, DEGRADATION_CHANCE = 0, 0.5
TARGETS = {"clean": (0.99, 0.995), "degraded": (0.95, 0.97)}  # instance F1, share of right colours


def measure_digits(settings: Settings, run: Run) -> Iterator[Row]:
    """Held-out accuracy on scikit-learn's digits; beside it, nearest neighbours among the same training digits."""
    right, digits = count_read(load_committed("ascan", settings.checkpoints / DIGITS))
    yield run.row(
        "digits-accuracy", "The nano classifier reads handwritten digits that it never saw in training.",
        target=0.985, **share(right, digits),
        rival=f"{NEIGHBOURS} nearest neighbours of scikit-learn, same split", rival_measured=neighbours_accuracy(),
    )  # fmt: skip


def count_read(pipeline: AsCANImageClassificationPipeline) -> tuple[int, int]:
    """Held-out digits that the pipeline reads, and all held-out digits."""
    data = load_digits("test")
    named = pipeline((data.pictures / 2 + 0.5).clamp(0, 1), top_k=1).labels
    right = sum(name == data.names[label] for (name,), label in zip(named, data.labels.tolist(), strict=True))
    return right, len(data)


def neighbours_accuracy() -> float:
    """Share of test digits that the nearest training digits name.

    Raises:
        ModuleNotFoundError: scikit-learn is missing (extra eval).
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, test = load_digits("train"), load_digits("test")
    neighbours = KNeighborsClassifier(NEIGHBOURS).fit(train.pictures.flatten(1).numpy(), train.labels.numpy())
    return float(neighbours.score(test.pictures.flatten(1).numpy(), test.labels.numpy()))


def measure_judge(settings: Settings, run: Run) -> Iterator[Row]:
    """Instance F1 and colours of the judge on test pictures, clean and as generators and networks spoil them."""
    judge = load_committed("ascan", settings.checkpoints / JUDGE)
    records = list(islice(world_records("test", settings.picture_size), settings.judged_pictures))
    truth, pictures = list(map(ground_truth, records)), to_pictures(records)
    shown = {
        "clean": pictures,
        "degraded": degrade(pictures, torch.Generator().manual_seed(DEGRADATION_SEED), DEGRADATION_CHANCE),
    }
    for kind, (f1, colors) in TARGETS.items():
        yield from _judge_rows(run, kind, count_all(judge.detect(shown[kind]), truth), f1, colors)


def _judge_rows(run: Run, kind: str, counts: Sequence[InstanceCounts], f1: float, colors: float) -> Iterator[Row]:
    total = sum(counts, InstanceCounts(0, 0, 0, 0))
    which = {"clean": "test pictures", "degraded": "test pictures that are blurred, noisy, compressed or discoloured"}
    same: dict[str, Any] = {"unit": "share", "n": len(counts), "seed": 0}
    yield run.row(
        f"judge-{kind}-f1", f"The judge finds every object with its mask in {which[kind]} (instance F1).",
        measured=total.f1, target=f1, interval=counts_interval(counts, "f1"), **same,
    )  # fmt: skip
    if total.matched:
        yield run.row(
            f"judge-{kind}-color", f"The judge names the colours of the objects it finds in {which[kind]}.",
            measured=total.color_accuracy, target=colors, interval=counts_interval(counts, "color_accuracy"), **same,
        )  # fmt: skip


def counts_interval(counts: Sequence[InstanceCounts], quantity: str) -> tuple[float, float] | None:
    """95 % interval of a quantity of the summed counts, by a bootstrap over pictures; None for a single picture.

    Args:
        quantity: "f1" or "color_accuracy"; a sample in which nothing was matched counts as all pictures do.
    """
    if len(counts) < 2:
        return None
    table = np.array([[one.matched, one.wrong, one.missed, one.right_colors] for one in counts])

    def statistic(drawn: np.ndarray) -> float:
        value = getattr(InstanceCounts(*table[drawn.astype(int)].sum(0).tolist()), quantity)
        return whole if np.isnan(value) else value

    whole = getattr(InstanceCounts(*table.sum(0).tolist()), quantity)
    return bootstrap_interval(range(len(counts)), statistic=statistic)
