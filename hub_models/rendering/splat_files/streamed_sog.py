"""Streamed SOG of PlayCanvas: a tree over the scene whose leaves own ranges of SOG scenes for each level of detail.

Read as its specification says (splat-transform, guides/STREAMED_SOG_FORMAT.md): level 0 is the finest, a leaf without a
level has no Gaussian there, and the environment, such as a sky, belongs to every level.
"""

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import torch

from ..gaussians import Gaussians
from . import sog
from .sog_meta import Meta

META = "lod-meta.json"


def read(source: str | os.PathLike, level: int = 0) -> Gaussians:
    """Gaussians of one level of detail.

    Args:
        source: lod-meta.json, or its folder.
        level: 0 for the finest, up to the number of levels - 1.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such scene, or has no such level, or one of its files is missing or damaged.
    """
    path = Path(source)
    path = path / META if path.is_dir() else path
    meta = Meta.read(path)
    if "version" in meta:
        meta.expect("version", 1)
    levels = meta.whole("lodLevels", 1)
    if not 0 <= level < levels:
        raise ValueError(f"level must be from 0 to {levels - 1}, the levels of {path}, not {level}.")
    files = meta.files("filenames")
    if len(set(files)) < len(files):
        raise ValueError(f"{path} must name each file once, but names one of its {len(files):,} files again.")
    leaves = list(_leaves(meta))
    runs = sorted(run for leaf in leaves for run in _runs(leaf, level, len(files)))
    if not runs:
        raise ValueError(f"{path} must hold Gaussians of level {level}, but holds none.")
    missing = sorted({file for file, _, _ in runs if not (path.parent / files[file]).is_file()})
    if missing:
        here = [other for other in range(levels) if _is_here(path, files, leaves, other)]
        raise ValueError(
            f"{path} keeps level {level} in {files[missing[0]]}, which is missing: complete are the levels "
            f"{', '.join(map(str, here)) or 'none'}."
        )
    parts = [_read_runs(path, files[file], list(group)) for file, group in groupby(runs, key=lambda run: run[0])]
    if "environment" in meta:
        parts.append(sog.read(path.parent / meta.file("environment")))
    degree = max(part.sh_degree for part in parts)
    return Gaussians.concatenate([part.with_sh_degree(degree) for part in parts])


def _leaves(meta: Meta) -> Iterator[Meta]:
    """Those of the tree, in order, without recursion: a hostile tree may be deep."""
    waiting = [meta.part("tree")]
    while waiting:
        node = waiting.pop()
        if "children" in node:
            waiting += reversed(list(node.parts("children")))
        elif "lods" in node:
            yield node.part("lods")


def _runs(leaf: Meta, level: int, num_files: int) -> list[tuple[int, int, int]]:
    """File, first Gaussian and the one behind the last, of a level; none or one."""
    if str(level) not in leaf:
        return []
    run = leaf.part(str(level))
    offset = run.whole("offset")
    return [(run.whole("file", 0, num_files - 1), offset, offset + run.whole("count", 1))]


def _is_here(path: Path, files: list[str], leaves: list[Meta], level: int) -> bool:
    named = {files[file] for leaf in leaves for file, _, _ in _runs(leaf, level, len(files))}
    return bool(named) and all((path.parent / file).is_file() for file in named)


def _read_runs(path: Path, file: str, runs: list[tuple[int, int, int]]) -> Gaussians:
    whole = sog.read(path.parent / file)
    ends = [0, *(end for _, _, end in runs)]
    starts = [*(start for _, start, _ in runs), len(whole)]
    if any(end > start for end, start in zip(ends, starts, strict=True)):
        raise ValueError(f"{path} must name ranges of {file} that do not overlap and end at {len(whole):,} Gaussians.")
    if sum(end - start for _, start, end in runs) == len(whole):
        return whole
    return whole.select(torch.cat([torch.arange(start, end) for _, start, end in runs]))
