"""Pictures with captions: PocketWorld's in memory, anybody's as a stream."""

import glob
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from ...pipelines.repository import is_local_path
from .pocketworld import load_pocketworld
from .pocketworld.loading import import_datasets
from .pocketworld.scene import ALL_PAIRS

SHUFFLE_BUFFER = 1000  # rows that a stream holds back to draw from
ALIASES = {"image": ("image", "jpg", "jpeg", "png", "webp"), "text": ("text", "txt")}
"""Names that the columns `image` and `text` may have: those of image folders and of webdataset shards."""


@dataclass(frozen=True)
class CaptionedImages:
    """N square pictures held in memory.

    Attributes:
        pixels: of the pictures.
        captions: N texts.
        metadata: N GenEval records as JSON, what each caption claims.
        pair_maps: 0 where no object is, else 1 + the number of its (color, shape) in `ALL_PAIRS`; None where it is
            not known.
    """

    pixels: UInt8[Tensor, "count 3 size size"]
    captions: Sequence[str]
    metadata: Sequence[str]
    pair_maps: UInt8[Tensor, "count size size"] | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def images(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in [-1, 1]."""
        return self.pixels[indices].float().div_(127.5).sub_(1.0)

    def objects(self, indices: Int[Tensor, " batch"]) -> Bool[Tensor, "batch 1 size size"]:
        """Where an object is seen."""
        return self.pair_maps[indices, None] > 0


def pocketworld_images(split: str, size: int, count: int, seed: int = 0) -> CaptionedImages:
    """The first `count` image records of a split of PocketWorld, made once and cached by `datasets`.

    "one+other" is `count` records of each of two splits, one after the other.
    """
    datasets = import_datasets()
    rows = datasets.concatenate_datasets(
        [load_pocketworld("image", name, size, count, seed) for name in split.split("+")]
    )
    pixels = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    pair_maps = torch.empty((len(rows), size, size), dtype=torch.uint8)
    for i, row in enumerate(rows.select_columns(["image", "mask", "objects"])):
        pixels[i] = torch.from_numpy(np.array(row["image"])).permute(2, 0, 1)
        pair_maps[i] = torch.from_numpy(pair_table(row["objects"])[np.array(row["mask"])])
    return CaptionedImages(pixels, rows["caption"][:], rows["metadata"][:], pair_maps)


def pair_table(objects: Sequence[dict]) -> UInt8[np.ndarray, " objects_and_background"]:
    """Lookup from a mask's values (0, then one per object) to 0 or 1 + the object's number in `ALL_PAIRS`."""
    return np.array([0] + [1 + ALL_PAIRS.index((o["color"], o["shape"])) for o in objects], np.uint8)


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


def stream_captioned_images(
    source: str,
    size: int,
    batch_size: int,
    seed: int,
    image_column: str = "image",
    caption_column: str = "text",
    split: str = "train",
    micro_steps: int = 1,
) -> Callable[[int, int, int], Iterator[tuple[Float[Tensor, "batch 3 size size"], list[str]]]]:
    """`Batches` of (pictures in [-1, 1], captions) from a source that does not fit in memory.

    Pictures are decoded in threads, one batch ahead. Each epoch shuffles the order of the source's files and draws
    from a buffer of `SHUFFLE_BUFFER` rows. A resumed run reads past the rows that it has seen without decoding them.

    Args:
        source: a dataset id on the Hub; a folder in the `imagefolder` layout (pictures, and metadata.jsonl with
            `file_name` and `text`); or webdataset shards as a path with or without a glob, such as "shards/*.tar"
            (members `.jpg` or `.png`, and `.txt`).
        size: pixels a side; pictures are scaled on the short side and cropped in the middle.
        batch_size: pictures a batch.
        seed: another seed is another order.
        image_column, caption_column: of the dataset; "image" and "text" also find their `ALIASES`.
        split: of the dataset; shards and plain folders are "train".
        micro_steps: batches in an optimizer step.

    Raises:
        FileNotFoundError: a local source that is not there, at once.
        ValueError: a source without rows, or a row without picture or caption, when it is read.
        OSError: a picture that is none, when it is read.
    """
    rows = open_stream(source, split)
    decode = partial(_decode, size=size, image_column=image_column, caption_column=caption_column)

    def batches(start: int, rank: int, world: int) -> Iterator[tuple[Tensor, list[str]]]:
        own = endless(rows, source, seed, rank, world)
        unseen = islice(own, start * micro_steps * batch_size, None)
        with ThreadPoolExecutor() as threads:
            decoded = threads.map(decode, islice(unseen, batch_size))
            while True:
                following = threads.map(decode, islice(unseen, batch_size))
                pictures, captions = zip(*decoded, strict=True)
                yield torch.stack(pictures), list(captions)
                decoded = following

    return batches


def open_stream(source: str, split: str = "train"):
    """A streaming dataset, its pictures not decoded, of what `stream_captioned_images` takes."""
    datasets = import_datasets()
    is_url, is_shards = "://" in source, source.endswith(".tar") or glob.has_magic(source)
    if is_shards and not is_url and not glob.glob(source):
        raise FileNotFoundError(f"source {source!r} matches no file; give webdataset shards such as 'shards/*.tar'")
    if not is_shards and not is_url and is_local_path(source) and not Path(source).is_dir():
        raise FileNotFoundError(f"source {source!r} is no folder; give a folder, 'shards/*.tar' or a dataset id")
    if is_shards:
        rows = datasets.load_dataset("webdataset", data_files={split: source}, split=split, streaming=True)
    elif Path(source).is_dir():
        rows = datasets.load_dataset("imagefolder", data_dir=source, split=split, streaming=True)
    else:
        rows = datasets.load_dataset(source, split=split, streaming=True)
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


def _decode(row: dict[str, Any], size: int, image_column: str, caption_column: str) -> tuple[Tensor, str]:
    caption = _value(row, caption_column)
    if not isinstance(caption, str):
        raise ValueError(f"column {caption_column!r} holds {type(caption).__name__}s; captions are texts")
    encoded = _value(row, image_column)
    try:
        picture = import_datasets().Image().decode_example(encoded)
    except OSError as error:
        raise OSError(f"picture {encoded.get('path')!r} of the source cannot be read ({error})") from error
    return center_crop(picture, size), caption


def _value(row: dict[str, Any], column: str) -> Any:
    for name in ALIASES.get(column, (column,)):
        if row.get(name) is not None:
            return row[name]
    raise ValueError(f"a row of the source has no {column!r}; its columns are {', '.join(row)}")


def center_crop(image: Image.Image, size: int) -> Float[Tensor, "3 size size"]:
    """A picture scaled on its short side, cropped in the middle to size x size, in [-1, 1]."""
    image = image.convert("RGB")
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    crop = np.array(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(crop).permute(2, 0, 1).float().div_(127.5).sub_(1.0)
