"""A user's photographs with cameras, in whichever of the usual forms, as what a `fit` takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ...pipelines.inputs import PosedImages, check_choice, check_count
from ...pipelines.recognition.picture_input import WHITE
from .colmap import model_folder, read_colmap
from .photographs import photographs_of_split, posed_photographs
from .transforms_json import SPLIT_FILES, read_transforms, transforms_files

SPLITS = tuple(SPLIT_FILES)


@dataclass(frozen=True)
class Captures:
    """Pictures with cameras, and what else their reconstruction knows.

    Attributes:
        posed: pictures and cameras; masks are the pixels that count, where some do not.
        positions: of sparse points in scene units [points, 3]; none where the capture has none.
        rgb: their colours in [0, 1] [points, 3].
        names: of the pictures, in the order of `posed`.
    """

    posed: PosedImages
    positions: Float[Tensor, "points 3"]
    rgb: Float[Tensor, "points 3"]
    names: tuple[str, ...]


def read_captures(
    path: str | Path,
    max_side: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    background: Sequence[float] = WHITE,
) -> Captures:
    """Reads a COLMAP folder, or a `transforms.json` of instant-ngp, nerfstudio or Blender's synthetic scenes.

    Distorted pictures (COLMAP's SIMPLE_RADIAL, RADIAL, OPENCV and FULL_OPENCV; k1, k2, k3, p1 and p2 of a
    transforms.json) are resampled bilinearly as the pinhole camera with the same intrinsics takes them; pixels that
    their lens did not see are left out of the masks. Other lenses, such as fisheyes, are refused.

    Args:
        path: the folder of a capture, or a JSON file. Of both in a folder, the COLMAP model is read.
        max_side: pixels of the longer side at most; pictures are scaled down to it, and their cameras with them.
        split: "train", "validation" or "test"; None reads all. Files and lists of the capture say which pictures are
            whose; where it has none, every eighth by name, from the first, is for testing.
        images: folder of a COLMAP model's pictures, relative to `path` or absolute, by default "images". They may be
            smaller than their cameras say, as those in "images_4" are.
        background: red, green and blue in [0, 1] that transparent parts become.

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
    if path.is_dir() and model_folder(path) is not None:
        photographs, points = read_colmap(path, "images" if images is None else images)
        photographs = photographs_of_split(photographs, split)
    elif path.suffix.lower() == ".json" or (path.is_dir() and transforms_files(path, None)):
        if images is not None:
            raise ValueError(f"images must be left out, not {str(images)!r}: {path} says where its pictures are.")
        photographs, points = read_transforms(path, split)
    else:
        raise FileNotFoundError(
            f"{path} is no capture: it must be a folder with a COLMAP model (sparse/0/cameras.bin or .txt), or with a "
            "transforms.json or transforms_train.json, or such a JSON file."
        )
    posed = posed_photographs(photographs, max_side, background)
    return Captures(posed, points.positions, points.rgb, tuple(photograph.name for photograph in photographs))
