"""Bytes of a splat file, read in order, with its claims checked against its length before anything is allocated."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# What is packed may unfold to this many bytes, or to this multiple of its own length. Real scenes unfold 2 to 20 times;
# deflate could do 1,032 times and ZSTD 32,000 times, which turns a small hostile file into all of the memory.
FREE_BYTES = 1 << 24
MAX_EXPANSION = 256


class Source:
    """A splat file or its bytes.

    Attributes:
        name: of the file, as errors say it.
        length: bytes in all.
    """

    def __init__(self, stream: BinaryIO, length: int, name: str):
        self.stream, self.length, self.name = stream, length, name

    def refusal(self, reason: str) -> ValueError:
        """The error that says what is wrong with the file; `reason` begins with a verb."""
        return ValueError(f"{self.name} {reason}.")

    def require(self, holds: bool, reason: str) -> None:
        """Raises the refusal unless `holds`."""
        if not holds:
            raise self.refusal(reason)

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            ValueError: there are fewer.
        """
        data = self.stream.read(count)
        self.require(len(data) == count, "is truncated")
        return data

    def check_count(self, count: int, bytes_each: int, before: int = 0) -> None:
        """Refuses a number of rows of `bytes_each` that the file, behind its first `before` bytes, cannot hold."""
        self.require(count > 0, "must hold Gaussians, but holds none")
        self.require(
            count * bytes_each <= self.length - before,
            f"is truncated: {count:,} rows take {count * bytes_each:,} bytes, but {self.length - before:,} are left",
        )


def check_expansion(name: str, unfolded: int, stored: int) -> None:
    """Refuses packed data that claim to unfold beyond what a scene does.

    Raises:
        ValueError: naming the file.
    """
    if unfolded > max(FREE_BYTES, MAX_EXPANSION * stored):
        raise ValueError(
            f"{name} must unfold to at most {MAX_EXPANSION} times its size, "
            f"but {stored:,} bytes claim to hold {unfolded:,}."
        )


@contextmanager
def opened(source: bytes | str | os.PathLike) -> Iterator[Source]:
    """The source, open while the block runs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: what the block reads is damaged.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name, length, stream = "the data", len(source), io.BytesIO(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is {'no file' if path.exists() else 'missing'}.")
        name, length, stream = str(path), path.stat().st_size, path.open("rb")
    with stream:
        try:
            yield Source(stream, length, name)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name} is truncated or damaged: {str(error).rstrip('.')}.") from None
