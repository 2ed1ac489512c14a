"""Rows that cannot be read: named where they stop a training, skipped and counted where they may not."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

FAULT = "__fault__"
"""Column of a row that says why it cannot be used, where its source knows that."""

PATIENCE = 1000  # bad rows after one another, then the source is at fault


class BadRow(Exception):
    """A row that cannot be read.

    Attributes:
        key: of the row, see `key_of`.
    """

    def __init__(self, key: str, reason: str):
        super().__init__(f"{key}: {reason}")
        self.key = key


class SkippedRows:
    """The bad rows that a process has skipped so far, each of them once, however many epochs meet it.

    Attributes:
        reasons: key -> why the row cannot be read.
    """

    def __init__(self):
        self.reasons: dict[str, str] = {}

    def add(self, row: BadRow) -> None:
        self.reasons[row.key] = str(row)

    def __len__(self) -> int:
        return len(self.reasons)

    def sentence(self) -> str:
        """How many there are, with the first of them."""
        return f"Skipped {len(self)} bad row{'s' * (len(self) > 1)}, such as {next(iter(self.reasons.values()))}"


def key_of(row: dict[str, Any], number: int) -> str:
    """What a row is found by: its sample and shard, the file of its picture, or else its number in this run."""
    if row.get("__key__") is not None:
        return f"sample {row['__key__']!r} of {row.get('__url__')!r}"
    if FAULT in row:
        return f"shard {row['__url__']!r}"
    paths = [value["path"] for value in row.values() if isinstance(value, dict) and value.get("path")]
    return f"row of {paths[0]!r}" if paths else f"row {number} in this run's order"


def reading(read: Callable[[dict[str, Any]], tuple]) -> Callable[[tuple[int, dict[str, Any]]], tuple | BadRow]:
    """`read` for a numbered row; gives a `BadRow` back, with the error as its cause, where it raises one."""

    def attempt(numbered: tuple[int, dict[str, Any]]) -> tuple | BadRow:
        number, row = numbered
        try:
            if FAULT in row:
                raise ValueError(row[FAULT])
            return read(row)
        except (OSError, ValueError) as error:
            bad = BadRow(key_of(row, number), str(error))
            bad.__cause__ = error
            return bad

    return attempt


def good_rows(results: Iterable[tuple | BadRow], skipped: SkippedRows | None) -> Iterator[tuple]:
    """What could be read. The place of a bad row is taken by the next good one, which comes again in its own place.

    So what stands in a place depends on the rows from there on alone, and a resumed run is exact.

    Args:
        results: of `reading`, without end.
        skipped: counts the bad rows; None stops at the first.

    Raises:
        OSError, ValueError: a bad row, with its key, or `PATIENCE` of them after one another.
    """
    waiting = 0
    for result in results:
        if not isinstance(result, BadRow):
            for _ in range(1 + waiting):
                yield result
            waiting = 0
            continue
        kind = OSError if isinstance(result.__cause__, OSError) else ValueError
        if skipped is None:
            raise kind(str(result)) from result.__cause__
        skipped.add(result)
        waiting += 1
        if waiting == PATIENCE:
            raise kind(f"{PATIENCE} rows after one another are bad; the last is {result}") from result.__cause__
