"""Lossless WebP pictures whose pixels are data: size known before anything is unfolded, no byte lost on either way."""

import io
import struct

import numpy as np
from PIL import Image

MAX_SIDE = 16_383  # pixels


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels.

    Raises:
        ValueError: it is no lossless WebP picture; the sentence begins with a verb.
    """
    if len(data) < 20 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("is no WebP picture")
    # VP8X is a header in front of the picture, which says how large the whole is, and which other chunks follow.
    place, canvas = 12, None
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        place += 8
        if kind == b"VP8X" and canvas is None and length >= 10 and place + 10 <= len(data):
            canvas = tuple(1 + int.from_bytes(data[at : at + 3], "little") for at in (place + 4, place + 7))
        elif kind == b"VP8L" and place + 5 <= len(data):
            bits = int.from_bytes(data[place + 1 : place + 5], "little")
            sides = 1 + (bits & MAX_SIDE), 1 + (bits >> 14 & MAX_SIDE)
            if canvas not in (None, sides):
                raise ValueError("is a WebP picture of parts")
            return sides
        elif kind in (b"VP8 ", b"ANIM", b"ANMF"):
            break
        place += length + length % 2
    raise ValueError("is no lossless WebP picture")


def decode(data: bytes) -> np.ndarray:
    """Red, green, blue and alpha, row by row from the top left [pixels, 4], uint8. Check the size before.

    Raises:
        ValueError: it is damaged; the sentence begins with a verb.
    """
    width, height = size(data)
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
    except Exception:  # the decoder of Pillow raises errors of many kinds
        raise ValueError("is damaged") from None
    if pixels.shape != (height, width, 4):
        raise ValueError("is damaged: its size is not what its header says")
    return pixels.reshape(-1, 4)


def encode(pixels: np.ndarray, width: int) -> bytes:
    """A lossless picture of pixels [pixels, 3 or 4], uint8, whose number is a multiple of the width."""
    file = io.BytesIO()
    picture = Image.fromarray(pixels.reshape(-1, width, pixels.shape[1]))
    picture.save(file, "WEBP", lossless=True, exact=True)  # exact keeps the colours of pixels whose alpha is 0
    return file.getvalue()
