"""`.splatz` of this package: what `splat_codec` makes, a fraction of the size of SPZ."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..gaussians import Gaussians
from ..spherical_harmonics import num_coefficients
from ..splat_codec import SplatCodecConfig, claimed_size, decode_splats, encode_splats
from .arrays import from_arrays, to_arrays
from .source import Source, check_expansion, opened

LEAST_QUALITY, MOST_QUALITY = 1 / 16, 16.0
QUALITY = 2.0  # a conversion shall not be seen: on a scanned person, 41 dB far and 40 dB near, 36 and 34 dB at 1


def read(source: bytes | str | os.PathLike) -> Gaussians:
    """Gaussians of a .splatz file.

    Args:
        source: the file, or its bytes.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no such file, or truncated or damaged.
    """
    with opened(source) as file:
        data = file.take(file.length)
        with _named(file):
            count, degree = claimed_size(data)
        file.require(count > 0, "must hold Gaussians, but holds none")
        check_expansion(file.name, _num_bytes(count, degree), file.length)
        with _named(file):
            decoded = decode_splats(data)
        return from_arrays(file.name, *(value.numpy() for value in decoded.tensors().values()))


def write(gaussians: Gaussians, path: str | os.PathLike, quality: float = QUALITY) -> None:
    """Writes a .splatz file, in Morton order.

    Args:
        gaussians: at least one.
        path: of the file, written in place.
        quality: by what the steps of `SplatCodecConfig` are divided, 1/16 to 16.

    Raises:
        OSError: it cannot be written.
        ValueError: `quality` is out of its range, there is no Gaussian, one holds what is not finite, or values span
            too many steps.
    """
    if isinstance(quality, bool) or not LEAST_QUALITY <= quality <= MOST_QUALITY:
        raise ValueError(f"quality must be a number from {LEAST_QUALITY:g} to {MOST_QUALITY:g}, not {quality!r}.")
    to_arrays(gaussians)  # refuses what no file of splats holds
    data = encode_splats(gaussians, SplatCodecConfig().coarser(1 / quality))
    check_expansion(str(path), _num_bytes(len(gaussians), gaussians.sh_degree), len(data))  # as it could not be read
    Path(path).write_bytes(data)


def _num_bytes(count: int, degree: int) -> int:
    """Of so many Gaussians in memory."""
    return 4 * count * (11 + 3 * num_coefficients(degree))


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """Puts the name of the file before what the codec says of its bytes."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None
