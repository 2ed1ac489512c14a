"""Reader of COLMAP's sparse models, binary and text (https://colmap.github.io/format.html)."""

import math
import os
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...hub_models.rendering.quaternions import rotation_matrices
from .photographs import LARGEST_NUMBER, Lens, Photograph
from .sparse_points import SparsePoints
from .undistortion import Distortion

FILES = ("cameras", "images", "points3D")
MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", ".")

SMALLEST_LENGTH = 1e-6
"""Of a quaternion that says a rotation."""

MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
}
"""Camera models that are read, with their parameters in COLMAP's order."""

MODEL_NAMES = (
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV",
    "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE", "SIMPLE_DIVISION",
    "DIVISION", "SIMPLE_FISHEYE", "FISHEYE", "EUCM", "EQUIRECTANGULAR",
)  # fmt: skip
"""All of COLMAP's camera models; a binary file holds a name's place in here."""


class _Image(NamedTuple):
    quaternion: tuple[float, ...]  # w x y z, world to camera
    translation: tuple[float, ...]
    camera: int
    name: str


def model_folder(folder: Path) -> Path | None:
    """Where in a capture its COLMAP model lies, or None where there is none."""
    for name in MODEL_FOLDERS:
        if any((folder / name / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt")):
            return folder / name
    return None


def read_colmap(folder: str | Path, images: str | Path = "images") -> tuple[list[Photograph], SparsePoints]:
    """The photographs of a COLMAP model in the order of their names, and its points.

    Args:
        folder: of a capture, with the model in `sparse/0`, `sparse`, `colmap/sparse/0` or right there, as binary
            files or, where there are none, as text.
        images: folder of the pictures, relative to `folder` or absolute.

    Raises:
        FileNotFoundError: one of the model's files, or a picture that it names, is missing.
        ValueError: a file is truncated or holds what no COLMAP model does, or a camera is of a model that is not
            read, naming the file.
    """
    folder = Path(folder)
    model = model_folder(folder)
    if model is None:
        raise FileNotFoundError(f"{folder} holds no COLMAP model: no cameras.bin and no cameras.txt.")
    suffix = ".bin" if (model / "cameras.bin").is_file() else ".txt"
    paths = [model / f"{name}{suffix}" for name in FILES]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: a COLMAP model has {', '.join(FILES)} side by side.")
    read_cameras, read_images, read_points = READERS[suffix]
    cameras, registered, points = read_cameras(paths[0]), read_images(paths[1]), read_points(paths[2])
    photographs = [_photograph(image, cameras, folder / images, paths[1]) for image in registered]
    if not photographs:
        raise ValueError(f"{paths[1]} holds no picture: COLMAP registered none.")
    missing = [str(each.path) for each in photographs if not os.path.isfile(each.path)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(photographs)} pictures of the COLMAP model are missing, such as {missing[0]}: "
            "give the folder that holds them as images."
        )
    return sorted(photographs, key=lambda photograph: photograph.name), points


def _photograph(image: _Image, cameras: dict[int, Lens], folder: Path, path: Path) -> Photograph:
    numbers = (*image.quaternion, *image.translation)
    length = math.hypot(*image.quaternion)
    if not all(abs(number) < LARGEST_NUMBER for number in numbers) or length < SMALLEST_LENGTH:
        raise ValueError(f"{path}: picture {image.name!r} has no pose, but {list(numbers)}.")
    if image.camera not in cameras:
        raise ValueError(f"{path}: picture {image.name!r} was taken by camera {image.camera}, which is not there.")
    if not image.name or "\0" in image.name:
        raise ValueError(f"{path}: {image.name!r} is no name of a picture.")
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = rotation_matrices(torch.tensor(image.quaternion, dtype=torch.float64))
    viewmat[:3, 3] = torch.tensor(image.translation, dtype=torch.float64)
    return Photograph(image.name, folder / image.name, cameras[image.camera], viewmat)


def _lens(path: Path, camera: int, model: str, width: int, height: int, values: tuple[float, ...]) -> Lens:
    names = MODELS[model].split()
    if len(values) != len(names):
        raise ValueError(f"{path}: camera {camera} of model {model} must have {MODELS[model]}, not {list(values)}.")
    given = dict(zip(names, values, strict=True))
    fx, fy = (given.pop("f"),) * 2 if "f" in given else (given.pop("fx"), given.pop("fy"))
    lens = Lens(width, height, fx, fy, given.pop("cx"), given.pop("cy"), Distortion(**given))
    if fault := lens.fault():
        raise ValueError(f"{path}: camera {camera} {fault}.")
    return lens


def _check_model(path: Path, camera: int, model: str) -> None:
    if model not in MODELS:
        raise ValueError(
            f"{path}: camera {camera} is of model {model}, which is not read (those that are: {', '.join(MODELS)}): "
            "make pinhole cameras and pictures of it with `colmap image_undistorter`."
        )


class _Bytes:
    """A binary file that is read from front to end, and never beyond it."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.place = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        """Little-endian values in the layout of `struct`, unpadded."""
        layout = "<" + layout
        self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self.data, self.place - struct.calcsize(layout))

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.place:
            raise ValueError(f"{self.path} is truncated, or no file of a COLMAP model.")
        self.place += count

    def records(self, smallest: int) -> Iterator[int]:
        """Counts the records that the file says it has, none of which may be smaller than `smallest` bytes."""
        (count,) = self.take("Q")
        if count * smallest > len(self.data) - self.place:
            raise ValueError(f"{self.path} is truncated: it has no room for the {count} records that it says it has.")
        yield from range(count)
        if self.place != len(self.data):
            raise ValueError(f"{self.path} holds {len(self.data) - self.place} bytes after its last record.")

    def text(self) -> str:
        """UTF-8 up to a zero byte."""
        end = self.data.find(b"\0", self.place)
        start, self.place = self.place, end + 1
        if end < 0:
            raise ValueError(f"{self.path} is truncated, or no file of a COLMAP model.")
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise ValueError(f"{self.path} holds a name that is not in UTF-8.") from None


def _binary_cameras(path: Path) -> dict[int, Lens]:
    file, cameras = _Bytes(path), {}
    for _ in file.records(smallest=24):
        camera, model, width, height = file.take("IiQQ")
        name = MODEL_NAMES[model] if 0 <= model < len(MODEL_NAMES) else f"number {model}"
        _check_model(path, camera, name)
        values = file.take("d" * len(MODELS[name].split()))
        cameras[camera] = _lens(path, camera, name, width, height, values)
    return cameras


def _binary_images(path: Path) -> list[_Image]:
    file, images = _Bytes(path), []
    for _ in file.records(smallest=73):
        _, *pose, camera = file.take("I4d3dI")
        images.append(_Image(tuple(pose[:4]), tuple(pose[4:]), camera, file.text()))
        (points,) = file.take("Q")
        file.skip(24 * points)
    return images


def _binary_points(path: Path) -> SparsePoints:
    file, positions, colours = _Bytes(path), array("d"), array("q")
    for _ in file.records(smallest=51):
        _, *position, red, green, blue, _, track = file.take("Q3d3BdQ")
        file.skip(8 * track)
        positions.extend(position)
        colours.extend((red, green, blue))
    return _points(path, positions, colours)


def _text_cameras(path: Path) -> dict[int, Lens]:
    cameras = {}
    for line in _lines(path):
        if _is_content(line):
            camera, model, width, height, *values = _fields(path, line, (int, str, int, int), float)
            _check_model(path, camera, model)
            cameras[camera] = _lens(path, camera, model, width, height, tuple(values))
    return cameras


def _text_images(path: Path) -> list[_Image]:
    images, lines = [], iter(_lines(path))
    for line in lines:
        if _is_content(line):
            _, *pose, camera, name = _fields(path, line, (int, *[float] * 7, int, str))
            images.append(_Image(tuple(pose[:4]), tuple(pose[4:]), camera, name))
            next(lines, None)  # the picture's points, which may be none: an empty line
    return images


def _text_points(path: Path) -> SparsePoints:
    positions, colours = array("d"), array("q")
    for line in _lines(path):
        if _is_content(line):
            _, *numbers = _fields(path, line, (int, *[float] * 3, *[int] * 3, float), str)
            positions.extend(numbers[:3])
            colours.extend(numbers[3:6])
    return _points(path, positions, colours)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8.") from None


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _fields(path: Path, line: str, kinds: tuple[type, ...], more: type | None = None) -> list[Any]:
    """Values of a line: one of each kind, and any number of the kind `more`; without it, the last takes the rest."""
    words = line.split() if more else line.strip().split(maxsplit=len(kinds) - 1)
    try:
        values = [kind(word) for kind, word in zip(kinds, words[: len(kinds)], strict=True)]
        values += [more(word) for word in words[len(kinds) :]] if more else []
        if any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
            raise ValueError
    except ValueError:
        raise ValueError(f"{path} holds a line that no COLMAP model has: {line.strip()[:80]!r}.") from None
    return values


def _points(path: Path, positions: array, colours: array) -> SparsePoints:
    try:
        return SparsePoints.of(np.reshape(positions, (-1, 3)), np.reshape(colours, (-1, 3)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


READERS = {
    ".bin": (_binary_cameras, _binary_images, _binary_points),
    ".txt": (_text_cameras, _text_images, _text_points),
}
