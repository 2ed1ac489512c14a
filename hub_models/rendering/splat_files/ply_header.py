"""The text at the head of a PLY file: which elements follow, and how their rows lie in it."""

import re
from dataclasses import dataclass

import numpy as np

from .source import Source

MAX_HEADER_BYTES = 1 << 16
TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class Element:
    """Rows of one kind.

    Attributes:
        name: such as vertex.
        count: of rows.
        row: the packed numbers of a row by name; None where a row holds lists, so that its length is not known.
        offset: of its first row in the file; None where lists lie before it.
    """

    name: str
    count: int
    row: np.dtype | None
    offset: int | None

    @property
    def properties(self) -> tuple[str, ...]:
        return (self.row.names or ()) if self.row is not None else ()


def read_header(source: Source) -> dict[str, Element]:
    """Elements of a binary little-endian PLY file by name, in the order of their rows, which follow at once.

    Raises:
        ValueError: it is no such file.
    """
    source.require(_line(source) == "ply", "must be a PLY file, but does not begin with 'ply'")
    elements: dict[str, tuple[int, list[tuple[str, str] | None]]] = {}  # None stands for a list
    encoding, left = None, MAX_HEADER_BYTES
    while (line := _line(source)) != "end_header":
        left -= len(line) + 1
        source.require(left > 0, f"must have a PLY header of at most {MAX_HEADER_BYTES:,} bytes")
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", word, "1.0"] if encoding is None:
                encoding = word
            case ["element", name, count] if name not in elements and re.fullmatch("[0-9]{1,18}", count):
                elements[name] = int(count), []
            case ["property", kind, name] if kind in TYPES and elements:
                elements[next(reversed(elements))][1].append((name, f"<{TYPES[kind]}"))
            case ["property", "list", _, _, _] if elements:
                elements[next(reversed(elements))][1].append(None)
            case _:
                raise source.refusal(f"has a PLY header with the line {line[:80]!r}, which is not understood")
    source.require(
        encoding == "binary_little_endian", f"must be a binary_little_endian PLY file, but its format is {encoding}"
    )
    offset, laid_out = source.stream.tell(), {}
    for name, (count, columns) in elements.items():
        row = _row(source, columns)
        laid_out[name] = Element(name, count, row, offset)
        offset = None if row is None or offset is None else offset + count * row.itemsize
    return laid_out


def seek_rows(source: Source, elements: dict[str, Element], name: str) -> Element:
    """The element of that name, with the source at its first row and all of its rows there.

    Raises:
        ValueError: it is missing, holds lists or lies behind some, or the file is too short for it.
    """
    source.require(name in elements, f"must hold a PLY element {name!r}, but holds {', '.join(elements) or 'none'}")
    element = elements[name]
    source.require(
        element.row is not None and element.offset is not None, f"holds lists in its PLY element {name!r}, or before it"
    )
    source.require(element.offset <= source.length, "is truncated")
    source.check_count(element.count, element.row.itemsize, before=element.offset)
    source.stream.seek(element.offset)
    return element


def read_rows(source: Source, element: Element, block: slice) -> np.ndarray:
    """The next rows, as many as the block has, as a structured array."""
    return np.frombuffer(source.take((block.stop - block.start) * element.row.itemsize), element.row)


def _line(source: Source) -> str:
    raw = source.stream.readline(1024)
    source.require(raw.endswith(b"\n"), "has a PLY header that is truncated, or a line of it is too long")
    return raw.decode("ascii", "replace").rstrip("\r\n")


def _row(source: Source, columns: list[tuple[str, str] | None]) -> np.dtype | None:
    if None in columns:
        return None
    names = [name for name, _ in columns]
    source.require(len(set(names)) == len(names), "has a PLY header that names a property twice")
    return np.dtype(columns)
