"""Records of PocketWorld: pictures and clips of a scene, each with a caption that its own boxes and masks prove."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ....pipelines.inputs import check_choice, check_count
from .cameras import DEFAULT_VIEWPOINT, PATHS, CameraPath, default_camera, planar_grid, ring
from .captions import caption
from .descriptions import TAGS, Description
from .placement import sample_scene, set_in_motion
from .plans import sample_plan
from .render import Rendering, render
from .scene import ALL_PAIRS, SEEN_PAIRS, Scene
from .truth import describes, exact_relation
from .vocabulary import Motions

# The number seeds the split's own stream of scenes; `train` never shows a held-out colour-shape pair.
SPLITS = {"train": 1, "train_all": 2, "validation": 3, "test": 4}
MIN_SIZE = 16  # pixels
MIN_VISIBILITY = 0.5

VIDEO_FRAMES, VIDEO_SECONDS = 16, 2.0
RING_VIEWS = 16  # of `multiview`, evenly around the scene
GRID_SIDE, GRID_SPACING = 5, 0.1  # of `lightfield`: cameras a side, and scene units between neighbours
GRID_CENTRE = GRID_SIDE**2 // 2

PICTURE_BLOCK, CLIP_BLOCK = 128, 16  # records that are made together
_MAX_ATTEMPTS = 5000
_TAG_DRAW, _CAMERA_DRAW = 1 << 31, (1 << 31) + 1  # seeds beside the attempts 0, 1, 2, ...


@dataclass(frozen=True)
class Draft:
    """A scene and what is to be said of it, before a picture has proved it; `rng` draws all that is still open."""

    description: Description
    scene: Scene
    rng: np.random.Generator

    @property
    def groups(self) -> list[range]:
        """The objects of each include clause."""
        ends = np.cumsum([clause.count for clause in self.description.include]).tolist()
        return [range(end - clause.count, end) for clause, end in zip(self.description.include, ends, strict=True)]

    def is_proved_by(self, visibility: np.ndarray, boxes: np.ndarray) -> bool:
        """Whether a picture with these [N] visibilities and [N, 4] boxes shows exactly what is claimed."""
        count = len(self.scene.objects)
        if visibility[:count].min() < MIN_VISIBILITY or (boxes[:count, 2] <= boxes[:count, 0]).any():
            return False
        seen = zip(self.scene.objects, boxes[:count].tolist(), strict=True)
        objects = [(obj.shape, obj.color, tuple(box)) for obj, box in seen]
        relation = relation_of(self.description)
        if relation is not None and exact_relation(objects[1][2], objects[0][2]) != relation:
            return False
        return describes(self.description, objects, exact=True)


@dataclass(frozen=True)
class Picture:
    """One proven picture of a still scene by the default camera.

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


@dataclass(frozen=True)
class Clip:
    """One proven record of T frames or views of a scene.

    Attributes:
        index: position in its split.
        scene: with the motions of its objects.
        motions: the motion program, or None, that `caption` says of each include clause.
        camera: what `path` is: "ring", "grid" or one of `cameras.PATHS`.
        path: viewmats [T, 4, 4], Ks [T, 3, 3] and times [T].
        rgb: [T, size, size, 3] uint8.
        instances: [T, size, size] uint8; 0 is ground and sky, k + 1 is object k of the scene.
        depths: [T, size, size] float32 along the camera's z axis, in scene units; 0 where there is none.
        boxes: [T, objects, 4] float32, x0 y0 x1 y1 in pixels around each object's visible pixels.
        visibility: [T, objects] float32, share of each outline that is seen.
        caption: English, provable by `description` and `motions`.
    """

    index: int
    scene: Scene
    description: Description
    motions: Motions
    caption: str
    camera: str
    path: CameraPath
    rgb: np.ndarray
    instances: np.ndarray
    depths: np.ndarray
    boxes: np.ndarray
    visibility: np.ndarray


def pictures(split: str, size: int, indices: Sequence[int], seed: int = 0) -> Iterator[Picture]:
    """The picture records of `split` at `indices`, in that order; each depends on (seed, split, index, size) alone.

    Raises:
        ValueError: an unknown split, a size below 16 pixels or a negative seed or index.
    """
    return _records(_Request(split, size, seed), indices, PICTURE_BLOCK, _picture)


def clips(kind: str, split: str, size: int, indices: Sequence[int], seed: int = 0) -> Iterator[Clip]:
    """The records of `split` at `indices` of a kind with several frames or views, in that order.

    Record i depends on (kind, seed, split, i, size) alone. View 0 of a "multiview" record, the middle view of a
    "lightfield" record and picture i are one. Every frame of a "video" or "rgbd_video" record proves its caption.

    Args:
        kind: one of `CLIP_KINDS`.

    Raises:
        ValueError: an unknown kind or split, a size below 16 pixels or a negative seed or index.
    """
    plan_shot = _SHOTS[check_choice("kind", kind, CLIP_KINDS)]

    def shoot(request: "_Request", index: int, draft: Draft, *_) -> Clip | None:
        shot = plan_shot(request, index, draft)
        return shot and _clip(request, index, draft, shot)

    return _records(_Request(split, size, seed), indices, CLIP_BLOCK, shoot)


class _Request(NamedTuple):
    split: str
    size: int
    seed: int


Record = TypeVar("Record")
Finish = Callable[[_Request, int, Draft, Rendering, int, np.ndarray], Record | None]


def _records(request: _Request, indices: Sequence[int], block: int, finish: Finish) -> Iterator[Record]:
    indices = list(indices)
    check_request(request.split, request.size, request.seed)
    if indices and min(indices) < 0:
        raise ValueError(f"indices must not be negative, but one is {min(indices)}.")
    return (
        record
        for start in range(0, len(indices), block)
        for record in _block(request, indices[start : start + block], finish)
    )


def check_request(split: str, size: int, seed: int) -> None:
    """Raise ValueError for an unknown split, a size below 16 pixels or a negative seed."""
    check_choice("split", split, tuple(SPLITS))
    if check_count("size", size) < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, not {size}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, not {seed!r}.")


def _block(request: _Request, indices: Sequence[int], finish: Finish) -> list[Record]:
    """Every index tries draft after draft of its own stream until a picture proves it and `finish` makes a record."""
    camera = default_camera(request.size)
    done: dict[int, Record] = {}
    streams = {index: _drafts(request, index) for index in indices}
    while streams:
        drafts = {index: next(stream) for index, stream in streams.items()}
        rendering = render([draft.scene for draft in drafts.values()], *camera, request.size)
        boxes = boxes_of(rendering)
        for row, (index, draft) in enumerate(drafts.items()):
            if draft.is_proved_by(rendering.visibility[row].numpy(), boxes[row]):
                record = finish(request, index, draft, rendering, row, boxes[row])
                if record is not None:
                    done[index] = record
                    del streams[index]
    return [done[index] for index in indices]


def _drafts(request: _Request, index: int) -> Iterator[Draft]:
    tag = TAGS[_fixed_draw(request, index, _TAG_DRAW, len(TAGS))]
    pairs = SEEN_PAIRS if request.split == "train" else ALL_PAIRS
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng([request.seed, SPLITS[request.split], index, attempt])
        description, objects = sample_plan(rng, tag, pairs)
        scene = sample_scene(rng, objects, relation_of(description))
        if scene is not None:
            yield Draft(description, scene, rng)
    raise RuntimeError(f"no scene of split {request.split!r} fits index {index} after {_MAX_ATTEMPTS} attempts.")


def _fixed_draw(request: _Request, index: int, stream: int, options: int) -> int:
    """A number below `options` that is fixed over attempts, so that rejection never skews its spread."""
    return int(np.random.default_rng([request.seed, SPLITS[request.split], index, stream]).integers(options))


def relation_of(description: Description) -> str | None:
    """The relation that a position description claims of its second clause to its first, else None."""
    return description.include[1].position[0] if description.tag == "position" else None


def boxes_of(rendering: Rendering) -> np.ndarray:
    """Pixel boxes of what is seen of every object.

    Returns:
        [B, N, 4] float32 x0 y0 x1 y1; x1 and y1 are one past the last pixel; all 0 for an object not seen.
    """
    instances, count = rendering.instances.numpy(), rendering.visibility.shape[1]
    boxes = np.zeros((len(instances), count, 4), np.float32)
    for n in range(count):
        mask = instances == n
        for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
            line = mask.any(axis=axis)
            length = line.shape[1]
            boxes[:, n, low] = np.where(line.any(1), line.argmax(1), 0)
            boxes[:, n, high] = np.where(line.any(1), length - line[:, ::-1].argmax(1), 0)
    return boxes


def _picture(request, index, draft, rendering, row, boxes) -> Picture:
    count = len(draft.scene.objects)
    return Picture(
        index=index,
        scene=draft.scene,
        description=draft.description,
        caption=caption(draft.description, draft.rng),
        rgb=_rgb_bytes(rendering.rgb[row]),
        instances=_instance_bytes(rendering.instances[row]),
        boxes=boxes[:count],
        visibility=rendering.visibility[row, :count].numpy(),
    )


def _rgb_bytes(rgb: Float[Tensor, "*batch 3 height width"]) -> np.ndarray:
    """[..., H, W, 3] uint8."""
    return (rgb * 255).round().to(torch.uint8).movedim(-3, -1).contiguous().numpy()


def _instance_bytes(instances: Tensor) -> np.ndarray:
    return (instances + 1).to(torch.uint8).numpy()


# Shots: how a proven still scene becomes a clip


class _Shot(NamedTuple):
    """A scene to film, what is said of its motion, and which frames must prove the caption."""

    scene: Scene
    motions: Motions
    camera: str
    path: CameraPath
    proving: Sequence[int] = ()  # the still picture has proved views of the same camera and moment


def _multiview(request: _Request, index: int, draft: Draft) -> _Shot:
    return _still_shot(draft, "ring", ring(RING_VIEWS), request.size)


def _lightfield(request: _Request, index: int, draft: Draft) -> _Shot:
    return _still_shot(draft, "grid", planar_grid(GRID_SIDE, GRID_SIDE, GRID_SPACING).flatten(0, 1), request.size)


def _still_shot(draft: Draft, camera: str, viewmats: Tensor, size: int) -> _Shot:
    Ks = DEFAULT_VIEWPOINT.intrinsics(size).repeat(len(viewmats), 1, 1)
    motions = (None,) * len(draft.groups)
    return _Shot(draft.scene, motions, camera, CameraPath(viewmats, Ks, torch.zeros(len(viewmats))))


def _video(request: _Request, index: int, draft: Draft) -> _Shot | None:
    return _moving_shot(draft, "still", request.size)


def _rgbd_video(request: _Request, index: int, draft: Draft) -> _Shot | None:
    return _moving_shot(draft, tuple(PATHS)[_fixed_draw(request, index, _CAMERA_DRAW, len(PATHS))], request.size)


def _moving_shot(draft: Draft, camera: str, size: int) -> _Shot | None:
    """All the objects of one clause or of each move; None where they have no room."""
    groups = draft.groups
    moving = groups if len(groups) == 1 or draft.rng.random() < 0.5 else [groups[int(draft.rng.integers(2))]]
    scene = set_in_motion(draft.rng, draft.scene, moving, VIDEO_SECONDS)
    if scene is None:
        return None
    frozen = camera == "frozen_orbit"  # one moment shows no motion, so that none is said
    when = {"time": draft.rng.uniform(0, VIDEO_SECONDS)} if frozen else {"duration": VIDEO_SECONDS}
    motions = (None,) * len(groups) if frozen else tuple(_program(scene, group) for group in groups)
    path = PATHS[camera](VIDEO_FRAMES, size, **when)
    return _Shot(scene, motions, camera, path, range(VIDEO_FRAMES))


def _program(scene: Scene, group: Sequence[int]) -> str | None:
    motion = scene.objects[group[0]].motion
    return motion and motion.program


_SHOTS = {"video": _video, "multiview": _multiview, "lightfield": _lightfield, "rgbd_video": _rgbd_video}
CLIP_KINDS = tuple(_SHOTS)


def _clip(request: _Request, index: int, draft: Draft, shot: _Shot) -> Clip | None:
    """The clip of a shot, None if a frame that must prove the caption does not."""
    frames, count = len(shot.path.times), len(shot.scene.objects)
    rendering = render([shot.scene] * frames, shot.path.viewmats, shot.path.Ks, request.size, shot.path.times.tolist())
    visibility, boxes = rendering.visibility.numpy(), boxes_of(rendering)
    if not all(draft.is_proved_by(visibility[frame], boxes[frame]) for frame in shot.proving):
        return None
    return Clip(
        index=index,
        scene=shot.scene,
        description=draft.description,
        motions=shot.motions,
        caption=caption(draft.description, draft.rng, shot.motions),
        camera=shot.camera,
        path=shot.path,
        rgb=_rgb_bytes(rendering.rgb),
        instances=_instance_bytes(rendering.instances),
        depths=rendering.depth.numpy(),
        boxes=boxes[:, :count],
        visibility=visibility[:, :count],
    )


# What loaders write of a record


def metadata_of(record: Picture | Clip) -> str:
    """GenEval's metadata of a record as JSON, with its own caption as prompt; of a clip also its `motions`."""
    motions = {"motions": list(record.motions)} if isinstance(record, Clip) else {}
    return json.dumps({**record.description.to_metadata(record.caption), **motions})


def objects_of(record: Picture | Clip) -> list[dict[str, Any]]:
    """The scene's objects as plain rows.

    Of a picture: shape, color, size, position, yaw, box [4], visibility. Of a clip: motion (its program or None)
    too, and boxes [T][4] and visibility [T] of every frame.
    """
    if isinstance(record, Picture):
        seen = zip(record.boxes.tolist(), record.visibility.tolist(), strict=True)
        shown = [{"box": box, "visibility": share} for box, share in seen]
    else:
        seen = zip(record.boxes.swapaxes(0, 1).tolist(), record.visibility.T.tolist(), strict=True)
        shown = [{"boxes": boxes, "visibility": shares} for boxes, shares in seen]
        for row, obj in zip(shown, record.scene.objects, strict=True):
            row["motion"] = obj.motion and obj.motion.program
    return [
        {"shape": obj.shape, "color": obj.color, "size": obj.size, "position": [*obj.position], "yaw": obj.yaw, **row}
        for obj, row in zip(record.scene.objects, shown, strict=True)
    ]
