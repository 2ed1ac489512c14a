"""PocketWorld as Hugging Face datasets."""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .... import missing_package
from ....pipelines.inputs import check_choice, check_count
from .records import (
    CLIP_BLOCK,
    GRID_SIDE,
    PICTURE_BLOCK,
    RING_VIEWS,
    VIDEO_FRAMES,
    Clip,
    Picture,
    check_request,
    clips,
    metadata_of,
    objects_of,
    pictures,
)

Row = dict[str, Any]


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
        kind: "image", one picture by the default camera; "video", 16 frames of 2 seconds by it, in which objects move;
            "multiview", 16 views on a ring around a still scene; "lightfield", 5 x 5 views on a plane, row by row from
            the top left, rectified; "rgbd_video", like "video" under a moving camera and with depth.
        split: "train" (no held-out colour-shape pair appears), "train_all" (all pairs), "validation" or "test".
        size: pixels a side, at least 16.
        num_samples: records, at least 1. Record i is the same whatever `num_samples`.
        seed: a whole number of at least 0; another seed is another world of the same kind.
        streaming: True makes records as they are read and keeps none; else they are made once and cached.
        num_proc: processes that make the records (not with `streaming`); by default one for each of torch's threads.

    Returns:
        `datasets.Dataset`, or `datasets.IterableDataset` when streaming. Columns of every kind:

        - `index`: i;
        - `caption`: English; `tag`: GenEval's task type;
        - `metadata`: JSON, GenEval's clauses, which boxes and masks prove; but for kind "image" also `motions`, the
          motion program or null that the caption says of each include clause;
        - `objects`: shape, color, size, position, yaw (radians), box (x0 y0 x1 y1 in pixels), visibility (share of the
          outline that is seen); with several frames also motion (its program or null), and boxes and visibility have
          an entry a frame;
        - `scene`: JSON, all that `Scene.from_json` needs to render or mesh the scene at any size, camera and time.

        Kind "image" has `image` (PIL, RGB) and `mask` (PIL, L: 0 ground and sky, k + 1 object k). The others have T of
        each in `images` and `masks`, with their cameras `viewmats` [T, 4, 4] world-to-camera and `Ks` [T, 3, 3] in
        pixels (OpenCV axes); "video" and "rgbd_video" have `times` [T] in seconds; "multiview" and "rgbd_video" have
        `depths` [T, size, size] along z in scene units; "rgbd_video" has `camera`, the name of its path: still, pan,
        orbit, dolly or frozen_orbit (all frames at one moment, so that the caption says no motion).

        `posed_images` turns a row with several views into the `PosedImages` that a `fit` takes.

    Raises:
        ValueError: an argument out of range, naming it.
        ImportError: without the `train` extra.
    """
    check_choice("kind", kind, tuple(KINDS))
    check_request(split, size, seed)
    check_count("num_samples", num_samples)
    datasets = import_datasets()
    block, features = KINDS[kind].block, KINDS[kind].features(size)
    blocks = [range(start, min(start + block, num_samples)) for start in range(0, num_samples, block)]
    request = {"kind": kind, "split": split, "size": size, "seed": seed, "blocks": blocks}
    if streaming:
        return datasets.IterableDataset.from_generator(_rows, features=features, gen_kwargs=request)
    processes = torch.get_num_threads() if num_proc is None else check_count("num_proc", num_proc)
    processes = min(processes, len(blocks))
    return datasets.Dataset.from_generator(
        _rows,
        features=features,
        gen_kwargs={**request, "one_thread": processes > 1},
        num_proc=processes,
        split=split,
        fingerprint=_cache_key(kind, split, size, num_samples, seed),
    )


def _rows(
    kind: str, split: str, size: int, seed: int, blocks: Sequence[range], one_thread: bool = False
) -> Iterator[Row]:
    if one_thread:  # in a process of its own, which shares the processor with its siblings
        torch.set_num_threads(1)
    for block in blocks:
        yield from KINDS[kind].rows(split, size, block, seed)


def _cache_key(*request: Any) -> str:
    return hashlib.sha256(repr((world_version(), *request)).encode()).hexdigest()[:32]


def world_version(folder: Path = Path(__file__).parent) -> str:
    """A digest of the code that makes a world, so that a cache of an older world is not taken for this one."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def import_datasets():
    """The `datasets` library, or an ImportError that names the extra which brings it."""
    try:
        import datasets
    except ImportError as error:
        raise missing_package("PocketWorld", "datasets", "train") from error
    return datasets


@dataclass(frozen=True)
class Kind:
    """One kind of record: the rows of some indices, the features that hold them, and how many are made at once."""

    rows: Callable[[str, int, Sequence[int], int], Iterator[Row]]  # (split, size, indices, seed)
    features: Callable[[int], Any]  # size -> datasets.Features
    block: int


def _image_kind() -> Kind:
    def rows(split: str, size: int, indices: Sequence[int], seed: int) -> Iterator[Row]:
        for picture in pictures(split, size, indices, seed):
            yield {**_told(picture), "image": _png(picture.rgb), "mask": _png(picture.instances)}

    def features(size: int):
        image, value, several = (getattr(import_datasets(), name) for name in ("Image", "Value", "List"))
        seen = {"box": several(value("float32"), length=4), "visibility": value("float32")}
        return _features({"image": image(), "mask": image()}, seen)

    return Kind(rows, features, PICTURE_BLOCK)


def _clip_kind(kind: str, frames: int, times: bool = False, depths: bool = False, camera: bool = False) -> Kind:
    def rows(split: str, size: int, indices: Sequence[int], seed: int) -> Iterator[Row]:
        for clip in clips(kind, split, size, indices, seed):
            row = {
                **_told(clip),
                "images": [_png(image) for image in clip.rgb],
                "masks": [_png(mask) for mask in clip.instances],
                "viewmats": clip.path.viewmats.numpy(),
                "Ks": clip.path.Ks.numpy(),
            }
            extra = {"times": clip.path.times.tolist(), "depths": clip.depths, "camera": clip.camera}
            yield row | {name: extra[name] for name in wanted}

    def features(size: int):
        datasets = import_datasets()
        image, value, several, array = datasets.Image, datasets.Value, datasets.List, datasets.Array3D
        shown = {
            "images": several(image(), length=frames),
            "masks": several(image(), length=frames),
            "viewmats": array((frames, 4, 4), "float32"),
            "Ks": array((frames, 3, 3), "float32"),
        }
        extra = {
            "times": several(value("float32"), length=frames),
            "depths": array((frames, size, size), "float32"),
            "camera": value("string"),
        }
        seen = {
            "motion": value("string"),
            "boxes": several(several(value("float32"), length=4), length=frames),
            "visibility": several(value("float32"), length=frames),
        }
        return _features(shown | {name: extra[name] for name in wanted}, seen)

    wanted = [name for name, given in (("times", times), ("depths", depths), ("camera", camera)) if given]
    return Kind(rows, features, CLIP_BLOCK)


def _told(record: Picture | Clip) -> Row:
    """What words say of a record."""
    return {
        "index": record.index,
        "caption": record.caption,
        "tag": record.description.tag,
        "metadata": metadata_of(record),
        "objects": objects_of(record),
        "scene": record.scene.to_json(),
    }


def _features(shown: dict[str, Any], seen: dict[str, Any]):
    """Features of all columns: `shown` are those of the kind, `seen` what its pictures show of each object."""
    datasets = import_datasets()
    word, number = datasets.Value("string"), datasets.Value("float64")
    thing = {"shape": word, "color": word, "size": word, "position": datasets.List(number, length=3), "yaw": number}
    return datasets.Features(
        {
            "index": datasets.Value("int64"),
            **shown,
            "caption": word,
            "tag": word,
            "metadata": word,
            "objects": datasets.List(thing | seen),
            "scene": word,
        }
    )


def _png(pixels: np.ndarray) -> dict[str, Any]:
    """An [H, W] or [H, W, 3] uint8 picture as `datasets` stores it; the least compression is many times faster."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


KINDS: dict[str, Kind] = {
    "image": _image_kind(),
    "video": _clip_kind("video", VIDEO_FRAMES, times=True),
    "multiview": _clip_kind("multiview", RING_VIEWS, depths=True),
    "lightfield": _clip_kind("lightfield", GRID_SIDE**2),
    "rgbd_video": _clip_kind("rgbd_video", VIDEO_FRAMES, times=True, depths=True, camera=True),
}
