"""Captures as `transforms*.json`: those of instant-ngp, nerfstudio and Blender's synthetic scenes, read and written."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...pipelines.files import read_json, whole_folder, write_json
from ...pipelines.inputs import ROTATION_TOLERANCE, PosedImages
from ...pipelines.recognition.picture_input import open_picture
from .colmap import MODELS
from .photographs import LARGEST_NUMBER, Lens, Photograph, photographs_of_split
from .sparse_points import SparsePoints, read_points, write_points
from .undistortion import Distortion

SPLIT_FILES = {"train": "transforms_train.json", "validation": "transforms_val.json", "test": "transforms_test.json"}
SPLIT_LISTS = {"train": "train_filenames", "validation": "val_filenames", "test": "test_filenames"}
SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")
"""Of a picture's file, tried in turn where `file_path` leaves its own away."""
OTHER_LENSES = ("is_fisheye", "equirectangular", "latlong", "orthographic", "ftheta_p0")
"""Keys by which instant-ngp says that a camera is no pinhole."""
OPENGL_AXES = (1.0, -1.0, -1.0)
"""OpenGL's x, y and z axes of a camera (right, up, backward) in OpenCV's (right, down, forward)."""


def transforms_files(folder: Path, split: str | None = None) -> list[Path]:
    """Files that describe a split of a capture: `transforms_<split>.json` where it is, else `transforms.json`.

    Without a split `transforms.json`, else the files of all splits. Empty where there are none.
    """
    whole = folder / "transforms.json"
    splits = {name: folder / file for name, file in SPLIT_FILES.items() if (folder / file).is_file()}
    if split in splits:
        return [splits[split]]
    if whole.is_file():
        return [whole]
    if splits and split is not None:
        raise ValueError(f"split is {split!r}, but {folder} has the splits {', '.join(splits)}.")
    return list(splits.values())


def read_transforms(path: str | Path, split: str | None = None) -> tuple[list[Photograph], SparsePoints]:
    """The photographs of a capture in the order of its file, and its points where it names a PLY file of some.

    Read are, of the file or of a frame in it: `file_path` (with and without suffix), `transform_matrix` (camera to
    world, OpenGL axes), `fl_x` and `fl_y` or `camera_angle_x` and `camera_angle_y` (radians), `cx`, `cy`, `w`, `h`,
    `k1`, `k2`, `k3`, `p1`, `p2`, `camera_model`, `mask_path`, `time`, `ply_file_path`, and nerfstudio's lists of the
    pictures of a split.

    Args:
        path: one JSON file, or the folder of `transforms.json` or `transforms_{train,val,test}.json`.
        split: "train", "validation" or "test"; None reads all.

    Returns:
        Photographs; for a split that neither files nor lists name, every eighth is for testing.

    Raises:
        FileNotFoundError: a file is missing, or a picture that it names.
        ValueError: a file is no JSON, or holds what no capture does, naming file and frame.
    """
    path = Path(path)
    files = transforms_files(path, split) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path} holds no transforms.json and no transforms_train.json.")
    photographs, points = [], SparsePoints.none()
    for file in files:
        content = read_json(file, dict)
        taken = _photographs(file, content)
        if split is not None and file.name != SPLIT_FILES[split]:
            taken = _of_split(file, content, taken, split)
        photographs += taken
        if "ply_file_path" in content:
            points = read_points(file.parent / _text(content, "ply_file_path", str(file)))
    return photographs, points


def write_transforms(
    folder: str | Path, posed: PosedImages, points: SparsePoints | None = None, overwrite: bool = False
) -> Path:
    """Writes a capture that `read_transforms` reads, and instant-ngp and nerfstudio with it.

    Args:
        folder: for `transforms.json`, `images/0000.png` and so on, `masks` and `points.ply`, where they are given.
        posed: depths are not kept, and pictures are kept with 8 bits.
        points: of the scene.
        overwrite: replaces a folder that is there.

    Returns:
        The path of `transforms.json`.

    Raises:
        FileExistsError: the folder is there and not empty, and is not to be replaced.
        ValueError: a camera has skew, which the format does not know.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if not overwrite and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: pass overwrite=True to replace it.")
    if (skewed := posed.Ks[:, 0, 1].nonzero()).numel():
        raise ValueError(f"Ks[{int(skewed[0])}] must have no skew: a transforms.json cannot say it.")
    with whole_folder(folder) as draft:
        content = {"camera_model": "PINHOLE", "w": posed.width, "h": posed.height}
        if points is not None:
            write_points(draft / "points.ply", points)
            content["ply_file_path"] = "points.ply"
        content["frames"] = [_written_frame(draft, posed.select([view]), view) for view in range(len(posed))]
        write_json(draft / "transforms.json", content)
    return folder / "transforms.json"


def _photographs(file: Path, content: Mapping[str, Any]) -> list[Photograph]:
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{file} must hold a list of frames, each an object, with at least one.")
    shared = {key: value for key, value in content.items() if key != "frames"}
    frames = {f"{file}: frames[{index}]": {**shared, **frame} for index, frame in enumerate(frames)}
    paths = [_picture(file.parent / _text(frame, "file_path", where)) for where, frame in frames.items()]
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} pictures of {file} are missing, such as {missing[0]}.")
    items = zip(frames.items(), paths, strict=True)
    return [_photograph(file.parent, where, frame, path) for (where, frame), path in items]


def _picture(path: Path) -> Path:
    """With the suffix that its file has, or as it is where there is no such file."""
    places = [Path(f"{path}{suffix}") for suffix in SUFFIXES]
    return next((place for place in places if os.path.isfile(place)), path)


def _photograph(folder: Path, where: str, frame: Mapping[str, Any], path: Path) -> Photograph:
    return Photograph(
        frame["file_path"],
        path,
        _lens(where, frame, path),
        _viewmat(where, frame),
        folder / _text(frame, "mask_path", where) if "mask_path" in frame else None,
        _number(frame, "time", where) if "time" in frame else None,
    )


def _lens(where: str, frame: Mapping[str, Any], path: Path) -> Lens:
    model = frame.get("camera_model", "OPENCV")
    unread = [] if model in list(MODELS) else [f"camera_model {str(model)[:80]}"]
    unread += [key for key in OTHER_LENSES if frame.get(key)]
    unread += ["k4"] if _number(frame, "k4", where, 0.0) else []
    if unread:
        raise ValueError(
            f"{where} has {unread[0]}, which is not read: make pinhole cameras and pictures of it first, as "
            "`colmap image_undistorter` does."
        )
    if "w" in frame and "h" in frame:
        width, height = _number(frame, "w", where), _number(frame, "h", where)
    else:
        with open_picture(where, path) as picture:
            width, height = picture.size
    fx = _focal(where, frame, "x", width)
    fy = _focal(where, frame, "y", height) if {"fl_y", "camera_angle_y"} & frame.keys() else fx
    distortion = {key: _number(frame, key, where, 0.0) for key in ("k1", "k2", "p1", "p2", "k3")}
    cx, cy = _number(frame, "cx", where, width / 2), _number(frame, "cy", where, height / 2)
    lens = Lens(width, height, fx, fy, cx, cy, Distortion(**distortion))
    if fault := lens.fault():
        raise ValueError(f"{where}: its camera {fault}.")
    return lens


def _focal(where: str, frame: Mapping[str, Any], axis: str, side: float) -> float:
    if f"fl_{axis}" in frame:
        return _number(frame, f"fl_{axis}", where)
    if f"camera_angle_{axis}" not in frame:
        raise ValueError(f"{where} has no focal length: it must have fl_{axis} or camera_angle_{axis}.")
    angle = _number(frame, f"camera_angle_{axis}", where)
    if not 0 < angle < math.pi:
        raise ValueError(f"{where}: camera_angle_{axis} must lie between 0 and pi, not {angle}.")
    return side / 2 / math.tan(angle / 2)


def _viewmat(where: str, frame: Mapping[str, Any]) -> Float[Tensor, "4 4"]:
    try:
        matrix = np.array(frame.get("transform_matrix"), np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)) or not (np.abs(matrix) < LARGEST_NUMBER).all():
        raise ValueError(f"{where}: transform_matrix must be 4 x 4 finite numbers.")
    rotation, centre = matrix[:3, :3], matrix[:3, 3]
    orthogonal = np.abs(rotation @ rotation.T - np.eye(3)).max() < ROTATION_TOLERANCE
    if not orthogonal or np.linalg.det(rotation) < 0 or (matrix[3:] != [0, 0, 0, 1]).any():
        raise ValueError(
            f"{where}: transform_matrix must be a rotation (determinant +1) and a translation, with last row 0 0 0 1."
        )
    viewmat = np.eye(4)
    viewmat[:3, :3] = (rotation * OPENGL_AXES).T
    viewmat[:3, 3] = -viewmat[:3, :3] @ centre
    return torch.from_numpy(viewmat)


def _of_split(file: Path, content: Mapping[str, Any], photographs: list[Photograph], split: str) -> list[Photograph]:
    if file.name in SPLIT_FILES.values():
        raise ValueError(f"split is {split!r}, but {file} holds another one.")
    if not content.keys() & set(SPLIT_LISTS.values()):
        return photographs_of_split(photographs, split)
    names = content.get(SPLIT_LISTS[split], [])
    if not isinstance(names, list):
        raise ValueError(f"{file}: {SPLIT_LISTS[split]} must be a list.")
    chosen = [photograph for photograph in photographs if photograph.name in names]
    if not chosen:
        raise ValueError(f"split is {split!r}, but {file} names no picture of it in {SPLIT_LISTS[split]}.")
    return chosen


def _number(values: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST_NUMBER:
        raise ValueError(f"{where}: {key} must be a finite number, not {str(value)[:80]}.")
    return float(value)


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{where}: {key} must be the path of a file, not {str(value)[:80]!r}.")
    return value


def _written_frame(folder: Path, posed: PosedImages, view: int) -> dict[str, Any]:
    """Keeps the picture of a single view, and says where it is and how it was taken."""
    frame: dict[str, Any] = {"file_path": f"images/{view:04}.png"}
    pictures = {"file_path": posed.images[0].mul(255).round().byte().permute(1, 2, 0)}
    if posed.masks is not None:
        frame["mask_path"] = f"masks/{view:04}.png"
        pictures["mask_path"] = posed.masks[0].byte() * 255
    for key, pixels in pictures.items():
        (folder / frame[key]).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.cpu().numpy()).save(folder / frame[key])
    if posed.times is not None:
        frame["time"] = float(posed.times[0])
    places = {"fl_x": (0, 0), "fl_y": (1, 1), "cx": (0, 2), "cy": (1, 2)}
    frame |= {key: float(posed.Ks[0][place]) for key, place in places.items()}
    rotation, translation = posed.viewmats[0, :3, :3].double().cpu(), posed.viewmats[0, :3, 3].double().cpu()
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation.T * torch.tensor(OPENGL_AXES, dtype=torch.float64)
    pose[:3, 3] = -rotation.T @ translation
    return {**frame, "transform_matrix": pose.tolist()}
