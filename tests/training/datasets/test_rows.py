"""Rows of sources: what a column holds under any of its names, and pictures cropped with their masks."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets.rows import UNKNOWN, center_crop, crop_classes, picture, value


@pytest.mark.parametrize("column", ["image", "text", "label"])
def test_columns_have_other_names_in_shards(column):
    row = {"jpg": 1, "txt": 2, "cls": 3, "image": None}
    assert value(row, column) == {"image": 1, "text": 2, "label": 3}[column]
    with pytest.raises(ValueError, match=f"a row of the source has no '{column}'; its columns are other"):
        value({"other": 1}, column)
    with pytest.raises(ValueError, match="no 'photo'"):
        value(row, "photo")


def test_what_is_no_picture_is_named():
    row = {"image": {"path": "a.png", "bytes": b"no picture"}, "png": None}
    with pytest.raises(OSError, match=r"picture 'a\.png' of the source cannot be read"):
        picture(row, "image")
    row = {"image": datasets.Image().encode_example(Image.new("RGB", (3, 2), (9, 8, 7)))}
    assert picture(row, "image").getpixel((2, 1)) == (9, 8, 7)


def test_pictures_are_cropped_in_the_middle():
    image = Image.new("RGB", (30, 10), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 20, 10))
    cropped = center_crop(image, 10)
    assert cropped.shape == (3, 10, 10)
    assert torch.equal(cropped[2], torch.ones(10, 10)) and torch.equal(cropped[0], -torch.ones(10, 10))
    tall = center_crop(Image.new("L", (7, 21), 255), 8)
    assert torch.equal(tall, torch.ones(3, 8, 8))


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (Image.fromarray(np.full((4, 4), 51 * 257, np.uint16)), (51, 51, 51)),
        (Image.new("I", (4, 4), 51 * 257), (51, 51, 51)),
        (Image.new("F", (4, 4), 0.2), (51, 51, 51)),
        (Image.new("RGBA", (4, 4), (9, 9, 9, 0)), (255, 255, 255)),
        (Image.new("LA", (4, 4), (9, 0)), (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
    ],
    ids=["16 bits", "int32", "float", "RGBA", "LA", "CMYK"],
)
def test_training_reads_pictures_as_the_pipelines_do(image, shown):
    assert (center_crop(image, 4)[:, 0, 0] * 127.5 + 127.5).tolist() == pytest.approx(shown, abs=1e-3)


def test_a_mask_of_several_channels_is_refused():
    with pytest.raises(ValueError, match="a mask is of mode RGB; it must have one channel"):
        crop_classes(Image.new("RGB", (8, 8)), 8, first_class=1)


def test_a_crop_takes_the_middle_and_counts_from_the_first_class():
    mask = Image.fromarray(np.arange(48, dtype=np.uint8)[None].repeat(32, 0))
    classes = crop_classes(mask, 32, first_class=10)
    assert classes[5].tolist() == [UNKNOWN] * 2 + list(range(30))
