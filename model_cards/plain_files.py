"""Copies of files that will be published: what lies in a folder itself, and nothing that a link there points to."""

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

Ignore = Callable[[str, list[str]], Collection[str]]
"""What `shutil.copytree` takes: (folder, names in it) -> names to leave out."""


def copy_plain(source: Path, target: Path, ignore: Ignore | None = None) -> None:
    """Copies a file or a folder, whose links are looked for before anything is copied.

    Raises:
        ValueError: for a link: its target may be a secret that nobody means to publish.
        OSError: when something cannot be read or written.
    """
    refuse_links(source, ignore)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=ignore)
    else:
        shutil.copyfile(source, target, follow_symlinks=False)


def refuse_links(source: Path, ignore: Ignore | None = None) -> None:
    """Refuses a file that is a link, and a folder with links anywhere below; the folder itself may be reached by one.

    Raises:
        ValueError: naming the first link, by its path, and where it points.
    """
    if not source.is_dir():
        _refuse_link(source)
    for folder, folders, files in os.walk(source):
        left_out = set(ignore(folder, folders + files)) if ignore else set()
        folders[:] = sorted(set(folders) - left_out)
        for name in sorted({*folders, *files} - left_out):
            _refuse_link(Path(folder) / name)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, and links are not published: put the file itself there, "
            "or take the link away."
        )
