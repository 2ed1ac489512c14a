"""A user's photographs with cameras, in whichever of the usual forms, as what a `fit` takes."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...pipelines.inputs import Captures, PosedImages, check_choice, check_count
from ...pipelines.recognition.picture_input import WHITE
from ...pipelines.zip_folder import unzipped
from .camera_grid import is_camera_grid, read_camera_grid
from .colmap import model_folder, read_colmap
from .llff import POSES, read_llff
from .photographs import Photograph, photographs_of_split, posed_photographs
from .pocketworld import load_pocketworld, posed_images
from .sparse_points import SparsePoints
from .transforms_json import SPLIT_FILES, read_transforms, transforms_files

SPLITS = tuple(SPLIT_FILES)
EVERY = 4  # views of a ring of PocketWorld, of which one is held out
WORLD_POINTS = 3000
IMAGES = "images"

_Found = tuple[list[Photograph], SparsePoints, Float[Tensor, "views 2"] | None]


def read_captures(
    path: str | Path,
    max_side: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    background: Sequence[float] = WHITE,
    field_of_view: float | None = None,
    focus_distance: float | None = None,
) -> Captures:
    """Reads a COLMAP folder, a `transforms.json` of instant-ngp, nerfstudio or Blender, LLFF's poses or a camera grid.

    Distorted pictures (COLMAP's SIMPLE_RADIAL, RADIAL, OPENCV and FULL_OPENCV; k1, k2, k3, p1 and p2 of a
    transforms.json) are resampled bilinearly as the pinhole camera with the same intrinsics takes them; pixels that
    their lens did not see are left out of the masks. Other lenses, such as fisheyes, are refused.

    Args:
        path: the folder of a capture, a JSON file, a `poses_bounds.npy`, or a zip archive with the pictures of a camera
            grid. Of several kinds in a folder, the first of COLMAP, JSON, LLFF and grid is read.
        max_side: pixels of the longer side at most; pictures are scaled down to it, and their cameras with them.
        split: "train", "validation" or "test"; None reads all. Files and lists of the capture say which pictures are
            whose; where it has none, every eighth by name, from the first, is for testing, and of a camera grid what
            `held_out_views` says.
        images: folder of the pictures of a COLMAP model or of LLFF's poses, relative to `path` or absolute, by default
            "images". They may be smaller than their cameras say, as those in "images_4" are.
        background: red, green and blue in [0, 1] that transparent parts become.
        field_of_view, focus_distance: of a camera grid whose names do not tell the lens, as `read_camera_grid` takes
            them.

    Raises:
        FileNotFoundError: nothing there is a capture, or a file that it names is missing.
        ValueError: an argument out of range, or a file that is damaged or holds what is not read, naming it.
        OSError: a file cannot be read.
    """
    path = Path(path)
    if split is not None:
        check_choice("split", split, SPLITS)
    if max_side is not None:
        check_count("max_side", max_side)
    lens = {"field_of_view": field_of_view, "focus_distance": focus_distance}
    is_zip = path.is_file() and path.suffix.lower() == ".zip"
    with unzipped(path) if is_zip else nullcontext(path) as place:
        photographs, points, bounds = (_grid if is_zip else _found)(place, split, images, lens)
        posed = posed_photographs(photographs, max_side, background)
    return Captures(posed, points.positions, points.rgb, tuple(photograph.name for photograph in photographs), bounds)


def _found(path: Path, split: str | None, images: str | Path | None, lens: Mapping[str, float | None]) -> _Found:
    """What is read of a capture of whatever form."""
    if path.is_dir() and model_folder(path) is not None:
        _check_left_out(path, "how its cameras see", lens)
        photographs, points = read_colmap(path, IMAGES if images is None else images)
        return photographs_of_split(photographs, split), points, None
    if path.suffix.lower() == ".json" or (path.is_dir() and transforms_files(path, None)):
        _check_left_out(path, "how its cameras see", lens)
        _check_left_out(path, "where its pictures are", {"images": images})
        return *read_transforms(path, split), None
    if path.name == POSES or (path / POSES).is_file():
        _check_left_out(path, "how its cameras see", lens)
        photographs, bounds = read_llff(path, split, IMAGES if images is None else images)
        return photographs, SparsePoints.none(), bounds
    if path.is_dir() and is_camera_grid(path):
        return _grid(path, split, images, lens)
    raise FileNotFoundError(
        f"{path} is no capture: it must be a folder with a COLMAP model (sparse/0/cameras.bin or .txt), with a "
        f"transforms.json or transforms_train.json, with a {POSES} or with pictures of a camera grid (03_05.png for "
        "row 3 and column 5), or such a JSON file, or a zip archive of such pictures."
    )


def _grid(path: Path, split: str | None, images: str | Path | None, lens: Mapping[str, float | None]) -> _Found:
    _check_left_out(path, "where its pictures are", {"images": images})
    return read_camera_grid(path, split, **lens), SparsePoints.none(), None


def _check_left_out(path: Path, known: str, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if value is not None:
            value = str(value) if isinstance(value, Path) else value
            raise ValueError(f"{name} must be left out, not {value!r}: {path} says {known}.")


def world_captures(
    split: str, scene: int, size: int, num_points: int = WORLD_POINTS, seed: int = 0
) -> tuple[Captures, Captures]:
    """A still scene of PocketWorld as a capture: twelve views of a ring to learn from, and four that are held out.

    Args:
        split: of PocketWorld.
        scene: number of its record of kind "multiview".
        size: of the square pictures, in pixels.
        num_points: sparse points: pixels of the first twelve views at their true depth, drawn at random.
        seed: of that draw.

    Returns:
        what is learned from, and what is held out; both know the points.
    """
    *_, row = load_pocketworld("multiview", split, size, scene + 1, streaming=True)
    posed = posed_images(row)
    held_out = torch.arange(len(posed)) % EVERY == EVERY // 2
    seen = posed.select(~held_out)
    positions, rgb = points_of(seen, num_points, seed)
    names = tuple(f"view {view}" for view in range(len(posed)))
    return tuple(
        Captures(posed.select(which), positions, rgb, tuple(n for n, w in zip(names, which, strict=True) if w))
        for which in (~held_out, held_out)
    )


def points_of(posed: PosedImages, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Where random pixels of known depth are in the scene [count, 3], and their colours."""
    views, height, width = posed.depths.shape
    known = (posed.depths > 0).flatten().nonzero()[:, 0]
    draw = torch.Generator().manual_seed(seed)
    chosen = known[torch.randperm(len(known), generator=draw)[:count]]
    view, pixel = chosen // (height * width), chosen % (height * width)
    at = torch.stack([pixel % width + 0.5, pixel // width + 0.5, torch.ones_like(pixel)], 1)  # [count, 3]
    rays = torch.linalg.solve(posed.Ks[view], at.to(posed.Ks))
    in_camera = rays * posed.depths.flatten()[chosen, None]
    rotation, translation = posed.viewmats[view, :3, :3], posed.viewmats[view, :3, 3]
    positions = (rotation.mT @ (in_camera - translation)[..., None])[..., 0]
    return positions, posed.images.movedim(1, -1).reshape(-1, 3)[chosen]
