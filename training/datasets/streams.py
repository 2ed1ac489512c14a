"""Batches without end: of indices into data in memory, or of a source that does not fit there."""

import glob
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import default_collate

from ...pipelines.fitting.loop import Batches
from ...pipelines.repository import is_local_path
from .bad_rows import SkippedRows, good_rows, reading
from .local_files import picture_files, shard_files
from .pocketworld.loading import import_datasets
from .shards import shard_rows

SHUFFLE_BUFFER = 1000  # rows that a stream holds back to draw from


def shuffled_batches(
    count: int, batch_size: int, seed: int, micro_steps: int = 1
) -> Callable[[int, int, int], Iterator[Int[Tensor, " batch"]]]:
    """`Batches` of indices into `count` items: every epoch is its own permutation, made from (seed, epoch) alone.

    Each process takes its own part of a global batch, so `world` processes see world * batch_size items a micro step.

    Args:
        count: items, at least 1.
        batch_size: of one process.
        seed: another seed is another order.
        micro_steps: batches in an optimizer step.
    """

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))

    def batches(start: int, rank: int, world: int) -> Iterator[Tensor]:
        position = (start * micro_steps * world + rank) * batch_size
        while True:
            wanted = torch.arange(position, position + batch_size)
            epochs = wanted // count
            yield torch.cat([order(epoch)[wanted[epochs == epoch] % count] for epoch in epochs.unique().tolist()])
            position += world * batch_size

    return batches


def streamed_batches(
    source: str,
    read: Callable[[dict[str, Any]], tuple],
    batch_size: int,
    seed: int,
    split: str = "train",
    micro_steps: int = 1,
    skipped: SkippedRows | None = None,
) -> Batches:
    """`Batches` of what `read` makes of the rows of a source: tensors stacked, numbers as one tensor, texts as a list.

    Rows are read in threads, one batch ahead. Each epoch shuffles the order of the source's files and draws from a
    buffer of `SHUFFLE_BUFFER` rows. A resumed run reads past the rows that it has seen without decoding them.

    Args:
        source: a dataset id on the Hub; a folder in the `imagefolder` layout (pictures, and either metadata.jsonl with
            `file_name` and `text` or a subfolder a class; `local_files.picture_files` says what its splits are); or
            webdataset shards as a path with or without a glob, such as "shards/*.tar" (members `.jpg` or `.png`, and
            `.txt` or `.cls`).
        read: makes a tuple of a row whose pictures are not decoded, such as `captioned_images.captioned_picture` does.
        batch_size: rows a batch.
        seed: another seed is another order.
        split: of the dataset; a folder without folders of splits, and shards, are whatever split is asked for.
        micro_steps: batches in an optimizer step.
        skipped: counts rows that cannot be read, in whose place the next good row stands; None stops at the first.

    Raises:
        FileNotFoundError: a local source that is not there, at once.
        ValueError: a source without rows, or a row that `read` refuses, when it is read; names the row.
        OSError: a picture that is none, when it is read; names the row.
    """
    rows = open_stream(source, split)

    def batches(start: int, rank: int, world: int) -> Iterator[tuple]:
        unseen = islice(enumerate(endless(rows, source, seed, rank, world)), start * micro_steps * batch_size, None)
        good = good_rows(_ahead(reading(read), unseen, batch_size), skipped)
        while True:
            yield tuple(default_collate(list(column)) for column in zip(*islice(good, batch_size), strict=True))

    return batches


def _ahead(read: Callable[[Any], Any], rows: Iterator[Any], count: int) -> Iterator[Any]:
    """What `read` makes of rows, in their order, by threads that are up to `count` rows ahead."""
    with ThreadPoolExecutor() as threads:
        waiting = threads.map(read, islice(rows, count))
        while True:
            following = threads.map(read, islice(rows, count))
            yield from waiting
            waiting = following


def open_stream(source: str, split: str = "train"):
    """A streaming dataset, its pictures not decoded, of what `streamed_batches` takes.

    Raises:
        FileNotFoundError: a local source that is not there.
        ValueError: a folder of splits without this one.
    """
    load = partial(import_datasets().load_dataset, split=split, streaming=True)
    if Path(source).is_dir():
        rows = load("imagefolder", data_files=picture_files(source, split))
    elif "://" not in source and (source.endswith(".tar") or glob.has_magic(source)):
        paths = shard_files(source)
        rows = import_datasets().IterableDataset.from_generator(shard_rows, gen_kwargs={"paths": paths})
    elif source.endswith(".tar") or glob.has_magic(source):
        rows = load("webdataset", data_files={split: source})
    elif "://" not in source and is_local_path(source):
        raise FileNotFoundError(f"source {source!r} is no folder; give a folder, 'shards/*.tar' or a dataset id")
    else:
        rows = load(source)
    return rows.decode(False) if rows.features else rows


def endless(rows, source: str, seed: int, rank: int, world: int) -> Iterator[dict[str, Any]]:
    """This process's rows, epoch after epoch."""
    from datasets.distributed import split_dataset_by_node

    for epoch in range(1 << 31):
        shuffled = rows.shuffle(seed=seed * 1_000_003 + epoch, buffer_size=SHUFFLE_BUFFER)
        is_empty = True
        for row in split_dataset_by_node(shuffled, rank, world):
            is_empty = False
            yield row
        if is_empty:
            raise ValueError(f"source {source!r} holds no rows for process {rank} of {world}")
