"""PocketWorld as Hugging Face datasets."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .records import SPLITS, metadata_of, objects_of, pictures

Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of record: the rows of some indices of a split, and the Arrow features that hold them."""

    rows: Callable[[str, int, list[int], int], Iterator[Row]]  # (split, size, indices, seed)
    features: Callable[[int], Any]  # size -> datasets.Features


def load_pocketworld(
    kind: str = "image",
    split: str = "train",
    size: int = 64,
    num_samples: int = 1000,
    seed: int = 0,
    streaming: bool = False,
    num_proc: int | None = None,
):
    """The first `num_samples` records of a split of PocketWorld.

    Args:
        kind: "image".
        split: "train" (no held-out colour-shape pair appears), "train_all" (all pairs), "validation" or "test".
        size: pixels a side, at least 16.
        num_samples: records, at least 1. Record i is the same whatever `num_samples`.
        seed: another seed is another world of the same kind.
        streaming: True makes records as they are read and keeps none; else they are made once and cached.
        num_proc: processes that make the records (not with `streaming`).

    Returns:
        `datasets.Dataset`, or `datasets.IterableDataset` when streaming, with the columns
        `index`; `image` (PIL, RGB); `mask` (PIL, L: 0 ground and sky, k + 1 object k); `caption`; `tag` (GenEval's
        task type); `metadata` (JSON: GenEval's clauses, proved by boxes and masks); `objects` (shape, color, size,
        position, yaw, box as x0 y0 x1 y1 in pixels, visibility in [0, 1]).

    Raises:
        ValueError: an argument out of range, naming it.
        ImportError: without the `train` extra.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}.")
    if size < 16:
        raise ValueError(f"size is {size}; PocketWorld pictures are at least 16 pixels a side.")
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; it must be at least 1.")
    datasets = import_datasets()
    arguments = {
        "kind": kind,
        "split": split,
        "size": size,
        "seed": seed,
        "world": world_version(),
        "indices": list(range(num_samples)),
    }
    features = KINDS[kind].features(size)
    if streaming:
        return datasets.IterableDataset.from_generator(_rows, features=features, gen_kwargs=arguments)
    return datasets.Dataset.from_generator(
        _rows, features=features, gen_kwargs=arguments, num_proc=num_proc, split=split
    )


def _rows(kind, split, size, seed, world, indices) -> Iterator[Row]:
    del world  # part of the cache's key only
    if torch.utils.data.get_worker_info() is None and _is_worker_process():
        torch.set_num_threads(1)
    yield from KINDS[kind].rows(split, size, indices, seed)


def _is_worker_process() -> bool:
    import multiprocess

    return multiprocess.parent_process() is not None


def world_version() -> str:
    """A digest of the code that makes the world, so that a cache of an older world is not taken for this one."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def import_datasets():
    """The `datasets` library, or an ImportError that names the extra which brings it."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError("PocketWorld needs the train extra: pip install 'pocket-diffusers[train]'") from error
    return datasets


def _image_rows(split: str, size: int, indices: list[int], seed: int) -> Iterator[Row]:
    from PIL import Image

    for picture in pictures(split, size, indices, seed):
        yield {
            "index": picture.index,
            "image": Image.fromarray(picture.rgb),
            "mask": Image.fromarray(picture.instances),
            "caption": picture.caption,
            "tag": picture.description.tag,
            "metadata": metadata_of(picture.description, picture.caption),
            "objects": objects_of(picture),
        }


def _image_features(size: int):
    datasets = import_datasets()
    number = datasets.Value
    return datasets.Features(
        {
            "index": number("int64"),
            "image": datasets.Image(),
            "mask": datasets.Image(),
            "caption": number("string"),
            "tag": number("string"),
            "metadata": number("string"),
            "objects": datasets.List(
                {
                    "shape": number("string"),
                    "color": number("string"),
                    "size": number("string"),
                    "position": datasets.List(number("float32"), length=3),
                    "yaw": number("float32"),
                    "box": datasets.List(number("float32"), length=4),
                    "visibility": number("float32"),
                }
            ),
        }
    )


KINDS: dict[str, Kind] = {"image": Kind(_image_rows, _image_features)}
