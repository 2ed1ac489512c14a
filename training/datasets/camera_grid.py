"""Pictures from a grid of parallel cameras, whose file names say row and column and, where known, place and lens."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from ...pipelines.inputs import check_choice, check_number, require
from ...pipelines.recognition.picture_input import open_picture
from .photographs import Lens, Photograph

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
NAME = re.compile(
    r"(?:.*?[ _-])??r?(?P<row>\d{1,4})_c?(?P<column>\d{1,4})"
    r"(?:_(?P<y>-?\d{1,9}\.\d{1,12})_(?P<x>-?\d{1,9}\.\d{1,12})"
    r"(?:_(?P<lens>\d{1,6}(?:\.\d{1,6})?)_(?P<sensor>\d{1,6}(?:\.\d{1,6})?))?)?_?",
    re.ASCII | re.IGNORECASE,
)
"""Of a view, without suffix:

- `03_05` and `view_r03_c05`: row 3, column 5;
- `out_03_05_-381.909271_1103.376221_` of the Stanford archive: and the camera's y, downwards, and x, to the right;
- `Camera_03_05_400.000000_369.230769_30_36` of github.com/linusmossberg/light-field-renderer: and, all in
  millimetres, the focal length and the longer side of the sensor.
"""
FIELD_OF_VIEW = 40.0
FOCUS_IN_EXTENTS = 4.0
"""Distance of the plane on which views are aligned, in sides of the grid, where nothing says it."""


class _View(NamedTuple):
    path: Path
    row: int
    column: int
    place: tuple[float, float] | None  # x, y
    lens: tuple[float, float] | None  # focal length and longer side of the sensor


def is_camera_grid(folder: str | Path) -> bool:
    """Whether a folder, or the lone one in it, holds pictures with names of views."""
    return bool(_views(_lone_folder(Path(folder))))


def read_camera_grid(
    folder: str | Path,
    split: str | None = None,
    field_of_view: float | None = None,
    focus_distance: float | None = None,
) -> list[Photograph]:
    """The views of a rectified camera grid, row by row.

    Cameras stand on the plane z = 0, the middle of the grid at the origin, and look along z with x to the right and y
    down. Their places are those in the names, in their units; without them one step of the grid, the shorter one if
    rows and columns differ in theirs, is 1, columns go right and rows down. Other pictures, such as `depth.png`, are
    no views.

    Where names tell the lens, cameras are alike and see the same only at infinity. Where they do not, views are taken
    as those of the Stanford archive are: shifted so that they agree on a plane within the scene, which moves each
    camera's principal point. How far that plane is and how wide the cameras see cannot be told from such pictures:
    any choice shows the same views of a scene with other depths.

    Args:
        folder: of the pictures, or one that holds nothing but this folder.
        split: "train" or "test", as `held_out_views` has it; None reads all.
        field_of_view: across the width, in degrees; 40 by default. Only where names do not tell the lens.
        focus_distance: at which views agree, in units of places, infinity for cameras that are not shifted; by
            default four times the longer side of the grid. Only where names do not tell the lens.

    Raises:
        FileNotFoundError: the folder is missing.
        ValueError: there is only one view, or a hole in the grid; names or sizes contradict each other; a picture
            cannot be read; an argument is out of range.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing, or no folder.")
    if split is not None:
        check_choice("split", split, ("train", "test"))
    grid = _grid(folder, _views(_lone_folder(folder)))
    views = [view for row in grid for view in row]
    places = _places(folder, grid)  # [rows, columns, 2]
    size = _size(views)
    focal, focus = _optics(folder, views, places, size, field_of_view, focus_distance)
    photographs = [
        _photograph(view, place, size, focal, focus) for view, place in zip(views, places.reshape(-1, 2), strict=True)
    ]
    if split is None:
        return photographs
    held_out = held_out_views(*places.shape[:2]).flatten().tolist()
    return [each for each, held in zip(photographs, held_out, strict=True) if held == (split == "test")]


def held_out_views(rows: int, columns: int) -> Bool[torch.Tensor, "rows columns"]:
    """Which views of a grid are for testing: every second one along each side, never one at an end of it.

    Along every side of three views or more, those before and after a held-out one are learned from; of 9 x 9 views 16
    are held out.

    Raises:
        ValueError: no side has three views.
    """
    require(max(rows, columns) > 2, "a grid to hold views out of", f"{rows} x {columns}", "at least 3 views long")
    down, right = (
        torch.tensor([size < 3 or (place % 2 == 1 and place < size - 1) for place in range(size)])
        for size in (rows, columns)
    )
    return down[:, None] & right


def _lone_folder(folder: Path) -> Path:
    """The folder, or the one that it holds and nothing else, as archives often do."""
    shown = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return _lone_folder(shown[0]) if len(shown) == 1 and shown[0].is_dir() else folder


def _views(folder: Path) -> list[_View]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != ".")
    matches = [(path, match) for path in paths if (match := NAME.fullmatch(path.stem))]
    return [_view(path, match) for path, match in matches]


def _view(path: Path, told: re.Match[str]) -> _View:
    place = None if told["x"] is None else (float(told["x"]), float(told["y"]))
    lens = None if told["lens"] is None else (float(told["lens"]), float(told["sensor"]))
    return _View(path, int(told["row"]), int(told["column"]), place, lens)


def _grid(folder: Path, views: Sequence[_View]) -> list[list[_View]]:
    """Views by row and column, each of which is there."""
    if len(views) < 2:
        raise ValueError(
            f"{folder} must hold at least two views of a grid, named by row and column such as 03_05.png, not "
            f"{len(views)}."
        )
    found: dict[tuple[int, int], _View] = {}
    for view in views:
        other = found.setdefault((view.row, view.column), view)
        if other is not view:
            raise ValueError(
                f"{folder} must hold one view in row {view.row} and column {view.column}, not both {other.path.name} "
                f"and {view.path.name}."
            )
    rows, columns = (sorted(set(numbers)) for numbers in zip(*found, strict=True))
    holes = len(rows) * len(columns) - len(found)
    if holes:
        row, column = next((r, c) for r in rows for c in columns if (r, c) not in found)
        raise ValueError(
            f"{folder} must hold each of the {len(rows)} x {len(columns)} views of its grid, but {holes} of them, such "
            f"as that in row {row} and column {column}, {'is' if holes == 1 else 'are'} missing."
        )
    return [[found[row, column] for column in columns] for row in rows]


def _places(folder: Path, grid: list[list[_View]]) -> Float[np.ndarray, "rows columns 2"]:
    """x and y of each camera, the middle of the grid at 0."""
    views = [view for row in grid for view in row]
    _check_alike(folder, views, [view.place is not None for view in views], "the places of all views or of none")
    if views[0].place is None:
        x = _numbered(folder, "columns", [view.column for view in grid[0]])
        y = _numbered(folder, "rows", [row[0].row for row in grid])
        step = min(np.diff(numbers)[0] for numbers in (x, y) if len(numbers) > 1)
        places = np.stack(np.meshgrid(x / step, y / step), -1)
    else:
        places = np.array([[view.place for view in row] for row in grid])
        for axis, (coordinate, numbers) in enumerate((("x", "columns"), ("y", "rows"))):
            steps = np.diff(places[..., axis], axis=1 - axis)
            if not ((steps > 0).all() or (steps < 0).all()):
                raise ValueError(f"{folder}: {coordinate} in names must grow with the {numbers}, or fall with them.")
    return places - (places.min((0, 1)) + places.max((0, 1))) / 2


def _numbered(folder: Path, what: str, numbers: list[int]) -> Float[np.ndarray, " numbers"]:
    if len({after - before for before, after in zip(numbers, numbers[1:], strict=False)}) > 1:
        listed = ", ".join(map(str, numbers[:20]))
        raise ValueError(f"{folder}: {what} must be evenly spaced where names tell no places, not {listed}.")
    return np.array(numbers, np.float64)


def _size(views: Sequence[_View]) -> tuple[int, int]:
    """(width, height) of every view, in pixels."""
    sizes = []
    for view in views:
        with open_picture(view.path.name, view.path) as picture:
            sizes.append(picture.size)
        if sizes[-1] != sizes[0]:
            raise ValueError(
                f"{view.path} must have {sizes[0][0]} x {sizes[0][1]} pixels (width x height) as "
                f"{views[0].path.name} has, not {sizes[-1][0]} x {sizes[-1][1]}."
            )
    return sizes[0]


def _optics(
    folder: Path,
    views: Sequence[_View],
    places: Float[np.ndarray, "rows columns 2"],
    size: tuple[int, int],
    field_of_view: float | None,
    focus_distance: float | None,
) -> tuple[float, float]:
    """Focal length in pixels, and how far away views agree, in units of places."""
    _check_alike(folder, views, [view.lens for view in views], "the same lens and sensor for all views")
    if views[0].lens is None:
        fov = check_number("field_of_view", FIELD_OF_VIEW if field_of_view is None else field_of_view, 1, 179)
        return size[0] / 2 / math.tan(math.radians(fov) / 2), _focus(places, focus_distance)
    for name, value in (("field_of_view", field_of_view), ("focus_distance", focus_distance)):
        require(value is None, name, value, f"left out, for the names in {folder} tell the lens")
    if min(views[0].lens) <= 0:
        raise ValueError(f"{views[0].path} must tell a lens and a sensor longer than 0 mm.")
    lens, sensor = views[0].lens
    return max(size) * lens / sensor, math.inf


def _focus(places: Float[np.ndarray, "rows columns 2"], distance: float | None) -> float:
    if distance is None:
        return FOCUS_IN_EXTENTS * float((places.max((0, 1)) - places.min((0, 1))).max())
    return distance if distance == math.inf else check_number("focus_distance", distance, 1e-6)


def _check_alike(folder: Path, views: Sequence[_View], told: Sequence[object], what: str) -> None:
    other = next((view for view, each in zip(views, told, strict=True) if each != told[0]), None)
    if other is not None:
        raise ValueError(f"{folder}: names must tell {what}, unlike {views[0].path.name} and {other.path.name}.")


def _photograph(
    view: _View, place: Float[np.ndarray, "2"], size: tuple[int, int], focal: float, focus: float
) -> Photograph:
    """One with its principal point where the middle of the plane of focus, straight before the grid, is seen."""
    cx, cy = np.array(size) / 2 + focal * place / focus
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:2, 3] = -torch.from_numpy(place)
    lens = Lens(*size, focal, focal, float(cx), float(cy))
    if fault := lens.fault():
        raise ValueError(f"{view.path}: its camera {fault}.")
    return Photograph(view.path.name, view.path, lens, viewmat)
