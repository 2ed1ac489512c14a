"""GenEval's rules: whether the objects found in a picture are those that its prompt asks for.

Source: `evaluate` and `evaluate_image` of djghosh13/geneval, evaluation/evaluate_images.py at af4902f.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...pipelines.outputs import Detections
from ...training.datasets.pocketworld.descriptions import Clause, Description
from ...training.datasets.pocketworld.truth import relations

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class GenEvalSettings:
    """Which detections are kept.

    Attributes:
        threshold: an object counts when its score is above this, within [0, 1].
        counting_threshold: the same for prompts of the tag counting.
        max_objects: of one class, the best by score, at least 1.
        max_overlap: of two kept objects of a class the worse one is dropped when their boxes' intersection over
            union reaches this; 1.0 drops none. Within (0, 1].

    Raises:
        ValueError: for a number out of its range.
    """

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0

    def __post_init__(self) -> None:
        for name in ("threshold", "counting_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie within [0, 1], not {getattr(self, name)}.")
        if self.max_objects < 1:
            raise ValueError(f"max_objects must be at least 1, not {self.max_objects}.")
        if not 0 < self.max_overlap <= 1:
            raise ValueError(f"max_overlap must lie within (0, 1], not {self.max_overlap}.")


class Verdict(NamedTuple):
    """Whether a picture shows what was asked for, and if not, every reason, one a line."""

    correct: bool
    reason: str


class FoundObject(NamedTuple):
    """One kept object; `color` is None where it was not read."""

    box: Box
    color: str | None


def judge_picture(
    metadata: Mapping[str, Any], detections: Detections, settings: GenEvalSettings | None = None
) -> Verdict:
    """Hold the objects found in a picture against the metadata of its prompt.

    A clause of `include` takes the first `count` objects of its class by score (of equal scores see `kept_objects`);
    fewer are wrong. As many as `count`
    must have its colour; then every one must stand in its relation to every object of the target clause, and a
    target that failed is wrong. A clause of `exclude` fails when there are at least its `count`.

    Args:
        metadata: GenEval's record: tag, include, exclude; other keys are not read.
        detections: what a detector found, in any order, with colours where a clause asks for one.
        settings: GenEval's own by default.

    Raises:
        ValueError: metadata of another form, or a clause asks for a colour and no colours were read.
    """
    description = Description.from_metadata(metadata)
    if detections.colors is None and any(clause.color is not None for clause in description.include):
        raise ValueError("detections have no colors, but a clause asks for one; read them with a colour reader first.")
    found = kept_objects(detections, description.tag, settings or GenEvalSettings())
    reasons, matched = [], []
    for clause in description.include:
        objects = found.get(clause.cls, ())[: clause.count]
        complaint = _complaint(clause, objects, matched)
        matched.append(None if complaint else objects)
        if complaint:
            reasons.append(complaint)
    for clause in description.exclude:
        count = len(found.get(clause.cls, ()))
        if count >= clause.count:
            reasons.append(f"expected {clause.cls}<{clause.count}, found {count}")
    return Verdict(not reasons, "\n".join(reasons))


def kept_objects(detections: Detections, tag: str, settings: GenEvalSettings) -> dict[str, tuple[FoundObject, ...]]:
    """The objects that count, by class, best first.

    Scores are compared in float32, in which the official detector gives them: one that equals the threshold is not
    above it. Scores that differ there come in the official order. Of equal ones the later detection comes first here;
    the official code reverses numpy's default sort, which promises no order of equals, so that where it keeps some of
    several equal objects (for a count below their number, or the most that are kept) its choice may be another.
    """
    threshold = np.float32(settings.counting_threshold if tag == "counting" else settings.threshold)
    scores, by_class = np.asarray(detections.scores, np.float32), {}
    for index in np.argsort(scores, kind="stable")[::-1].tolist():
        if scores[index] > threshold:
            color = None if detections.colors is None else detections.colors[index]
            objects = by_class.setdefault(detections.labels[index], [])
            objects.append(FoundObject(detections.boxes[index], color))
    return {
        label: tuple(_suppressed(objects[: settings.max_objects], settings.max_overlap))
        for label, objects in by_class.items()
    }


def _suppressed(objects: Sequence[FoundObject], max_overlap: float) -> list[FoundObject]:
    kept: list[FoundObject] = []
    for thing in objects:
        if max_overlap == 1 or all(overlap(thing.box, other.box) < max_overlap for other in kept):
            kept.append(thing)
    return kept


def overlap(box_a: Box, box_b: Box) -> float:
    """Intersection over union of boxes whose right and lower sides belong to them: sides are one pixel longer."""
    both = (*np.maximum(box_a[:2], box_b[:2]), *np.minimum(box_a[2:], box_b[2:]))
    shared = _area(both)
    union = _area(box_a) + _area(box_b) - shared
    return shared / union if union else 0.0


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)


def _complaint(clause: Clause, objects: Sequence[FoundObject], matched: Sequence[Any]) -> str:
    """What is wrong with the objects that a clause took; empty where nothing is."""
    if len(objects) < clause.count:
        return f"expected {clause.cls}>={clause.count}, found {len(objects)}"
    if clause.color is not None:
        colors = Counter("unread" if thing.color is None else thing.color for thing in objects)
        if colors[clause.color] < clause.count:
            listing = ", ".join(f"{count} {color}" for color, count in colors.items())
            return f"expected {clause.color} {clause.cls}>={clause.count}, found {colors[clause.color]}; and {listing}"
    if clause.position is not None:
        return _misplacement(clause, objects, matched)
    return ""


def _misplacement(clause: Clause, objects: Sequence[FoundObject], matched: Sequence[Any]) -> str:
    relation, target = clause.position
    if matched[target] is None:
        return f"no target for {clause.cls} to be {relation}"
    for thing in objects:
        for other in matched[target]:
            held = relations(thing.box, other.box)
            if relation not in held:
                return f"expected {clause.cls} {relation} target, found {' and '.join(sorted(held)) or 'no relation'}"
    return ""
