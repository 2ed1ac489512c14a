"""Pictures whose pixels are data."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pocket_diffusers.hub_models.rendering.splat_files import lossless_webp


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (4, 3), (64, 7), (300, 2)])
def test_no_byte_is_lost(channels, width, height):
    pixels = np.random.default_rng(0).integers(256, size=(width * height, channels)).astype(np.uint8)
    pixels[:2, -1] = 0  # colours under an alpha of 0 are data too
    data = lossless_webp.encode(pixels, width)
    assert lossless_webp.size(data) == (width, height)
    again = lossless_webp.decode(data)
    assert np.array_equal(again[:, :channels], pixels)
    assert channels == 4 or (again[:, 3] == 255).all()


def test_a_picture_behind_an_extended_header_is_read():
    pixels = np.random.default_rng(0).integers(256, size=(12, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(3, 4, 3)).save(file, "WEBP", lossless=True, exact=True, exif=b"Exif\0\0abcd")
    assert b"VP8X" in file.getvalue() and lossless_webp.size(file.getvalue()) == (4, 3)
    assert np.array_equal(lossless_webp.decode(file.getvalue())[:, :3], pixels)


def saved(**options):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        saved(format="PNG"),
        saved(format="WEBP", lossless=False),
        saved(format="WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (8, 8), "red")]),
        b"RIFF\0\0\0\0WEBP" + struct.pack("<4sI", b"JUNK", 0xFFFFFFFF) + b"12345678",
    ],
)
def test_other_pictures_are_refused(data):
    with pytest.raises(ValueError, match=r"^is no (lossless )?WebP picture$"):
        lossless_webp.size(data)
