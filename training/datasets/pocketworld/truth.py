"""Whether descriptions are true of the objects of a picture, by GenEval's own rules."""

import math
from collections.abc import Sequence
from typing import Any

from .descriptions import RELATIONS, Clause, Description

Box = Sequence[float]  # x0, y0, x1, y1 in pixels, y down

POSITION_THRESHOLD = 0.1  # of the summed box sizes, GenEval's default
MIN_COMPONENT = 0.5  # of the normalised offset, GenEval's constant


def relations(box_a: Box, box_b: Box) -> set[str]:
    """GenEval's relations of box a to box b, out of `RELATIONS`; two can hold at once.

    With centres c and sizes d: o = c_a - c_b, r = sign(o) max(abs(o) - 0.1 (d_a + d_b), 0).  None holds when
    both parts of r are below 1e-3 pixels; else r / norm(o), with the norm of the offset before it was
    shortened, is held against 0.5.

    Args:
        box_a, box_b: (x0, y0, x1, y1) in pixels, y down.

    Source: `relative_position` of djghosh13/geneval, evaluation/evaluate_images.py at af4902f.
    """
    offset_x, reach_x = _offset(box_a, box_b, 0)
    offset_y, reach_y = _offset(box_a, box_b, 1)
    if abs(reach_x) < 1e-3 and abs(reach_y) < 1e-3:
        return set()
    norm = math.hypot(offset_x, offset_y)
    x, y = reach_x / norm, reach_y / norm
    held = (x < -MIN_COMPONENT, x > MIN_COMPONENT, y < -MIN_COMPONENT, y > MIN_COMPONENT)
    return {relation for relation, holds in zip(RELATIONS, held, strict=True) if holds}


def _offset(box_a: Box, box_b: Box, axis: int) -> tuple[float, float]:
    """Centre offset along an axis in pixels, whole and shortened by a tenth of the summed sizes."""
    a0, a1, b0, b1 = (float(box[axis + side]) for box in (box_a, box_b) for side in (0, 2))
    offset = (a0 + a1) / 2 - (b0 + b1) / 2
    reach = max(abs(offset) - POSITION_THRESHOLD * (abs(a1 - a0) + abs(b1 - b0)), 0.0)
    return offset, math.copysign(reach, offset)


def exact_relation(box_a: Box, box_b: Box) -> str | None:
    """The relation of box a to box b when exactly one holds, else None."""
    held = relations(box_a, box_b)
    return held.pop() if len(held) == 1 else None


def describes(description: Description, objects: Sequence[tuple[str, str, Box]], exact: bool = False) -> bool:
    """Whether a description is true of ground truth objects by GenEval's rules.

    A clause takes the first `count` objects of its class, in the order given, and fails on fewer; all of them
    must have its colour; every (object, target) pair must hold its relation.  An exclude clause fails when
    there are at least `count` objects of its class.

    Args:
        description: what is claimed.
        objects: (shape, color, box xyxy in pixels) of every object of the picture.
        exact: also require that the claimed relation is the only one that holds.
    """
    found_by_clause: list[list[tuple[str, str, Box]]] = []
    for clause in description.include:
        found = [thing for thing in objects if thing[0] == clause.cls][: clause.count]
        if len(found) < clause.count or not _holds(clause, found, found_by_clause, exact):
            return False
        found_by_clause.append(found)
    shapes = [shape for shape, _, _ in objects]
    return all(shapes.count(clause.cls) < clause.count for clause in description.exclude)


def _holds(clause: Clause, found: list[Any], found_by_clause: list[list[Any]], exact: bool) -> bool:
    if clause.color is not None and any(color != clause.color for _, color, _ in found):
        return False
    if clause.position is None:
        return True
    relation, target = clause.position
    held = [relations(thing[2], other[2]) for thing in found for other in found_by_clause[target]]
    return all(each == {relation} if exact else relation in each for each in held)
