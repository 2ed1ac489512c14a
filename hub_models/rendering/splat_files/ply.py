"""3DGS PLY: one row of floats a Gaussian, as its authors' code saves it (Kerbl et al. 2023, arXiv 2308.04079).

Bytes a Gaussian: 68, 104, 164 or 248 at degree 0, 1, 2 or 3, 12 fewer without normals.
"""

import os
import re

import numpy as np

from ..gaussians import Gaussians
from ..spherical_harmonics import num_coefficients
from .arrays import blocks, from_arrays, to_arrays
from .ply_header import Element, read_header, read_rows, seek_rows
from .source import Source, opened

NUM_REST = {3 * (num_coefficients(degree) - 1): degree for degree in range(4)}
GROUPS = {
    "means": ("x", "y", "z"),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quaternions": ("rot_0", "rot_1", "rot_2", "rot_3"),
    "opacity_logits": ("opacity",),
    "dc": ("f_dc_0", "f_dc_1", "f_dc_2"),
}


def read(source: bytes | str | os.PathLike) -> Gaussians:
    """Gaussians of a binary 3DGS PLY file: properties in any order, with or without normals, SH of degree 0 to 3.

    Args:
        source: the file, or its bytes.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, or truncated, or holds what is not finite.
    """
    with opened(source) as file:
        return decode(file, read_header(file))


def decode(source: Source, elements: dict[str, Element]) -> Gaussians:
    """As `read`, of a file whose header was read."""
    source.require("chunk" not in elements, "is a compressed PLY file, which `compressed_ply.read` reads")
    vertex = seek_rows(source, elements, "vertex")
    wanted = dict(GROUPS)
    missing = [name for names in wanted.values() for name in names if name not in vertex.properties]
    source.require(not missing, f"must hold 3DGS properties, but lacks {', '.join(missing)}")
    wanted["rest"] = rest_names(source, vertex)

    read = {group: np.empty((vertex.count, len(names)), np.float32) for group, names in wanted.items() if group != "dc"}
    sh = np.empty((vertex.count, 1 + len(wanted["rest"]) // 3, 3), np.float32)
    columns = {**read, "dc": sh[:, 0], "rest": sh[:, 1:].transpose(0, 2, 1)}  # the file has all of red first
    del read["rest"]
    for block in blocks(vertex.count):
        rows = read_rows(source, vertex, block)
        with np.errstate(over="ignore"):  # a double may be too large for a float: it is refused as infinite below
            for group, names in wanted.items():
                target = columns[group][block]
                for position, name in zip(np.ndindex(target.shape[1:]), names, strict=True):
                    target[(slice(None), *position)] = rows[name]
    logits = read["opacity_logits"][:, 0]
    return from_arrays(source.name, read["means"], read["log_scales"], read["quaternions"], logits, sh)


def rest_names(source: Source, element: Element) -> list[str]:
    """f_rest_0, f_rest_1, ... of an element, all of red first.

    Raises:
        ValueError: their number is that of no SH degree.
    """
    count = sum(re.fullmatch(r"f_rest_\d+", name) is not None for name in element.properties)
    names = [f"f_rest_{index}" for index in range(count)]
    source.require(
        count in NUM_REST and set(names) <= set(element.properties),
        f"must hold f_rest_0 to 8, 23 or 44, or none, for an SH degree of 0 to 3, but holds {count} of them",
    )
    return names


def write(gaussians: Gaussians, path: str | os.PathLike, normals: bool = True) -> None:
    """Writes a binary 3DGS PLY file; values stay as they are, to the bit.

    Args:
        gaussians: at least one.
        path: of the file, written in place.
        normals: whether to add nx ny nz, all 0, which some readers insist on.

    Raises:
        OSError: it cannot be written.
        ValueError: there is no Gaussian, or one holds what is not finite.
    """
    arrays = to_arrays(gaussians)
    sh = arrays["sh"]
    normal_names = ("nx", "ny", "nz") if normals else ()
    rest = [f"f_rest_{index}" for index in range(3 * (sh.shape[1] - 1))]
    opacity, scale, rotation = GROUPS["opacity_logits"], GROUPS["log_scales"], GROUPS["quaternions"]
    names = [*GROUPS["means"], *normal_names, *GROUPS["dc"], *rest, *opacity, *scale, *rotation]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(sh)}"]
    lines += [*(f"property float {name}" for name in names), "end_header", ""]
    with open(path, "wb") as file:
        file.write("\n".join(lines).encode())
        for block in blocks(len(sh)):
            rows = [
                arrays["means"][block],
                np.zeros((block.stop - block.start, len(normal_names))),
                sh[block, 0],
                sh[block, 1:].transpose(0, 2, 1).reshape(block.stop - block.start, -1),
                arrays["opacity_logits"][block, None],
                arrays["log_scales"][block],
                arrays["quaternions"][block],
            ]
            file.write(np.concatenate(rows, 1, dtype="<f4").tobytes())
