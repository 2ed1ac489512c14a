"""Mean intersection over union of label maps, from exact counts of pixels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

RESAMPLES = 1000


@dataclass(frozen=True)
class MiouScore:
    """A mean IoU with what it means.

    Attributes:
        miou: mean of the IoUs of the classes that are present, in [0, 1].
        interval: 95 % interval by a bootstrap over pictures; None for a single one.
        iou: by class, in [0, 1]; None for an absent class.
        absent: classes that neither a prediction nor a reference shows; they are left out of the mean.
        pixel_accuracy: share of counted pixels that are right.
        n: pictures.
        pixels, ignored: that were counted, and that the reference says to ignore.
    """

    miou: float
    interval: tuple[float, float] | None
    iou: dict[str, float | None]
    absent: tuple[str, ...]
    pixel_accuracy: float
    n: int
    pixels: int
    ignored: int

    def to_record(self) -> dict[str, Any]:
        """The score as a JSON object."""
        return {"metric": "miou", "value": self.miou, **asdict(self)}


class ConfusionCounts:
    """Counts pixels of each (reference, prediction) pair of classes, picture by picture.

    Args:
        classes: names in the order of their numbers, or how many there are, at least 1.
        ignore_index: reference pixels of this number are not counted; None counts all.

    Raises:
        ValueError: for no classes, or names that repeat.
    """

    def __init__(self, classes: Sequence[str] | int, ignore_index: int | None = 255):
        names = tuple(map(str, range(classes) if isinstance(classes, int) else classes))
        if not names or len(set(names)) < len(names):
            raise ValueError(f"classes must be different names, or a number from 1 up, not {classes!r}.")
        self.classes, self.ignore_index = names, ignore_index
        self.counts = np.zeros((len(names), len(names)), np.int64)
        self.ignored = 0
        self._pictures: list[np.ndarray] = []  # [3, classes] each: pixels of the reference, the prediction, and both

    def add(self, prediction: ArrayLike, reference: ArrayLike) -> None:
        """Count one picture.

        Args:
            prediction, reference: whole numbers [height, width]; what is predicted where the reference is ignored
                may be anything.

        Raises:
            ValueError: maps of different shapes, no whole numbers, or a number that is no class.
        """
        predicted, wanted = _label_map(prediction, "prediction"), _label_map(reference, "reference")
        if predicted.shape != wanted.shape:
            raise ValueError(f"prediction is {list(predicted.shape)}, but reference {list(wanted.shape)}.")
        counted = np.ones(wanted.shape, bool) if self.ignore_index is None else wanted != self.ignore_index
        predicted, wanted, classes = predicted[counted], wanted[counted], len(self.classes)
        for name, labels in (("prediction", predicted), ("reference", wanted)):
            if labels.size and not (labels.min() >= 0 and labels.max() < classes):
                wrong = labels[(labels < 0) | (labels >= classes)][0]
                raise ValueError(f"{name} holds label {wrong}; labels are 0 to {classes - 1}.")
        counts = np.bincount(wanted * classes + predicted, minlength=classes**2).reshape(classes, classes)
        self.counts += counts
        self.ignored += int((~counted).sum())
        self._pictures.append(np.stack([counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()]))

    def score(self, seed: int = 0) -> MiouScore:
        """The score of what was counted so far.

        Args:
            seed: of the bootstrap.

        Raises:
            ValueError: when no pixel was counted.
        """
        pixels = int(self.counts.sum())
        if not pixels:
            raise ValueError("no pixel was counted; add a prediction whose reference is not ignored everywhere.")
        shares = _ious(np.sum(self._pictures, axis=0))
        iou = {
            name: None if np.isnan(share) else float(share) for name, share in zip(self.classes, shares, strict=True)
        }
        return MiouScore(
            miou=float(np.nanmean(shares)),
            interval=self._interval(seed),
            iou=iou,
            absent=tuple(name for name, share in iou.items() if share is None),
            pixel_accuracy=int(np.trace(self.counts)) / pixels,
            n=len(self._pictures),
            pixels=pixels,
            ignored=self.ignored,
        )

    def _interval(self, seed: int) -> tuple[float, float] | None:
        count = len(self._pictures)
        if count < 2:
            return None
        table, rng = np.stack(self._pictures), np.random.default_rng(seed)  # [pictures, 3, classes]
        weights = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        sums = np.tensordot(weights, table, axes=1)  # [resamples, 3, classes]
        drawn = [np.nanmean(_ious(each)) for each in sums if each.any()]
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(low), float(high)


def mean_iou(
    predictions: Sequence[ArrayLike],
    references: Sequence[ArrayLike],
    classes: Sequence[str] | int,
    ignore_index: int | None = 255,
    seed: int = 0,
) -> MiouScore:
    """The score of label maps [height, width], each with its reference; see `ConfusionCounts`.

    Raises:
        ValueError: unequally many maps, or none, or what `ConfusionCounts` refuses.
    """
    if len(predictions) != len(references):
        raise ValueError(f"there are {len(predictions)} predictions and {len(references)} references.")
    counts = ConfusionCounts(classes, ignore_index)
    for prediction, reference in zip(predictions, references, strict=True):
        counts.add(prediction, reference)
    return counts.score(seed)


def _label_map(labels: ArrayLike, name: str) -> Int[np.ndarray, "height width"]:
    array = np.asarray(labels)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be whole numbers [height, width], not {array.dtype} {list(array.shape)}.")
    return array.astype(np.int64)


def _ious(sums: Int[np.ndarray, "3 classes"]) -> np.ndarray:
    """IoU of each class, NaN for an absent one."""
    reference, prediction, both = sums
    union = reference + prediction - both
    return np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0)
