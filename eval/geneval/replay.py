"""Detections kept as JSON lines, so that GenEval is scored again without a detector."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...pipelines.files import whole_file
from ...pipelines.outputs import Detections
from ...training.datasets.pocketworld.descriptions import Description

_KEYS = {"metadata", "detector", "weights", "detections"}
_FIELDS = {"labels": str, "scores": float, "boxes": list, "masks": dict, "colors": str}


@dataclass(frozen=True)
class SeenPicture:
    """What a detector found in one picture.

    Attributes:
        metadata: GenEval's record of the prompt: tag, include, exclude, prompt; other keys are kept.
        detections: everything from `MIN_SCORE` up; None where the picture could not be made or read.
        detector: short name, which becomes part of the metric's.
        weights: Hub id or checkpoint of the detector, with that of the colour reader; None without weights.

    Raises:
        ValueError: metadata of another form.
    """

    metadata: Mapping[str, Any]
    detections: Detections | None
    detector: str
    weights: str | None = None

    def __post_init__(self) -> None:
        _check_metadata(self.metadata)

    @property
    def tag(self) -> str:
        """GenEval's task type."""
        return self.metadata["tag"]

    @property
    def prompt_key(self) -> str:
        """What makes two pictures pictures of one prompt: tag, clauses and text, as JSON."""
        return json.dumps(Description.from_metadata(self.metadata).to_metadata(self.metadata["prompt"]))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` reads it back exactly."""
        detections = None if self.detections is None else self.detections.to_dict()
        return {
            "metadata": dict(self.metadata),
            "detector": self.detector,
            "weights": self.weights,
            "detections": detections,
        }

    @classmethod
    def from_dict(cls, stored: Any) -> "SeenPicture":
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: for a missing or unknown key, or a value of another type or out of its range.
        """
        if not isinstance(stored, dict) or set(stored) != _KEYS:
            found = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
            raise ValueError(f"a picture has the keys {', '.join(sorted(_KEYS))}, not {found}.")
        if not isinstance(stored["detector"], str) or not isinstance(stored["weights"], str | None):
            raise ValueError("detector must be a text, and weights a text or null.")
        detections = stored["detections"]
        if detections is not None:
            _check_detections(detections)
            detections = Detections.from_dict(detections)
        return cls(stored["metadata"], detections, stored["detector"], stored["weights"])


def write_seen(path: str | Path, pictures: Iterable[SeenPicture]) -> None:
    """Write pictures as JSON lines; the file appears whole or not at all."""
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        for picture in pictures:
            file.write(json.dumps(picture.to_dict(), allow_nan=False) + "\n")


def read_seen(path: str | Path) -> list[SeenPicture]:
    """Read what `write_seen` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no picture, with its number; or the file holds none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; it should hold stored detections as JSON lines.")
    pictures = [
        _read(line, f"line {number} of {path.name}", SeenPicture.from_dict)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    ]
    if not pictures:
        raise ValueError(f"{path.name} holds no pictures.")
    return pictures


def _read(line: str, place: str, parse: Callable[[Any], SeenPicture]) -> SeenPicture:
    try:
        return parse(json.loads(line, parse_constant=_refuse))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number.")


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("prompt"), str):
        raise ValueError("metadata must be a GenEval record with a prompt.")
    for name in ("include", "exclude"):
        clauses = metadata.get(name, [])
        if not isinstance(clauses, list | tuple) or not all(isinstance(clause, Mapping) for clause in clauses):
            raise ValueError(f"{name} must be a list of clauses, not {clauses!r}.")
        for clause in clauses:
            _check_clause(clause)
    Description.from_metadata(metadata)


def _check_clause(clause: Mapping[str, Any]) -> None:
    if not isinstance(clause.get("class"), str) or type(clause.get("count")) is not int:
        raise ValueError(f"a clause needs class, a text, and count, a whole number, not {dict(clause)!r}.")
    if not isinstance(clause.get("color"), str | None):
        raise ValueError(f"color of a clause must be a text, not {clause['color']!r}.")
    place = clause.get("position")
    if place is not None and not (
        isinstance(place, list | tuple) and len(place) == 2 and isinstance(place[0], str) and type(place[1]) is int
    ):
        raise ValueError(f"position of a clause must be a relation and the number of a clause, not {place!r}.")


def _check_detections(detections: Any) -> None:
    if not isinstance(detections, dict) or set(detections) != set(_FIELDS):
        raise ValueError(f"detections must have the keys {', '.join(_FIELDS)}.")
    for name, kind in _FIELDS.items():
        values = detections[name]
        if values is None and name in ("masks", "colors"):
            continue
        if not isinstance(values, list) or not all(_is(value, kind, name) for value in values):
            raise ValueError(f"{name} must be a list of {kind.__name__}, one an object.")


def _is(value: Any, kind: type, name: str) -> bool:
    if kind is float:
        return type(value) in (int, float)
    if name == "boxes":
        return isinstance(value, list) and all(type(side) in (int, float) for side in value)
    if name == "masks":
        return isinstance(value, dict) and all(
            isinstance(numbers, list) and all(type(number) is int for number in numbers) for numbers in value.values()
        )
    return isinstance(value, kind) or (name == "colors" and value is None)
