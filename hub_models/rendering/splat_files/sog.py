"""SOG of PlayCanvas: each attribute a lossless WebP picture with a pixel a Gaussian, and meta.json, which says how.

A file `.sog` is a zip archive of the same files as a folder. Version 2 has codebooks where version 1 has ranges.
Values are those of a PLY. Layout as splat-transform writes it.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch

from ..gaussians import Gaussians
from ..morton_order import morton_order
from ..spherical_harmonics import num_coefficients
from . import codebook, lossless_webp
from .arrays import blocks, from_arrays, to_arrays
from .opacity_bytes import LOGITS, to_bytes
from .smallest_three import add_largest, drop_largest
from .sog_meta import Meta
from .source import Source, check_expansion, opened

META = "meta.json"
HALF = 127.5  # of the numbers of a rotation
FIRST_TAG = 252  # in alpha of a rotation: plus the index of the component that is left out
ENCODING = "quaternion_packed"
PALETTE_COLUMNS = 64
BANDS = {num_coefficients(degree) - 1: degree for degree in (1, 2, 3)}
MAX_PALETTE = 65_536
SPARE_PIXELS = 65_536  # behind the last Gaussian; a picture with more is none of these Gaussians
BYTES_EACH = 20  # a Gaussian takes about so many in the pictures, unfolded


@dataclass(frozen=True)
class Picture:
    """A WebP file of a scene that is not unfolded yet.

    Attributes:
        name: as errors say it.
        data: the file.
        width, height: in pixels.
    """

    name: str
    data: bytes
    width: int
    height: int

    @classmethod
    def of(cls, name: str, data: bytes) -> "Picture":
        try:
            return cls(name, data, *lossless_webp.size(data))
        except ValueError as error:
            raise ValueError(f"{name} {error}.") from None

    def check_size(self, least: int, most: int) -> None:
        """Refuses a picture that has not `least` to `most` pixels."""
        if not least <= self.width * self.height <= most:
            raise ValueError(f"{self.name} must have {least:,} to {most:,} pixels, not {self.width} x {self.height}.")

    def pixels(self) -> np.ndarray:
        """Red, green, blue and alpha [pixels, 4], uint8."""
        try:
            return lossless_webp.decode(self.data)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}.") from None


@dataclass(frozen=True)
class Scene:
    """A scene whose pictures were not fetched yet.

    Attributes:
        name: as errors say it.
        meta: what meta.json says.
        fetch: file name -> its bytes.
    """

    name: str
    meta: Meta
    fetch: Callable[[str], bytes]

    def pictures(self, part: Meta, count: int) -> list[Picture]:
        """Those that a part of meta.json names, `count` of them."""
        return [Picture.of(f"{self.name}/{file}", self.fetch(file)) for file in part.files("files", count)]


def read(source: bytes | str | os.PathLike) -> Gaussians:
    """Gaussians of a SOG scene of version 1 or 2.

    Args:
        source: a `.sog` file, its bytes, a folder with meta.json, or that file.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such scene, or truncated or damaged, or holds what is not finite.
    """
    if not isinstance(source, bytes | bytearray | memoryview):
        path = Path(source)
        path = path / META if path.is_dir() else path
        if path.suffix == ".json":
            return _read_folder(path)
    with opened(source) as file:
        return _read_archive(file)


def _read_folder(path: Path) -> Gaussians:
    def fetch(name: str) -> bytes:
        file = path.parent / name
        if not file.is_file():
            raise ValueError(f"{path.parent} must hold {name}, which {path.name} names, but it is missing.")
        return file.read_bytes()

    return _decode(Scene(str(path.parent), Meta.read(path), fetch))


def _read_archive(source: Source) -> Gaussians:
    with _zip_errors(source):
        archive = zipfile.ZipFile(source.stream)

    def fetch(name: str) -> bytes:
        source.require(name in archive.NameToInfo, f"must hold {name}, but does not")
        entry = archive.getinfo(name)
        check_expansion(source.name, entry.file_size, min(entry.compress_size, source.length))
        with _zip_errors(source):
            return archive.read(name)

    with archive:
        return _decode(Scene(source.name, Meta.parse(f"{source.name}/{META}", fetch(META)), fetch))


@contextmanager
def _zip_errors(source: Source) -> Iterator[None]:
    try:
        yield
    except Exception:  # zipfile raises errors of many kinds, even a plain ValueError, and some quote the file
        raise source.refusal("is no zip archive, or a damaged one") from None


def _decode(scene: Scene) -> Gaussians:
    meta = scene.meta
    version = 2 if "version" in meta else 1
    if version == 2:
        meta.expect("version", 2)
    means, scales, quats, sh0 = (meta.part(key) for key in ("means", "scales", "quats", "sh0"))
    count = meta.whole("count", 1) if version == 2 else means.shape()[0]
    if "encoding" in quats:
        quats.expect("encoding", ENCODING)

    # All files are there and of a fitting size before the first is unfolded.
    low, high = scene.pictures(means, 2)
    scale, rotation, color = (scene.pictures(part, 1)[0] for part in (scales, quats, sh0))
    centroids, labels = scene.pictures(meta.part("shN"), 2) if "shN" in meta else (None, None)
    places = [picture for picture in (low, high, scale, rotation, color, labels) if picture is not None]
    for picture in places:
        picture.check_size(count, 2 * count + SPARE_PIXELS)
    check_expansion(scene.name, count * BYTES_EACH, sum(len(picture.data) for picture in places))

    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are refused at the end
        positions = _read_means(means, low.pixels()[:count], high.pixels()[:count])
        log_scales = _looked_up(_tables(scales, version, 3), scale.pixels()[:count])
        rgba = color.pixels()[:count]
        tables = _tables(sh0, version, 4 if version == 1 else 3)
        dc, logits = _looked_up(tables[:3], rgba), (tables[3] if version == 1 else LOGITS)[rgba[:, 3]]
        sh = _read_sh(meta.part("shN"), version, dc, centroids, labels) if centroids else dc[:, None]
    return from_arrays(scene.name, positions, log_scales, _read_rotations(rotation.pixels()[:count]), logits, sh)


def _read_means(part: Meta, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """From sign(x) ln(1 + |x|) in 16 bits between two ends."""
    least, most = part.numbers("mins", 3), part.numbers("maxs", 3)
    means = np.empty((len(low), 3), np.float32)
    for block in blocks(len(low)):
        numbers = low[block, :3] + 256.0 * high[block, :3]
        logarithms = least + (most - least) * (numbers / 65_535)
        means[block] = np.sign(logarithms) * np.expm1(np.abs(logarithms))
    return means


def _read_rotations(pixels: np.ndarray) -> np.ndarray:
    """Smallest three in red, green and blue; a tag that names no component stands for no rotation."""
    quaternions = np.empty((len(pixels), 4), np.float32)
    for block in blocks(len(pixels)):
        tags = pixels[block, 3].astype(np.intp) - FIRST_TAG
        quaternions[block] = add_largest(tags.clip(0), pixels[block, :3] - HALF, HALF)
        quaternions[block][tags < 0] = (1, 0, 0, 0)
    return quaternions


def _read_sh(part: Meta, version: int, dc: np.ndarray, centroids: Picture, labels: Picture) -> np.ndarray:
    """The colours with the coefficients that each Gaussian's label finds in the palette."""
    coefficients, left = divmod(centroids.width, PALETTE_COLUMNS)
    if left or coefficients not in BANDS:
        raise ValueError(f"{centroids.name} must be 192, 512 or 960 pixels wide, not {centroids.width}.")
    if "bands" in part:
        part.expect("bands", BANDS[coefficients])
    centroids.check_size(1, MAX_PALETTE * coefficients)
    size = centroids.height * PALETTE_COLUMNS
    size = part.whole("count", 1, size) if version == 2 else size
    pixels = centroids.pixels()[: size * coefficients, :3]
    palette = _tables(part, version, 1)[0][pixels].reshape(size, coefficients, 3)

    tags = labels.pixels()[: len(dc)].astype(np.intp)
    tags = tags[:, 0] + 256 * tags[:, 1]
    if tags.max() >= size:
        raise ValueError(f"{labels.name} must hold labels below {size:,}, not {tags.max():,}.")
    sh = np.empty((len(dc), 1 + coefficients, 3), np.float32)
    sh[:, 0] = dc
    for block in blocks(len(dc)):
        sh[block, 1:] = palette[tags[block]]
    return sh


def _tables(part: Meta, version: int, channels: int) -> np.ndarray:
    """Value of each byte in each channel [channels, 256]: a codebook of version 2, or a range of version 1."""
    if version == 1:
        least, most = part.numbers("mins", channels)[:, None], part.numbers("maxs", channels)[:, None]
        return (least + (most - least) * (np.arange(256) / 255)).astype(np.float32)
    codebook = part.numbers("codebook", 256, null_first=True)
    if np.isnan(codebook[0]):  # early writers left it null; this is what PlayCanvas's own reader puts there
        codebook[0] = codebook[1] + (codebook[1] - codebook[255]) / 255
    return np.broadcast_to(codebook.astype(np.float32), (channels, 256))


def _looked_up(tables: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.stack([table[pixels[:, channel]] for channel, table in enumerate(tables)], 1)


def write(gaussians: Gaussians, path: str | os.PathLike, iterations: int = 10, seed: int = 0) -> None:
    """Writes a SOG scene of version 2, in Morton order.

    Scales, colours and spherical harmonics get codebooks by k-means, and the spherical harmonics of a Gaussian become
    one of at most 65,536 vectors; positions, rotations and opacities are rounded to 16 or 8 bits.

    Args:
        gaussians: at least one.
        path: of a `.sog` file, or of a meta.json, beside which the pictures go; written in place.
        iterations: of k-means.
        seed: of its first centres.

    Raises:
        OSError: it cannot be written.
        ValueError: there are none or too many Gaussians, or one holds what is not finite.
    """
    path = Path(path)
    files = _pack(gaussians, iterations, torch.Generator().manual_seed(seed))
    if path.name == META:
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (path.parent / name).write_bytes(data)
        return
    with zipfile.ZipFile(path, "w") as archive:  # not compressed again, and of no date: the same scene is the same file
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def _pack(gaussians: Gaussians, iterations: int, generator: torch.Generator) -> dict[str, bytes]:
    """File name -> content."""
    arrays = to_arrays(gaussians)
    count = len(gaussians)
    width = 4 * -(-_ceil_sqrt(count) // 4)
    height = 4 * -(-count // (4 * width))
    if width > lossless_webp.MAX_SIDE:
        most = (lossless_webp.MAX_SIDE // 4 * 4) ** 2
        raise ValueError(f"gaussians must be at most {most:,}, not {count:,}: WebP has no larger pictures.")

    least, most, positions = _pack_means(arrays["means"])
    order = morton_order(positions)
    positions = positions[order]
    scale_book, scales = _pack_numbers(arrays["log_scales"][order], iterations)
    color_book, colors = _pack_numbers(arrays["sh"][order, 0], iterations)
    pixels = {
        "means_l": positions & 255,
        "means_u": positions >> 8,
        "scales": scales,
        "quats": _pack_rotations(arrays["quaternions"][order]),
        "sh0": np.column_stack([colors, to_bytes(arrays["opacity_logits"][order])]),
    }
    meta = {
        "version": 2,
        "asset": {"generator": "pocket-diffusers"},
        "count": count,
        "means": {"mins": least, "maxs": most, "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": color_book, "files": ["sh0.webp"]},
    }
    files = {}
    if gaussians.sh_degree:
        rest = arrays["sh"][order, 1:].reshape(count, -1)
        book, centroids, labels = _pack_palette(rest, iterations, generator)
        pixels["shN_labels"] = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
        files["shN_centroids.webp"] = _picture(
            centroids.reshape(-1, 3), PALETTE_COLUMNS * (rest.shape[1] // 3), -(-len(centroids) // PALETTE_COLUMNS)
        )
        meta["shN"] = {
            "count": len(centroids),
            "bands": gaussians.sh_degree,
            "codebook": book,
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
    files |= {f"{name}.webp": _picture(values, width, height) for name, values in pixels.items()}
    return {META: json.dumps(meta).encode(), **files}


def _ceil_sqrt(count: int) -> int:
    return isqrt(count - 1) + 1


def _picture(pixels: np.ndarray, width: int, height: int) -> bytes:
    """A picture of so many pixels and, behind them, black ones."""
    padded = np.zeros((width * height, pixels.shape[1]), np.uint8)
    padded[: len(pixels)] = pixels
    return lossless_webp.encode(padded, width)


def _pack_means(means: np.ndarray) -> tuple[list[float], list[float], np.ndarray]:
    """Both ends of sign(x) ln(1 + |x|) on each axis, and where each lies between them, in 16 bits."""
    numbers = np.empty(means.shape, np.int32)
    least, most = (_logarithm(end.astype(np.float64)) for end in (means.min(0), means.max(0)))
    scale = 65_535 / np.where(most > least, most - least, 1)
    for block in blocks(len(means)):
        numbers[block] = np.rint((_logarithm(means[block].astype(np.float64)) - least) * scale)
    return least.tolist(), most.tolist(), numbers


def _logarithm(positions: np.ndarray) -> np.ndarray:
    return np.sign(positions) * np.log1p(np.abs(positions))


def _pack_numbers(values: np.ndarray, iterations: int) -> tuple[list[float], np.ndarray]:
    """A codebook of 256, the last one repeated, and the index of each value in it."""
    book = codebook.of_numbers(values, 256, iterations)
    return np.pad(book, (0, 256 - len(book)), "edge").tolist(), codebook.nearest(values, book)


def _pack_palette(
    rest: np.ndarray, iterations: int, generator: torch.Generator
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """A codebook, the indices into it of each vector of the palette, in ascending order, and each Gaussian's vector."""
    size = min(MAX_PALETTE, 1 << len(rest).bit_length() - 1)
    palette, labels = codebook.of_vectors(rest, size, iterations, generator)
    used, labels = np.unique(labels, return_inverse=True)
    book, indices = _pack_numbers(palette[used], iterations)
    indices, places = np.unique(indices, axis=0, return_inverse=True)
    return book, indices, places[labels]


def _pack_rotations(quaternions: np.ndarray) -> np.ndarray:
    pixels = np.empty((len(quaternions), 4), np.uint8)
    for block in blocks(len(quaternions)):
        index, others = drop_largest(quaternions[block], HALF)
        pixels[block, :3] = others + HALF
        pixels[block, 3] = FIRST_TAG + index
    return pixels
