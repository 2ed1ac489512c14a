"""Zip archives as folders, for as long as they are read. They come from strangers, so they are checked before."""

import errno
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

MOST_FILES = 4096
LARGEST_FOLDER = 2_000_000_000
"""Bytes of all files of an archive, unpacked."""
LONGEST_LIST = 4_000_000
"""Bytes of an archive's list of files, which zipfile reads into memory at once."""
LONGEST_NAME = 255
"""Bytes of a file's path in the archive."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that are unpacked in bounded memory."""
ENCRYPTED = 1
"""The bit of an entry's flags."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def unzipped(path: str | Path, largest: int = LARGEST_FOLDER) -> Iterator[Path]:
    """The folder that a zip archive holds; it is gone when the block ends.

    Args:
        path: of the archive.
        largest: bytes that its files may have in all, unpacked.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no zip archive or a damaged one, is encrypted, holds too much, or a file of it would lie
            outside the folder.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    with tempfile.TemporaryDirectory(prefix="pocket-zip-") as place:
        folder = Path(place, path.name)  # what is said of it names the archive
        folder.mkdir()
        with _ShortReads(path) as file:
            _unpack(path, file, folder, largest)
        yield folder


class _ShortReads(io.FileIO):
    """A file of which nothing as long as an endless list of files is read at once."""

    def read(self, size: int = -1) -> bytes:
        if size > LONGEST_LIST or (size < 0 and os.fstat(self.fileno()).st_size - self.tell() > LONGEST_LIST):
            raise ValueError("too much at once")
        return super().read(size)


def _unpack(path: Path, file: _ShortReads, folder: Path, largest: int) -> None:
    with _damage_named(path):
        archive = zipfile.ZipFile(file)
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        _check_entries(path, entries, largest)
        for entry in entries:
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as unpacked, _damage_named(path), archive.open(entry) as packed:
                shutil.copyfileobj(packed, unpacked)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], largest: int) -> None:
    if len(entries) > MOST_FILES:
        raise ValueError(f"{path} must hold at most {MOST_FILES} files, not {len(entries)}.")
    size = sum(entry.file_size for entry in entries)
    if size > largest:
        raise ValueError(f"{path} must unpack to at most {largest / 1e6:,g} MB, not {size / 1e6:,.0f} MB.")
    taken: set[str] = set()
    for entry in entries:
        name, place = entry.filename[:80], str(PurePosixPath(entry.filename))
        if not _stays_inside(entry.filename):
            raise ValueError(f"{path} must hold files that lie inside of it, not {name!r}.")
        if len(os.fsencode(entry.filename)) > LONGEST_NAME:
            raise ValueError(f"{path} must hold files of names of at most {LONGEST_NAME} bytes, not {name!r}...")
        if entry.flag_bits & ENCRYPTED:
            raise ValueError(f"{path} must not be encrypted, as {name!r} in it is.")
        if entry.compress_type not in METHODS:
            raise ValueError(f"{path} must be packed by deflate or not at all, but {name!r} in it is not.")
        if place in taken:
            raise ValueError(f"{path} must hold {name!r} once, not twice.")
        taken.add(place)
    for place in taken:
        if not taken.isdisjoint(map(str, PurePosixPath(place).parents)):
            raise ValueError(f"{path} must hold {place[:80]!r} in a folder, not in a file.")


def _stays_inside(name: str) -> bool:
    """Whether it is the path of a file in whatever folder it is unpacked to, on any system."""
    place = PureWindowsPath(name)  # knows both slashes and drives
    return bool(place.parts) and not place.anchor and ".." not in place.parts


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile raises errors of many kinds, even a plain ValueError, and some quote the file
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        raise ValueError(f"{path} is no zip archive, or a damaged one.") from None
