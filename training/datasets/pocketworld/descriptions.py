"""What captions of PocketWorld claim: GenEval's six task types as structured clauses.

A `Description` has the metadata schema of GenEval (djghosh13/geneval).  Pure Python, no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .scene import COLORS, SHAPES

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Clause:
    """`count` objects of class `cls`, all of `color` when given, each standing in `position` to the objects
    of an earlier clause: (relation, index of that clause)."""

    cls: str
    count: int = 1
    color: str | None = None
    position: tuple[str, int] | None = None

    def to_metadata(self) -> dict[str, Any]:
        """GenEval's clause: `class`, `count` and, where present, `color` and `position`."""
        record: dict[str, Any] = {"class": self.cls, "count": self.count}
        if self.color is not None:
            record["color"] = self.color
        if self.position is not None:
            record["position"] = list(self.position)
        return record

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any]) -> "Clause":
        """The clause of a GenEval record; raises ValueError for a missing or an unknown key."""
        unknown = set(record) - {"class", "count", "color", "position"}
        if unknown or not {"class", "count"} <= set(record):
            raise ValueError(f"a clause has keys {sorted(record)}; it needs class, count and may have color, position.")
        position = record.get("position")
        place = None if position is None else (str(position[0]), int(position[1]))
        return cls(record["class"], record["count"], record.get("color"), place)


@dataclass(frozen=True)
class Description:
    """What a caption claims: `include` clauses all hold and no `exclude` clause does (GenEval's metadata).

    Classes are free-form here, so GenEval's own records fit; `check_world` knows PocketWorld's alone.  In a
    position description the target is clause 0 and the subject, said first, is clause 1, as in GenEval.
    """

    tag: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()

    def __post_init__(self) -> None:
        if self.tag not in TAGS:
            raise ValueError(f"tag must be one of {', '.join(TAGS)}, not {self.tag!r}.")
        if not self.include:
            raise ValueError("include is empty; a description needs at least one clause.")
        for clause in (*self.include, *self.exclude):
            if clause.count < 1:
                raise ValueError(f"count of {clause.cls!r} must be at least 1, not {clause.count}.")
        for index, clause in enumerate(self.include):
            if clause.position is not None:
                _check_position(clause.position, index)

    def to_metadata(self, prompt: str) -> dict[str, Any]:
        """GenEval's record: `tag`, `include`, `exclude` (only when there is one) and `prompt`."""
        include = [clause.to_metadata() for clause in self.include]
        record: dict[str, Any] = {"tag": self.tag, "include": include}
        if self.exclude:
            record["exclude"] = [clause.to_metadata() for clause in self.exclude]
        record["prompt"] = prompt
        return record

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any]) -> "Description":
        """The description of a GenEval record; keys other than tag, include and exclude are not read."""
        missing = {"tag", "include"} - set(record)
        if missing:
            raise ValueError(f"the record has no {' and no '.join(sorted(missing))}; both are required.")
        include = tuple(Clause.from_metadata(clause) for clause in record["include"])
        exclude = tuple(Clause.from_metadata(clause) for clause in record.get("exclude", ()))
        return cls(record["tag"], include, exclude)


def single_object(shape: str) -> Description:
    """One object of a shape."""
    return Description("single_object", (Clause(shape),))


def two_object(first: str, second: str) -> Description:
    """Two objects of different shapes."""
    return Description("two_object", (Clause(first), Clause(second)))


def counting(shape: str, count: int) -> Description:
    """Exactly `count` objects of a shape."""
    return Description("counting", (Clause(shape, count),), (Clause(shape, count + 1),))


def colors(color: str, shape: str) -> Description:
    """One coloured object."""
    return Description("colors", (Clause(shape, color=color),))


def position(subject: str, relation: str, target: str) -> Description:
    """A subject that stands `relation` of a target of another shape; the target is clause 0."""
    return Description("position", (Clause(target), Clause(subject, position=(relation, 0))))


def color_attr(first: tuple[str, str], second: tuple[str, str]) -> Description:
    """Two objects, (color, shape) each, of different shapes and colours."""
    return Description("color_attr", tuple(Clause(shape, color=color) for color, shape in (first, second)))


def _check_position(place: tuple[str, int], index: int) -> None:
    relation, target = place
    if relation not in RELATIONS:
        raise ValueError(f"relation must be one of {', '.join(RELATIONS)}, not {relation!r}.")
    if not 0 <= target < index:
        raise ValueError(f"position of clause {index} points at clause {target}; it must be an earlier one.")


def check_world(description: Description) -> None:
    """Refuses a description that is none of PocketWorld's, with a ValueError."""
    for clause in description.include:
        if clause.cls not in SHAPES:
            raise ValueError(f"class is {clause.cls!r}; PocketWorld has {', '.join(SHAPES)}.")
        if clause.color is not None and clause.color not in COLORS:
            raise ValueError(f"color is {clause.color!r}; PocketWorld has {', '.join(COLORS)}.")
    if not is_world(description):
        raise ValueError(f"description is {description}; its clauses do not fit its tag in PocketWorld.")


@lru_cache(maxsize=16384)
def is_world(description: Description) -> bool:
    """Whether the clauses are exactly what the tag promises."""
    include = description.include
    shapes, tints = [clause.cls for clause in include], [clause.color for clause in include]
    if description.tag == "single_object":
        return len(include) == 1 and description == single_object(shapes[0])
    if description.tag == "colors":
        return len(include) == 1 and None not in tints and description == colors(tints[0], shapes[0])
    if description.tag == "counting":
        count = include[0].count
        return len(include) == 1 and count in COUNTS and description == counting(shapes[0], count)
    if len(include) != 2 or shapes[0] == shapes[1]:
        return False
    if description.tag == "two_object":
        return description == two_object(*shapes)
    if description.tag == "color_attr":
        pairs = list(zip(tints, shapes, strict=True))
        return None not in tints and tints[0] != tints[1] and description == color_attr(*pairs)
    place = include[1].position
    return place is not None and description == position(shapes[1], place[0], shapes[0])
