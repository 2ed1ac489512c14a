"""What the JSON files of SOG scenes say, read key by key, with one sentence for what is not as it must be."""

import json
import math
import os
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .source import opened

MAX_BYTES = 1 << 26
MAX_COUNT = 1 << 32
MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class Meta:
    """A JSON object.

    Attributes:
        name: of the file, and the keys on the way to this object, as errors say it.
        content: key -> value.
    """

    name: str
    content: dict[str, Any]

    @classmethod
    def parse(cls, name: str, text: bytes) -> "Meta":
        """The object that a JSON file holds.

        Raises:
            ValueError: it is no JSON, too deeply nested, or holds something else.
        """
        try:
            content = json.loads(text) if len(text) <= MAX_BYTES else None
        except (ValueError, RecursionError):  # ValueError is also what undecodable text and huge numbers raise
            raise ValueError(f"{name} is truncated or no JSON file.") from None
        if not isinstance(content, dict):
            raise ValueError(f"{name} must hold a JSON object of at most {MAX_BYTES:,} bytes.")
        return cls(name, content)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Meta":
        """As `parse`, of a file.

        Raises:
            FileNotFoundError: it is missing.
        """
        with opened(path) as file:
            return cls.parse(file.name, file.stream.read(MAX_BYTES + 1))

    def __contains__(self, key: str) -> bool:
        return self.content.get(key) is not None

    def part(self, key: str) -> "Meta":
        """The object under a key."""
        return Meta(f"{self.name}: {key}", self._of(key, dict, "an object"))

    def parts(self, key: str) -> Iterator["Meta"]:
        """The objects in the list under a key."""
        for value in self._of(key, list, "a list of objects"):
            if not isinstance(value, dict):
                raise self._refusal(key, "a list of objects")
            yield Meta(f"{self.name}: {key}", value)

    def whole(self, key: str, low: int = 0, high: int = MAX_COUNT) -> int:
        """A whole number from `low` to `high`."""
        value = self.content.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self._refusal(key, f"a whole number from {low} to {high:,}")
        return value

    def expect(self, key: str, value: int | str) -> None:
        """Refuses anything but one value."""
        given = self.content.get(key)
        if type(given) is not type(value) or given != value:
            raise self._refusal(key, str(value))

    def shape(self) -> list[int]:
        """The whole numbers under `shape`, of which the first is that of Gaussians."""
        values = self._of("shape", list, "a list of whole numbers")
        if not values or not all(type(value) is int and 1 <= value <= MAX_COUNT for value in values):
            raise self._refusal("shape", "a list of whole numbers")
        return values

    def numbers(self, key: str, count: int, null_first: bool = False) -> np.ndarray:
        """`count` finite numbers, float64; a single one where `count` is 1. With `null_first` the first may be null."""
        values = self.content.get(key)
        values = values if isinstance(values, list) else [values]
        given = values[1:] if null_first and values[:1] == [None] else values
        if len(values) != count or not all(_is_finite(value) for value in given):
            raise self._refusal(key, f"{count} finite number{'s' * (count > 1)}")
        return np.array([math.nan if value is None else value for value in values], np.float64)

    def file(self, key: str) -> str:
        """As `files`, of one file that stands under the key itself."""
        if not _is_below(self.content.get(key)):
            raise self._refusal(key, "the name of a file below its folder")
        return self.content[key]

    def files(self, key: str, count: int | None = None) -> list[str]:
        """Relative paths of files that lie in the folder of this one or below it; `count` of them, if given."""
        names = self._of(key, list, "a list of file names")
        if count not in (None, len(names)) or not all(_is_below(name) for name in names):
            raise self._refusal(key, f"{'a list' if count is None else count} of file names below its folder")
        return names

    def _of(self, key: str, kind: type, allowed: str) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind):
            raise self._refusal(key, allowed)
        return value

    def _refusal(self, key: str, allowed: str) -> ValueError:
        given = reprlib.repr(self.content[key]) if key in self.content else "missing"
        return ValueError(f"{self.name}: {key} must be {allowed}, not {given}.")


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # numpy takes no larger whole numbers either


def _is_below(name: Any) -> bool:
    """Whether it is a path of plain names, which leads neither up nor to another place."""
    if not isinstance(name, str) or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        return False
    return all(part not in ("", ".", "..") and not re.search(r"[\\:]", part) for part in name.split("/"))
