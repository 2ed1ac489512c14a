"""Forward-facing captures with LLFF's `poses_bounds.npy` (Mildenhall et al. 2019, arXiv 1905.00889)."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...pipelines.inputs import ROTATION_TOLERANCE, check_number
from ...pipelines.npy_file import read_floats
from .photographs import LARGEST_NUMBER, Lens, Photograph, photographs_of_split

POSES = "poses_bounds.npy"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
BD_FACTOR = 0.75
"""The nearest bound becomes 1 / 0.75, so that the plane at distance 1, NDC's near one, is before all of the scene."""
SHORTEST_MEAN = 1e-3
"""Of the sum of unit axes of cameras that look the same way, for each camera."""


def read_llff(
    folder: str | Path, split: str | None = None, images: str | Path = "images", bd_factor: float | None = BD_FACTOR
) -> tuple[list[Photograph], Float[Tensor, "views 2"]]:
    """The photographs of a forward-facing capture in the order of their names, and between which depths it lies.

    A row of `poses_bounds.npy` is a camera's [3, 5] and its two bounds: the camera's axes in the world (down, right,
    backward), its place, and height, width and focal length in pixels. Here axes are OpenCV's, and the world is
    turned and moved so that the mean camera is at its origin and looks along z, as NeRF does for its NDC.

    Args:
        folder: with the file, or the file itself.
        split: "train", or "test": every eighth picture by name, from the first. None reads all.
        images: folder of the pictures, relative to `folder` or absolute: "images_4" holds those of a quarter of
            width and height.
        bd_factor: places and bounds are scaled so that this times the nearest bound is 1; None leaves them.

    Returns:
        The photographs, and nearest and farthest depth of each in the same units.

    Raises:
        FileNotFoundError: the file or the folder of pictures is missing.
        ValueError: the file is no such file, or not of these pictures; an argument is out of range.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == POSES else folder
    file = folder / POSES
    rows = read_floats(file, (None, 17)).astype(np.float64)
    cameras, bounds = rows[:, :15].reshape(-1, 3, 5), rows[:, 15:]
    _check(file, cameras, bounds)
    pictures = _pictures(folder / images)
    if len(pictures) != len(rows):
        raise ValueError(f"{file} must hold one row a picture of {folder / images}, {len(pictures)}, not {len(rows)}.")
    places = cameras[..., 3]
    if bd_factor is not None:
        scale = 1 / (check_number("bd_factor", bd_factor, 1e-6) * bounds.min())
        places, bounds = places * scale, bounds * scale
        if not max(np.abs(places).max(), bounds.max()) < LARGEST_NUMBER:
            raise ValueError(f"{file} must hold bounds of about the size of its places, not {rows[:, 15].min():g}.")
    axes = cameras[..., [1, 0, 2]] * [1, 1, -1]  # right, down, forward
    viewmats = _from_the_mean(file, axes, places)
    photographs = [
        Photograph(picture.name, picture, Lens(width, height, focal, focal, width / 2, height / 2), viewmat)
        for picture, (height, width, focal), viewmat in zip(pictures, cameras[..., 4], viewmats, strict=True)
    ]
    for row, photograph in enumerate(photographs):
        if fault := photograph.lens.fault():
            raise ValueError(f"{file}: its camera in row {row} {fault}.")
    chosen = photographs_of_split(photographs, split)
    of_picture = dict(zip(pictures, torch.from_numpy(bounds).float(), strict=True))
    return chosen, torch.stack([of_picture[photograph.path] for photograph in chosen])


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: give the folder that holds the pictures as images.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != ".")


def _check(file: Path, cameras: Float[np.ndarray, "views 3 5"], bounds: Float[np.ndarray, "views 2"]) -> None:
    if len(cameras) < 2:
        raise ValueError(f"{file} must hold at least two views, not one.")
    if not max(np.abs(cameras).max(), np.abs(bounds).max()) < LARGEST_NUMBER:
        raise ValueError(f"{file} must hold numbers below {LARGEST_NUMBER:g}.")
    axes = cameras[..., :3]
    skew = np.abs(axes @ axes.swapaxes(1, 2) - np.eye(3)).max((1, 2))
    turned = (skew >= ROTATION_TOLERANCE) | (np.linalg.det(axes) < 0)  # down, right, backward are right-handed
    if turned.any():
        raise ValueError(f"{file} must hold rotations (determinant +1), which that in row {turned.argmax()} is not.")
    reversed_ = (bounds[:, 0] <= 0) | (bounds[:, 1] <= bounds[:, 0])
    if reversed_.any():
        near, far = bounds[reversed_.argmax()]
        raise ValueError(
            f"{file} must hold bounds above 0, the nearer one first, not {near:g} and {far:g} in row "
            f"{reversed_.argmax()}."
        )


def _from_the_mean(
    file: Path, axes: Float[np.ndarray, "views 3 3"], places: Float[np.ndarray, "views 3"]
) -> Float[Tensor, "views 4 4"]:
    """World-to-camera matrices for the world in which the mean camera has the axes and the origin.

    Args:
        file: for what is said of it.
        axes: of cameras, right, down and forward as columns.
        places: of their centres.
    """
    forward = _unit(file, axes[..., 2].mean(0))
    right = _unit(file, np.cross(axes[..., 1].mean(0), forward))
    world = np.stack((right, np.cross(forward, right), forward))  # rows: the new axes in the old world
    viewmats = np.tile(np.eye(4), (len(axes), 1, 1))
    viewmats[:, :3, :3] = axes.swapaxes(1, 2) @ world.T
    centred = (places - places.mean(0)) @ world.T
    viewmats[:, :3, 3] = -(viewmats[:, :3, :3] @ centred[..., None])[..., 0]
    return torch.from_numpy(viewmats)


def _unit(file: Path, vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    length = np.linalg.norm(vector)
    if length < SHORTEST_MEAN:
        raise ValueError(f"{file} must hold cameras that look about the same way, but they look all ways.")
    return vector / length
