"""Webdataset shards on this disk: what is damaged in them becomes a row that says so, and the others are still read.

Samples may differ in their members, such as `.jpg` here and `.png` there.
"""

import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from .bad_rows import FAULT

DECODERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("txt", "text", "transcript"), bytes.decode),
    **dict.fromkeys(("cls", "cls2", "index", "inx", "id", "count"), int),
    **dict.fromkeys(("json", "jsn"), json.loads),
}
"""By the end of a member's name, as webdataset has it; other members are bytes."""


def shard_rows(paths: list[str]) -> Iterator[dict[str, Any]]:
    """The samples of shards, one after the other: `__key__`, `__url__`, and its members by what follows their key.

    A picture is {"path", "bytes"}. A member that cannot be decoded stays bytes. Where a shard is damaged, a row with
    `FAULT` stands for what cannot be found in it.
    """
    for path in paths:
        last = None
        try:
            with tarfile.open(path) as shard:
                for sample in _samples(path, shard):
                    last = sample["__key__"]
                    yield sample
        except (OSError, EOFError, tarfile.TarError, zlib.error, LZMAError) as error:
            yield {"__url__": path, FAULT: f"it is damaged, and what follows sample {last!r} is lost ({error})"}


def _samples(path: str, shard: tarfile.TarFile) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    for member in shard:
        found = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name)
        if not member.isreg() or not found or PurePosixPath(member.name).name.startswith((".", "__")):
            continue
        key, name = found.groups()
        if sample and sample["__key__"] != key:
            yield sample
            sample = {}
        content = _decoded(member.name, name, shard.extractfile(member).read())
        shard.members = []  # or all of them would be remembered
        if name in sample:
            content, name = f"it holds two members {name!r}", FAULT
        sample |= {"__key__": key, "__url__": path, name: content}
    _check_end(shard)  # or the last sample may be a part of one
    if sample:
        yield sample


def _decoded(path: str, name: str, content: bytes) -> Any:
    ending = name.rpartition(".")[2].lower()
    if f".{ending}" in Image.registered_extensions():
        return {"path": path, "bytes": content}
    try:
        return DECODERS.get(ending, bytes)(content)
    except ValueError:
        return content


def _check_end(shard: tarfile.TarFile) -> None:
    """A damaged header looks like the end to `tarfile`; the true end is a block of zeros, or that of the file."""
    shard.fileobj.seek(shard.offset)
    if shard.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header cannot be read")
