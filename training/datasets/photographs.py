"""Photographs: picture files with the cameras that took them, before they are decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import ExifTags, Image
from torch import Tensor

from ...pipelines.inputs import PosedImages, check_count, require
from ...pipelines.recognition.picture_input import WHITE, open_picture, rgb_and_alpha
from .undistortion import PINHOLE, Distortion, undistorted

LARGEST_NUMBER = 1e18
"""Numbers of cameras stay below it, so that what is computed from them is finite in single precision."""
SMALLEST_SIDE = 1e-6
"""Of a picture, and of a focal length, in pixels."""
HELD_OUT_EVERY = 8
QUARTER_TURNS = 4
"""EXIF orientations above it turn a picture by 90 or 270 degrees."""
AS_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> what turns an upright picture back to the pixels that are stored."""
LARGEST_STRETCH = 1.05
"""Pictures whose proportions differ by more are of different shapes, and are not resampled to one size."""


class Lens(NamedTuple):
    """A camera's intrinsics, for pictures of its own size; pixel centres at +0.5."""

    width: float
    height: float
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Distortion = PINHOLE

    def fault(self) -> str | None:
        """What makes this no camera, or None."""
        numbers = (*self[:6], *self.distortion)
        if not all(abs(number) < LARGEST_NUMBER for number in numbers):
            return f"holds NaN, infinity or a number of {LARGEST_NUMBER:g} and more"
        if min(self[:4]) < SMALLEST_SIDE:
            return "must have a positive width, height and focal length"
        return None

    def K(self, size: tuple[int, int]) -> Float[Tensor, "3 3"]:
        """Intrinsics in pixels of the same picture resampled to (width, height)."""
        across, down = size[0] / self.width, size[1] / self.height
        rows = [[self.fx * across, 0, self.cx * across], [0, self.fy * down, self.cy * down], [0, 0, 1]]
        return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True)
class Photograph:
    """One picture file and the camera that took it.

    Attributes:
        name: of the picture in its capture.
        path: of the file.
        lens: intrinsics.
        viewmat: world to camera [4, 4], OpenCV axes.
        mask_path: of a picture that is not black where this one counts, if there is one.
        time: seconds, if it is known.
    """

    name: str
    path: Path
    lens: Lens
    viewmat: Float[Tensor, "4 4"]
    mask_path: Path | None = None
    time: float | None = None

    def size(self, max_side: int | None = None) -> tuple[int, int]:
        """(width, height) of the picture, scaled down until no side is longer than `max_side`.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: it is no picture, or its proportions are not those of its camera.
        """
        picture, (width, height), _ = self._open()
        picture.close()
        scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def developed(
        self, size: tuple[int, int], background: Sequence[float] = WHITE
    ) -> tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"] | None]:
        """The picture in [0, 1] as a pinhole camera with intrinsics `lens.K(size)` takes it.

        Args:
            size: (width, height) in pixels.
            background: red, green and blue in [0, 1] behind what is transparent.

        Returns:
            The picture; and the pixels that count, unless all do: those that are at least half opaque, lie in the
            mask, and are seen through the lens.

        Raises:
            FileNotFoundError: the file of the picture or its mask is missing.
            ValueError: one of them cannot be read.
        """
        opened, _, turn = self._open()
        with opened:
            picture, alpha = rgb_and_alpha(opened, str(self.path), background)
        pixels = _resampled(picture, size, turn).permute(2, 0, 1)
        layers = [] if alpha is None else [_resampled(alpha, size, turn)]
        if self.mask_path is not None:
            layers.append(self._mask(size))
        if self.lens.distortion == PINHOLE:
            return pixels, torch.stack(layers).amin(0) >= 0.5 if layers else None
        flat, inside = undistorted(
            torch.cat((pixels, *(layer[None] for layer in layers))), self.lens.K(size), self.lens.distortion
        )
        return flat[:3], inside & (flat[3:] >= 0.5).all(0)

    def _mask(self, size: tuple[int, int]) -> Float[Tensor, "height width"]:
        with open_picture("mask", self.mask_path) as opened:
            values = np.asarray(rgb_and_alpha(opened, str(self.mask_path))[0]).max(-1)
        return _resampled(Image.fromarray(np.where(values > 0, np.uint8(255), np.uint8(0))), size)

    def _open(self) -> tuple[Image.Image, tuple[int, int], Image.Transpose | None]:
        """The file, its (width, height) as its camera saw it, and how to turn it to that once it is upright.

        Cameras are mostly found from pixels as they are stored (COLMAP overrules EXIF on purpose), so a note to turn
        the picture counts only where the camera's size says so.
        """
        picture = open_picture("picture", self.path)
        orientation = _orientation(picture, self.path)
        told_upright = orientation <= QUARTER_TURNS or picture.format == "TIFF"  # PIL has turned a TIFF's size already
        upright = picture.size if told_upright else picture.size[::-1]
        stored = upright[::-1] if orientation > QUARTER_TURNS else upright
        camera = self.lens.width, self.lens.height
        if _alike(stored, camera):
            return picture, stored, AS_STORED.get(orientation)
        if _alike(upright, camera):
            return picture, upright, None
        picture.close()
        raise ValueError(
            f"{self.path} has {stored[0]} x {stored[1]} pixels (width x height), but its camera took pictures of "
            f"{camera[0]:g} x {camera[1]:g}: give the pictures that the cameras were made from, or these scaled with "
            "their proportions kept."
        )


def posed_photographs(
    photographs: Sequence[Photograph], max_side: int | None = None, background: Sequence[float] = WHITE
) -> PosedImages:
    """Decodes photographs one by one, at one size: the most common of theirs after scaling.

    Pictures of another size are resampled to it, and their intrinsics with them, where their proportions are nearly
    the same, as those of undistorted pictures are. Masks are those of `Photograph.developed`.

    Args:
        photographs: at least one.
        max_side: pixels of the longer side at most; None keeps the size of the files.
        background: red, green and blue in [0, 1] behind what is transparent.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an argument out of range, a picture that cannot be read or is no picture of its camera, or
            pictures of different proportions.
    """
    if max_side is not None:
        check_count("max_side", max_side)
    is_colour = len(background) == 3 and all(isinstance(v, int | float) and 0 <= v <= 1 for v in background)
    require(is_colour, "background", background, "red, green and blue in [0, 1]")
    sizes = [photograph.size(max_side) for photograph in photographs]
    size = _one_size(photographs, sizes)
    images = torch.empty(len(photographs), 3, size[1], size[0])
    masks = torch.ones(len(photographs), size[1], size[0], dtype=torch.bool)
    masked = False
    for index, photograph in enumerate(photographs):
        images[index], mask = photograph.developed(size, background)
        if mask is not None:
            masks[index], masked = mask, True
    times = [photograph.time for photograph in photographs]
    return PosedImages(
        images,
        torch.stack([photograph.viewmat for photograph in photographs]).float(),
        torch.stack([photograph.lens.K(size) for photograph in photographs]).float(),
        masks=masks if masked else None,
        times=None if None in times else torch.tensor(times, dtype=torch.float32),
    )


def _one_size(photographs: Sequence[Photograph], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    (size, _), *_ = Counter(sizes).most_common(1)
    for photograph, (width, height) in zip(photographs, sizes, strict=True):
        if not 1 / LARGEST_STRETCH < width * size[1] / (height * size[0]) < LARGEST_STRETCH:
            raise ValueError(
                f"{photograph.path} is {width} x {height} pixels (width x height), but most pictures of this capture "
                f"are {size[0]} x {size[1]}: all must have the same proportions, so leave it out or crop it, with its "
                "camera."
            )
    return size


def _alike(size: tuple[int, int], other: tuple[float, float]) -> bool:
    """Whether one size is the other one scaled, each side rounded to whole pixels."""
    scale = max(size) / max(other)
    return all(abs(side - scale * camera) <= 1 + scale for side, camera in zip(size, other, strict=True))


def _orientation(picture: Image.Image, path: Path) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # each of PIL's readers has exceptions of its own for a damaged file
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error


def _resampled(
    picture: Image.Image, size: tuple[int, int], turn: Image.Transpose | None = None
) -> Float[Tensor, "height width *channels"]:
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)  # with antialiasing
    return torch.from_numpy(np.array(picture)).float() / 255


def photographs_of_split(photographs: Sequence[Photograph], split: str | None) -> list[Photograph]:
    """Every eighth by name, from the first, for "test", and the others for "train"; all for None.

    This is how pictures of MipNeRF-360 are held out (Barron et al. 2022, arXiv 2111.12077), and those of most splat
    methods since.

    Raises:
        ValueError: for "validation", or where nothing is left to train with.
    """
    if split is None:
        return list(photographs)
    require(
        split != "validation", "split", split, "train, test or None for a capture that names no validation pictures"
    )
    ordered = sorted(photographs, key=lambda photograph: photograph.name)
    chosen = [each for index, each in enumerate(ordered) if (index % HELD_OUT_EVERY == 0) == (split == "test")]
    if not chosen:
        raise ValueError(
            f"split is {split!r}, but of {len(ordered)} pictures every eighth is for testing: none is left."
        )
    return chosen
