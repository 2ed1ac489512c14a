"""One picture, however it is held, is read as the same numbers; what is no picture is refused in one sentence."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pocket_diffusers.pipelines.recognition import picture_input
from pocket_diffusers.pipelines.recognition.picture_input import (
    Region,
    fit_picture,
    open_picture,
    picture_tensors,
    rgb_and_alpha,
    rgb_picture,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255


def read_one(image, channels=3):
    (picture,) = picture_tensors(image, channels)
    return picture


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS.astype(np.float64) / 255,
        PIXELS[:, ::-1][:, ::-1],
        PIXELS[None],
        TENSOR,
        TENSOR[None],
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        [Image.fromarray(PIXELS)],
        (PIXELS,),
        Image.fromarray(PIXELS).convert("RGBA"),
        np.dstack([PIXELS, np.full((5, 7), 255, np.uint8)]),
    ],
)
def test_one_picture_in_every_form(image):
    picture = read_one(image)
    assert picture.dtype == torch.float32 and picture.shape == (3, 5, 7)
    torch.testing.assert_close(picture, TENSOR, atol=1e-6, rtol=0)


def test_lists_may_mix_kinds_and_sizes(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    mixed = [PIXELS[:2], TENSOR[:, :, :3], Image.fromarray(PIXELS), tmp_path / "a.png", str(tmp_path / "a.png")]
    assert [tuple(p.shape[1:]) for p in picture_tensors(mixed)] == [(2, 7), (5, 3), (5, 7), (5, 7), (5, 7)]
    assert torch.equal(picture_tensors(mixed)[3], TENSOR)
    assert len(picture_tensors(np.stack([PIXELS] * 3))) == len(picture_tensors(torch.stack([TENSOR] * 3))) == 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "LA", "PA", "RGBA", "I", "F"])
def test_every_pil_mode(mode):
    source = Image.fromarray(PIXELS)
    if mode == "F":
        image = Image.fromarray(PIXELS[..., 0].astype(np.float32) / 255)
        expected = torch.from_numpy(PIXELS[..., 0].astype(np.float32) / 255).expand(3, -1, -1)
    elif mode == "I":
        image = Image.fromarray(PIXELS[..., 0].astype(np.int32) * 257)
        expected = torch.from_numpy(PIXELS[..., 0] / 255).float().expand(3, -1, -1)
    else:
        image = source.convert("L").convert(mode) if mode in ("LA", "PA") else source.convert(mode)
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_one(image), expected, atol=1e-5, rtol=0)


RED, CLEAR = (200, 0, 0), (255, 255, 255)
"""What each picture of `painted` shows, left and right."""


def painted(mode: str) -> Image.Image:
    """Two pixels: dark red, or grey where there is no colour; then one that is transparent."""
    if mode in ("RGBA", "RGBa"):
        return Image.frombytes("RGBA", (2, 1), bytes([*RED, 255, *RED, 0])).convert(mode)
    if mode == "LA":
        return Image.frombytes("LA", (2, 1), bytes([51, 255, 51, 0]))
    palette = Image.frombytes("P", (2, 1), bytes([1, 0]))
    palette.putpalette([0, 0, 0, *RED])
    if mode == "PA":
        palette = palette.convert("PA")
        palette.putalpha(Image.frombytes("L", (2, 1), bytes([255, 0])))
        return palette
    if mode == "P with a transparent entry":
        palette.info["transparency"] = 0
        return palette
    if mode == "I;16 with a transparent value":
        image = Image.fromarray(np.array([[51 * 257, 7]], np.uint16))
        image.info["transparency"] = 7
        return image
    if mode == "RGB with a transparent colour":
        image = Image.frombytes("RGB", (2, 1), bytes([*RED, 1, 2, 3]))
        image.info["transparency"] = (1, 2, 3)
        return image
    image = Image.frombytes("L", (2, 1), bytes([51, 7]))
    image.info["transparency"] = 7
    return image


@pytest.mark.parametrize("suffix", ["in memory", "in a file"])
@pytest.mark.parametrize(
    "mode",
    [
        "RGBA",
        "RGBa",
        "LA",
        "PA",
        "P with a transparent entry",
        "L with a transparent value",
        "I;16 with a transparent value",
        "RGB with a transparent colour",
    ],
)
def test_whatever_a_mode_calls_transparent_is_white(mode, suffix, tmp_path):
    image = painted(mode)
    if suffix == "in a file" and mode not in ("RGBa", "PA"):  # PNG has no such modes
        image.save(tmp_path / "picture.png", transparency=image.info.get("transparency"))
        image = Image.open(tmp_path / "picture.png")
    left = (51, 51, 51) if mode.startswith(("L", "I")) else RED
    assert list(rgb_picture(image).get_flattened_data()) == [left, CLEAR]
    by_tensor = read_one(image).mul(255).round().int()[:, 0].T.tolist()
    assert by_tensor == [list(left), list(CLEAR)]


DEEP = [0, 257, 32896, 65535]  # 16 bits that are 0, 1, 128 and 255 of 8


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([DEEP], np.uint16)),
        Image.frombytes("I;16B", (4, 1), np.array(DEEP, ">u2").tobytes()),
        Image.fromarray(np.array([DEEP], np.int32)),
        Image.fromarray(np.array([DEEP], np.float32) / 65535),
    ],
    ids=lambda image: image.mode,
)
def test_deep_pictures_are_scaled_to_eight_bits(image):
    assert list(rgb_picture(image).get_flattened_data()) == [(value,) * 3 for value in (0, 1, 128, 255)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_eight_bits_are_pils_own(mode):
    image = Image.fromarray(PIXELS).convert("RGB").convert(mode)
    assert rgb_picture(image).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("La", (2, 2)), "^photo cannot be read: .*La"),
        (Image.new("I", (2, 2), 70000), r"^photo must lie in \[0, 1\]"),
        (Image.new("F", (2, 2), 255.0), r"^photo must lie in \[0, 1\]"),
    ],
    ids=["La", "I", "F"],
)
def test_what_would_be_read_wrongly_is_refused_by_name(image, message):
    with pytest.raises(ValueError, match=message):
        rgb_picture(image, "photo")


def test_there_is_one_reader():
    """PIL's own conversion clips deep pictures and paints what is transparent with what lies beneath."""
    package = Path(picture_input.__file__).parents[2]
    rooms = ("hub_models", "pipelines", "training", "eval", "spaces")
    files = [file for room in rooms for file in (package / room).rglob("*.py")]
    converting = [file.name for file in files if re.search(r"""\.convert\(["']RGB["']\)""", file.read_text())]
    assert len(files) > 100 and converting == ["picture_input.py"]


def test_sixteen_bits_are_not_clipped():
    image = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert read_one(image, channels=1)[0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=1e-4)


def test_transparent_parts_are_white():
    pixels = np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [100, 100, 100, 51]]], dtype=np.uint8)
    grey = (100 * 51 + 255 * 204) / 255 / 255
    for image in (pixels, Image.fromarray(pixels)):
        columns = read_one(image)[:, 0].T.tolist()
        assert columns[0] == pytest.approx([1, 1, 1]) and columns[1] == pytest.approx([200 / 255, 0, 0])
        assert columns[2] == pytest.approx([grey] * 3)


def test_grey_is_luma_and_grey_becomes_colour():
    assert read_one(PIXELS, 1).shape == (1, 5, 7)
    by_pil = np.array(Image.fromarray(PIXELS).convert("L"))
    assert np.abs(read_one(PIXELS, 1)[0].numpy() * 255 - by_pil).max() <= 1
    assert torch.equal(read_one(by_pil), torch.from_numpy(by_pil).expand(3, -1, -1) / 255)
    assert torch.equal(read_one(torch.from_numpy(by_pil)[None] / 255, 1)[0], torch.from_numpy(by_pil) / 255)


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_exif_orientation(tmp_path, orientation, turns):
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    expected = torch.rot90(TENSOR, turns, (1, 2))
    assert torch.equal(read_one(tmp_path / "turned.png"), expected)
    with Image.open(tmp_path / "turned.png") as opened:
        assert torch.equal(read_one(opened), expected)


NAN = np.full((2, 2, 3), np.nan)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty: pass at least one"),
        (np.zeros((0, 4, 4, 3)), "images is empty: pass at least one"),
        (None, "images must be a PIL picture.*not NoneType"),
        (3, "images must be a PIL picture.*not int"),
        ([PIXELS, {}], r"images\[1\] must be a PIL picture.*not dict"),
        (b"bytes", "not bytes"),
        (np.zeros((4, 4, 2)), r"images must be \[height, width\] or .* not \[4, 4, 2\]"),
        (np.zeros((3, 5, 5)), r"as an array, not \[3, 5, 5\]"),
        (np.zeros(4), r"not \[4\]"),
        (np.zeros((1, 1, 4, 4, 3)), r"not \[1, 1, 4, 4, 3\]"),
        ([np.zeros((2, 4, 4, 3))], r"images\[0\] must be .* not \[2, 4, 4, 3\]"),
        (torch.zeros(5, 5, 3), r"as a tensor, not \[5, 5, 3\]"),
        (np.zeros((4, 0, 3)), "images is empty: 4 x 0 pixels"),
        (torch.zeros(3, 0, 4), "images is empty: 0 x 4 pixels"),
        (np.zeros((4, 4, 3), dtype=np.int64), r"must be uint8 or float in \[0, 1\], not int64"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "must be uint8 or float .* not torch.int32"),
        (np.array([["a"]]), "must be uint8 or float"),
        (NAN, "holds NaN or infinity"),
        ([PIXELS, torch.tensor([[np.inf]])], r"images\[1\] holds NaN or infinity"),
        (PIXELS.astype(np.float32), r"must lie in \[0, 1\], but reaches from .* to 2"),
        (2 * TENSOR - 1, r"must lie in \[0, 1\], but reaches from -"),
        (Image.fromarray(np.full((2, 2), 3.0, dtype=np.float32)), r"must lie in \[0, 1\]"),
        (Image.fromarray(np.full((2, 2), -5, dtype=np.int32)), r"must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_picture(images, message):
    with pytest.raises(ValueError, match=message) as caught:
        picture_tensors(images)
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_and_missing_files(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"text.png is no picture file that can be read"):
        picture_tensors(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"images\[1\] cannot be read: ") as caught:
        picture_tensors([PIXELS, tmp_path / "cut.png"])
    assert len(str(caught.value).splitlines()) == 1
    for nothing in (tmp_path / "none.png", str(tmp_path), "https://example.com/cat.png"):
        with pytest.raises(FileNotFoundError, match="no picture file at"):
            picture_tensors(nothing)


@pytest.mark.parametrize("limit", [100, 40])  # twice the limit is an error for PIL, more than the limit a warning
def test_decompression_bombs(tmp_path, monkeypatch, limit):
    Image.new("1", (15, 10)).save(tmp_path / "bomb.png")
    opened = Image.open(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bomb in (tmp_path / "bomb.png", opened, np.zeros((10, 15)), torch.zeros(10, 15)):
            with pytest.raises(ValueError, match=f"images has more than {limit} pixels, PIL's limit: make it smaller"):
                picture_tensors(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_one(opened).shape == (3, 10, 15)


SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.integers(1, 33))
@settings(max_examples=80, deadline=None)
def test_padding_keeps_proportions_and_repeats_the_edge(height, width, size):
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    square, (top, left, rows, columns) = fit_picture(picture, size)
    assert square.shape == (3, size, size) and square.min() >= 0 and square.max() <= 1 + 1e-6
    assert max(rows, columns) == size and min(rows, columns) == max(
        1, round(min(height, width) * size / max(height, width))
    )
    assert top == (size - rows) // 2 and left == (size - columns) // 2
    inside = square[:, top : top + rows, left : left + columns]
    y = torch.arange(size).clamp(top, top + rows - 1) - top
    x = torch.arange(size).clamp(left, left + columns - 1) - left
    assert torch.equal(square, inside[:, y][:, :, x])


def test_resizing_is_pils_bilinear():
    by_pil = np.array(Image.fromarray(PIXELS).resize((3, 3), Image.Resampling.BILINEAR)) / 255
    square, region = fit_picture(TENSOR, 3, "stretch")
    assert region == Region(0, 0, 3, 3)
    assert np.abs(square.permute(1, 2, 0).numpy() - by_pil).max() < 2 / 255
    same, region = fit_picture(TENSOR[:, :, :5], 5)
    assert torch.equal(same, TENSOR[:, :, :5]) and region == Region(0, 0, 5, 5)


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.0, 0.25, 1.0)])
def test_transparent_parts_become_the_background(background):
    alpha = np.array([[0, 51, 255]], np.uint8)
    colour = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)
    rgb, opaque = rgb_and_alpha(Image.fromarray(np.dstack([colour, alpha])), background=background)
    share = alpha[..., None] / 255
    expected = colour * share + 255 * np.array(background) * (1 - share)
    np.testing.assert_allclose(np.asarray(rgb, np.float64), expected, atol=0.51)
    np.testing.assert_array_equal(opaque, alpha)
    assert rgb.mode == "RGB" and opaque.mode == "L"


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
def test_what_cannot_be_transparent_has_no_alpha(mode):
    picture = Image.fromarray(PIXELS).convert("L" if mode == "I;16" else mode).convert(mode)
    rgb, opaque = rgb_and_alpha(picture, background=(1.0, 0.0, 0.0))
    assert opaque is None
    np.testing.assert_array_equal(rgb, rgb_picture(picture))


def test_files_are_opened_without_being_decoded(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with open_picture("picture", tmp_path / "a.png") as picture:
        assert picture.size == (7, 5)
    with pytest.raises(FileNotFoundError, match=r"picture: there is no picture file at .*b\.png"):
        open_picture("picture", tmp_path / "b.png")
