"""How well a detector finds objects: F1 of instances at an IoU of masks, and the share of right colours among them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ...pipelines.outputs import Detections, MaskRLE
from ...training.datasets.pocketworld.records import Picture

IOU = 0.5
SCORE = 0.3  # GenEval's threshold


@dataclass(frozen=True)
class InstanceCounts:
    """Counts over pictures.

    Attributes:
        matched: objects found: a detection of their class whose mask has an IoU of at least `IOU` with theirs.
        wrong: detections that match no object.
        missed: objects that no detection matches.
        right_colors: matched objects whose colour was read right.
    """

    matched: int
    wrong: int
    missed: int
    right_colors: int

    @property
    def f1(self) -> float:
        """2 matched / (2 matched + wrong + missed); 1 where there is nothing to find and nothing was found."""
        total = 2 * self.matched + self.wrong + self.missed
        return 2 * self.matched / total if total else 1.0

    @property
    def color_accuracy(self) -> float:
        """Share of right colours among matched objects; nan without any."""
        return self.right_colors / self.matched if self.matched else float("nan")

    def __add__(self, other: "InstanceCounts") -> "InstanceCounts":
        mine, others = (vars(counts).values() for counts in (self, other))
        return InstanceCounts(*(a + b for a, b in zip(mine, others, strict=True)))


def count_instances(found: Detections, truth: Detections, score: float = SCORE) -> InstanceCounts:
    """Matches the detections of one picture, best first, each to the object of its class with the highest IoU left.

    Args:
        found: with masks; those below `score` are left out.
        truth: the objects, with masks and colours.

    Raises:
        ValueError: where masks are missing.
    """
    if found.masks is None or truth.masks is None:
        raise ValueError("found and truth must have masks: instances are matched by the IoU of their masks.")
    found = found.above(score)
    overlaps = mask_ious(found.masks, truth.masks)
    free, matched, right = set(range(len(truth))), 0, 0
    for index in sorted(range(len(found)), key=lambda i: -found.scores[i]):
        rivals = [k for k in free if truth.labels[k] == found.labels[index] and overlaps[index, k] >= IOU]
        if rivals:
            best = max(rivals, key=lambda k: overlaps[index, k])
            free.remove(best)
            matched += 1
            right += bool(found.colors and truth.colors and found.colors[index] == truth.colors[best])
    return InstanceCounts(matched, len(found) - matched, len(free), right)


def count_all(found: Iterable[Detections], truth: Iterable[Detections], score: float = SCORE) -> list[InstanceCounts]:
    """Counts of each picture."""
    return [count_instances(one, other, score) for one, other in zip(found, truth, strict=True)]


def mask_ious(found: Sequence[MaskRLE], truth: Sequence[MaskRLE]) -> Float[np.ndarray, "found truth"]:
    """IoU of every pair of masks."""
    a, b = (_stack(masks) for masks in (found, truth))
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    shared = a.astype(float) @ b.T.astype(float)
    union = a.sum(1)[:, None] + b.sum(1)[None] - shared
    return shared / np.maximum(union, 1)


def _stack(masks: Sequence[MaskRLE]) -> Bool[np.ndarray, "count pixels"]:
    return np.array([mask.decode().ravel() for mask in masks]) if masks else np.zeros((0, 0), bool)


def ground_truth(picture: Picture) -> Detections:
    """What a perfect detector says of a record of PocketWorld."""
    objects = picture.scene.objects
    return Detections(
        labels=[thing.shape for thing in objects],
        scores=[1.0] * len(objects),
        boxes=[tuple(box) for box in picture.boxes.tolist()],
        masks=[MaskRLE.encode(picture.instances == number) for number in range(1, len(objects) + 1)],
        colors=[thing.color for thing in objects],
    )
