from functools import partial
from itertools import islice

import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets.labelled_images import class_names, labelled_picture
from pocket_diffusers.training.datasets.streams import streamed_batches


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four classes, a folder each, of three pictures whose red channel says their class."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for label, name in enumerate(["ant", "bee", "cat", "dog"]):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(3):
            picture = Image.new("RGB", (40 + 4 * i, 36), (40 + 50 * label, 10 * i, 0))
            picture.save(tmp_path / "pictures" / name / f"{i}.png")
    return str(tmp_path / "pictures")


def read(folder, count, **columns):
    batches = streamed_batches(folder, partial(labelled_picture, size=32, **columns), 4, seed=0)
    return list(islice(batches(0, 0, 1), count))


def test_pictures_come_with_their_labels(folder):
    for pictures, labels in read(folder, 6):
        assert pictures.shape == (4, 3, 32, 32) and labels.dtype == torch.int64
        red = ((pictures[:, 0].mean((1, 2)) + 1) * 127.5).round()
        assert torch.equal(red, 40.0 + 50 * labels)


def test_class_names_are_those_of_the_folders(folder):
    assert class_names(folder) == ("ant", "bee", "cat", "dog")


def test_a_missing_column_is_named(folder):
    with pytest.raises(ValueError, match="has no 'photo'"):
        read(folder, 1, image_column="photo")


def test_labels_are_whole_numbers(folder):
    with pytest.raises(ValueError, match="column 'image' holds dicts; labels are whole numbers"):
        read(folder, 1, label_column="image")
