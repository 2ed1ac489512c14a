from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets.rows import UNKNOWN
from pocket_diffusers.training.datasets.segmented_images import segmented_picture
from pocket_diffusers.training.datasets.streams import streamed_batches


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Parquet with pictures whose left part is bright, and masks that say 2 there, 1 elsewhere and 0 on the top row."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # seconds that an epoch of parquet waits
    rows = {"image": [], "annotation": []}
    for i in range(4):
        mask = np.ones((32, 48), np.uint8)
        mask[:, : 16 + 4 * i], mask[0] = 2, 0
        rows["image"].append(Image.fromarray(np.where(mask == 2, 250, 20).astype(np.uint8)).convert("RGB"))
        rows["annotation"].append(Image.fromarray(mask))
    features = datasets.Features(image=datasets.Image(), annotation=datasets.Image())
    folder = tmp_path / "ade"
    folder.mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    monkeypatch.setattr(
        "pocket_diffusers.training.datasets.streams.open_stream",
        lambda source, split: datasets.load_dataset(
            "parquet", data_files={split: f"{source}/train.parquet"}, split=split, streaming=True
        ).decode(False),
    )
    return str(folder)


def test_masks_stay_with_their_pictures(source):
    batches = streamed_batches(source, partial(segmented_picture, size=32), 4, seed=0)
    for pictures, classes in islice(batches(0, 0, 1), 3):
        assert pictures.shape == (4, 3, 32, 32) and classes.shape == (4, 32, 32)
        assert (classes[:, 0] == UNKNOWN).all()
        bright = pictures[:, 0, 1:] > 0
        assert torch.equal(bright, classes[:, 1:] == 1)
        assert ((classes[:, 1:] == 0) == ~bright).all()


def test_a_missing_mask_is_named(source):
    batches = streamed_batches(source, partial(segmented_picture, size=32, mask_column="labels"), 2, seed=0)
    with pytest.raises(ValueError, match="has no 'labels'; its columns are image, annotation"):
        next(batches(0, 0, 1))
