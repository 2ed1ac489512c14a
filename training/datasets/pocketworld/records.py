"""Picture records: one scene each, with a caption that its own boxes and masks prove."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .cameras import default_camera
from .captions import TAGS, Description, caption, describes, exact_relation, sample_plan
from .render import Rendering, render
from .scene import ALL_PAIRS, SEEN_PAIRS, Scene, sample_scene

# The number seeds the split's own stream of scenes; `train` never shows a held-out colour-shape pair.
SPLITS = {"train": 1, "train_all": 2, "validation": 3, "test": 4}
MIN_VISIBILITY = 0.5
_BLOCK = 128  # scenes rendered together
_MAX_ATTEMPTS = 200


@dataclass(frozen=True)
class Draft:
    """A scene and what is to be said of it, before a picture has proved it."""

    description: Description
    scene: Scene


@dataclass(frozen=True)
class Picture:
    """One proven record.

    Attributes:
        index: position in its split.
        rgb: [size, size, 3] uint8.
        instances: [size, size] uint8; 0 is ground and sky, k + 1 is object k of the scene.
        boxes: [objects, 4] float32, x0 y0 x1 y1 in pixels around each object's visible pixels.
        visibility: [objects] float32, share of each outline that is seen.
        caption: English, provable by `description`.
    """

    index: int
    scene: Scene
    description: Description
    caption: str
    rgb: np.ndarray
    instances: np.ndarray
    boxes: np.ndarray
    visibility: np.ndarray


def pictures(split: str, size: int, indices: Sequence[int], seed: int = 0) -> Iterator[Picture]:
    """The records of `split` at `indices`, in that order; each depends on (seed, split, index, size) alone.

    Raises:
        ValueError: unknown split or a size below 16 pixels.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}.")
    if size < 16:
        raise ValueError(f"size is {size}; PocketWorld pictures are at least 16 pixels a side.")
    indices = list(indices)
    for start in range(0, len(indices), _BLOCK):
        yield from _block(split, size, indices[start : start + _BLOCK], seed)


def _block(split, size, indices, seed) -> list[Picture]:
    """Every index tries scene after scene of its own stream until a picture proves its caption."""
    camera = default_camera(size)
    done: dict[int, Picture] = {}
    streams = {index: _drafts(split, index, seed) for index in indices}
    while streams:
        drafts = {index: next(stream) for index, stream in streams.items()}
        rendering = render([draft.scene for draft, _ in drafts.values()], *camera, size)
        boxes = boxes_of(rendering.instances.numpy(), rendering.visibility.shape[1])
        for row, (index, (draft, rng)) in enumerate(drafts.items()):
            if _proves(draft, rendering.visibility[row].numpy(), boxes[row]):
                done[index] = _picture(index, draft, rng, rendering, row, boxes[row])
                del streams[index]
    return [done[index] for index in indices]


def _drafts(split, index, seed):
    """Endless (draft, rng) for one index; the rng goes on to word the caption."""
    pairs = SEEN_PAIRS if split == "train" else ALL_PAIRS
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng([seed, SPLITS[split], index, attempt])
        tag = TAGS[rng_choice(index, seed, split)]
        description, objects = sample_plan(rng, tag, pairs)
        scene = sample_scene(rng, objects, relation_of(description))
        if scene is not None:
            yield Draft(description, scene), rng
    raise RuntimeError(f"no scene of split {split!r} fits index {index} after {_MAX_ATTEMPTS} attempts.")


def rng_choice(index: int, seed: int, split: str) -> int:
    """The tag number of an index: fixed over attempts, so that rejection never skews the six types."""
    return int(np.random.default_rng([seed, SPLITS[split], index, 1 << 31]).integers(len(TAGS)))


def relation_of(description: Description) -> str | None:
    """The relation that a position description claims of its second clause to its first, else None."""
    return description.include[1].position[0] if description.tag == "position" else None


def _proves(draft: Draft, visibility: np.ndarray, boxes: np.ndarray) -> bool:
    count = len(draft.scene.objects)
    if visibility[:count].min() < MIN_VISIBILITY or (boxes[:count, 2] <= boxes[:count, 0]).any():
        return False
    objects = [(o.shape, o.color, tuple(box)) for o, box in zip(draft.scene.objects, boxes[:count].tolist(), strict=True)]
    relation = relation_of(draft.description)
    if relation is not None and exact_relation(objects[1][2], objects[0][2]) != relation:
        return False
    return describes(draft.description, objects, exact=True)


def boxes_of(instances: np.ndarray, count: int) -> np.ndarray:
    """Pixel boxes of instance maps.

    Args:
        instances: [B, H, W] integers, -1 for no object.
        count: N, the largest number of objects a map holds.

    Returns:
        [B, N, 4] float32 x0 y0 x1 y1; x1 and y1 are one past the last pixel; all 0 for an object not seen.
    """
    boxes = np.zeros((len(instances), count, 4), np.float32)
    for n in range(count):
        mask = instances == n
        for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
            line = mask.any(axis=axis)
            length = line.shape[1]
            boxes[:, n, low] = np.where(line.any(1), line.argmax(1), 0)
            boxes[:, n, high] = np.where(line.any(1), length - line[:, ::-1].argmax(1), 0)
    return boxes


def _picture(index, draft, rng, rendering: Rendering, row, boxes) -> Picture:
    count = len(draft.scene.objects)
    return Picture(
        index=index,
        scene=draft.scene,
        description=draft.description,
        caption=caption(draft.description, rng),
        rgb=to_uint8(rendering.rgb[row]),
        instances=(rendering.instances[row] + 1).to(torch.uint8).numpy(),
        boxes=boxes[:count],
        visibility=rendering.visibility[row, :count].numpy(),
    )


def to_uint8(rgb: torch.Tensor) -> np.ndarray:
    """[3, H, W] in [0, 1] to [H, W, 3] uint8."""
    return (rgb * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def metadata_of(description: Description, text: str) -> str:
    """GenEval's metadata record of a description as JSON, with the record's own caption as prompt."""
    return json.dumps(description.to_metadata(text))


def objects_of(picture: Picture) -> list[dict[str, Any]]:
    """The scene's objects as plain rows: shape, color, size, position, yaw, box, visibility."""
    return [
        {
            "shape": obj.shape,
            "color": obj.color,
            "size": obj.size,
            "position": list(obj.position),
            "yaw": obj.yaw,
            "box": box.tolist(),
            "visibility": float(seen),
        }
        for obj, box, seen in zip(picture.scene.objects, picture.boxes, picture.visibility, strict=True)
    ]
