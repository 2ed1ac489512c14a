"""Pictures as users have them - PIL, arrays, tensors, files - read into one form, and brought to a network's size."""

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PictureInput = Image.Image | np.ndarray | Tensor | str | os.PathLike
ResizeMode = Literal["stretch", "pad"]

KINDS = "a PIL picture, a numpy array, a tensor or the path of a picture file"
CHANNELS = (1, 3, 4)
WHITE = (1.0, 1.0, 1.0)
LUMA = (0.299, 0.587, 0.114)
"""Grey of red, green and blue (ITU-R BT.601), as in PIL's mode L."""


class Region(NamedTuple):
    """Where a picture lies in the square that a network sees, in its pixels."""

    top: int
    left: int
    height: int
    width: int


def picture_tensors(
    images: PictureInput | Sequence[PictureInput], channels: int = 3
) -> list[Float[Tensor, "channels height width"]]:
    """Every picture as a float32 tensor in [0, 1], of whatever size it has.

    Args:
        images: one picture or a list of them, which may differ in kind and size:
            PIL of any mode (turned upright by its EXIF orientation; transparent parts become white);
            numpy arrays [height, width] or [height, width, 1, 3 or 4], or a batch of those, uint8 or float in [0, 1];
            tensors [height, width] or [1, 3 or 4, height, width], or a batch of those, uint8 or float in [0, 1];
            paths of picture files.
        channels: 3 for colour, 1 for grey; pictures are converted.

    Raises:
        ValueError: for what is no picture, is empty, holds NaN or leaves its range, or has more pixels than PIL's
            limit (`Image.MAX_IMAGE_PIXELS`), naming the entry.
        FileNotFoundError: for a path where no file is.
    """
    pictures = [_with_channels(_read(name, entry), channels) for name, entry in _entries(images)]
    if not pictures:
        raise ValueError("images is empty: pass at least one picture.")
    return pictures


def rgb_picture(picture: Image.Image, name: str = "picture") -> Image.Image:
    """A PIL picture of any mode as 8 bits of red, green and blue, by the same rules as `picture_tensors`.

    Pictures of 16 and 32 bits are scaled, not clipped; transparent parts become white; EXIF turns them upright. What
    has 8 bits and nothing transparent is exactly what PIL's `convert("RGB")` makes of it.

    Args:
        picture: of any mode; I holds 0..65535, F holds 0..1.
        name: of the picture, for errors.

    Raises:
        ValueError: for a mode that cannot be converted, values out of their range, or a damaged file.
    """
    return rgb_and_alpha(picture, name)[0]


def rgb_and_alpha(
    picture: Image.Image, name: str = "picture", background: Sequence[float] = WHITE
) -> tuple[Image.Image, Image.Image | None]:
    """As `rgb_picture`, on a background of any colour, and how opaque each pixel was.

    Args:
        picture: of any mode; I holds 0..65535, F holds 0..1.
        name: of the picture, for errors.
        background: red, green and blue in [0, 1] that transparent parts become.

    Returns:
        The picture in mode RGB, and its alpha in mode L, or None where nothing can be transparent.

    Raises:
        ValueError: as `rgb_picture`.
    """
    values = _values(name, picture)
    if values.dtype == np.uint8 and values.shape[2:] != (4,):
        return Image.fromarray(values).convert("RGB"), None
    pixels = _from_array(name, values)
    rgb = Image.fromarray(_bytes(_with_channels(pixels, 3, background)).permute(1, 2, 0).numpy())
    return rgb, Image.fromarray(_bytes(pixels[3]).numpy()) if len(pixels) == 4 else None


def open_picture(name: str, path: str | os.PathLike) -> Image.Image:
    """A picture file, opened but not decoded yet.

    Args:
        name: of the picture, for errors.
        path: of the file.

    Raises:
        FileNotFoundError: no file is there.
        ValueError: it is no picture file, or has more pixels than PIL's limit.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{name}: there is no picture file at {os.fspath(path)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_large(name)) from None
    except UnidentifiedImageError:
        raise ValueError(f"{name}: {os.fspath(path)} is no picture file that can be read.") from None


def fit_picture(
    picture: Float[Tensor, "channels height width"], size: int, mode: ResizeMode = "pad"
) -> tuple[Float[Tensor, "channels size size"], Region]:
    """A picture as a square of `size` pixels, bilinear with antialiasing, and where it lies in there.

    Args:
        picture: in [0, 1].
        size: side of the square.
        mode: "stretch" changes the proportions; "pad" keeps them and repeats the pixels at the edge.
    """
    height, width = picture.shape[1:]
    if mode == "pad":
        scale = size / max(height, width)
        region = max(1, round(height * scale)), max(1, round(width * scale))
    else:
        region = size, size
    if region != (height, width):
        picture = F.interpolate(picture[None], region, mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = (size - region[0]) // 2, (size - region[1]) // 2
    if region != (size, size):
        picture = F.pad(picture, (left, size - region[1] - left, top, size - region[0] - top), mode="replicate")
    return picture, Region(top, left, *region)


def _entries(images: Any) -> Iterator[tuple[str, Any]]:
    batched = isinstance(images, np.ndarray | Tensor) and images.ndim == 4
    if batched or isinstance(images, list | tuple):
        yield from ((f"images[{index}]", entry) for index, entry in enumerate(images))
    else:
        yield "images", images


def _read(name: str, picture: Any) -> Float[Tensor, "channels height width"]:
    if isinstance(picture, str | os.PathLike):
        with open_picture(name, picture) as opened:
            return _from_pil(name, opened)
    if isinstance(picture, Image.Image):
        return _from_pil(name, picture)
    if isinstance(picture, np.ndarray):
        return _from_array(name, picture)
    if isinstance(picture, Tensor):
        return _from_tensor(name, picture)
    raise ValueError(f"{name} must be {KINDS}, not {type(picture).__name__}.")


def _from_pil(name: str, picture: Image.Image) -> Tensor:
    _check_size(name, picture.height, picture.width)
    return _from_array(name, _values(name, picture))


def _values(name: str, picture: Image.Image) -> np.ndarray:
    try:
        return _decoded(picture)
    except Exception as error:  # each of PIL's readers has exceptions of its own for a damaged file
        raise ValueError(f"{name} cannot be read: {' '.join(str(error).split())}.") from error


def _decoded(picture: Image.Image) -> np.ndarray:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":  # PIL's own conversions would clip these
        return _decoded_deep(picture)
    if picture.has_transparency_data:
        return np.asarray(picture.convert("RGBA"))
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def _decoded_deep(picture: Image.Image) -> np.ndarray:
    """Mode F as it is, 16 bits a pixel as 0..1; with four channels where a value stands for transparent."""
    values = np.asarray(picture)
    grey = values if picture.mode == "F" else values.astype(np.float32) / 65535
    if "transparency" not in picture.info:
        return grey
    opaque = (values != picture.info["transparency"]).astype(np.float32)
    return np.dstack([grey, grey, grey, opaque])


def _from_array(name: str, array: np.ndarray) -> Tensor:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS):
        raise ValueError(
            f"{name} must be [height, width] or [height, width, 1, 3 or 4 channels] as an array, not "
            f"{list(array.shape)}."
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{name} must be uint8 or float in [0, 1], not {array.dtype}.")
    _check_size(name, *array.shape[:2])
    values = torch.from_numpy(np.array(array, dtype=np.uint8 if array.dtype == np.uint8 else np.float32))
    return _in_range(name, values.permute(2, 0, 1) if values.ndim == 3 else values[None])


def _from_tensor(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in CHANNELS):
        raise ValueError(
            f"{name} must be [height, width] or [1, 3 or 4 channels, height, width] as a tensor, not "
            f"{list(tensor.shape)}."
        )
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise ValueError(f"{name} must be uint8 or float in [0, 1], not {tensor.dtype}.")
    _check_size(name, *tensor.shape[-2:])
    return _in_range(name, tensor if tensor.ndim == 3 else tensor[None])


def _in_range(name: str, values: Tensor) -> Float[Tensor, "channels height width"]:
    if values.dtype == torch.uint8:
        return values.float() / 255
    values = values.float()
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity.")
    low, high = values.aminmax()
    if low < 0 or high > 1:
        raise ValueError(f"{name} must lie in [0, 1], but reaches from {low:.4g} to {high:.4g}.")
    return values


def _with_channels(
    values: Tensor, channels: int, background: Sequence[float] = WHITE
) -> Float[Tensor, "channels height width"]:
    if len(values) == 4:
        values = values[:3] * values[3:] + values.new_tensor(background)[:, None, None] * (1 - values[3:])
    if len(values) == channels:
        return values
    if channels == 3:
        return values.expand(3, -1, -1)
    return torch.einsum("chw,c->hw", values, values.new_tensor(LUMA))[None].clamp(0, 1)


def _bytes(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    return values.mul(255).round().byte()


def _check_size(name: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"{name} is empty: {height} x {width} pixels (height x width).")
    if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
        raise ValueError(_too_large(name))


def _too_large(name: str) -> str:
    return f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels, PIL's limit: make it smaller first."
