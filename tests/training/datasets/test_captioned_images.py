"""Pictures with captions: PocketWorld's in memory, and rows of other sources."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets.captioned_images import captioned_picture, pocketworld_images
from pocket_diffusers.training.datasets.pocketworld import load_pocketworld
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS


def test_pocketworld_in_memory_is_pocketworld(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    data, rows = pocketworld_images("test", 32, 5), load_pocketworld("image", "test", 32, 5, streaming=True)
    assert len(data) == 5
    for i, row in enumerate(rows):
        assert np.array_equal(data.pixels[i].permute(1, 2, 0).numpy(), np.array(row["image"]))
        assert (data.captions[i], data.metadata[i]) == (row["caption"], row["metadata"])
        mask = np.array(row["mask"])
        assert (data.objects(torch.tensor([i])).numpy() == (mask > 0)).all()
        for k, thing in enumerate(row["objects"]):
            pair = ALL_PAIRS[data.pair_maps[i].numpy()[mask == k + 1][0] - 1]
            assert pair == (thing["color"], thing["shape"])
    images = data.images(torch.tensor([1, 0]))
    assert torch.allclose(images[1] * 127.5 + 127.5, data.pixels[0].float(), atol=1e-4) and images.abs().max() <= 1


def test_splits_are_joined_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    both, first, second = (pocketworld_images(split, 16, 3) for split in ("test+validation", "test", "validation"))
    assert torch.equal(both.pixels, torch.cat((first.pixels, second.pixels)))
    assert torch.equal(both.pair_maps, torch.cat((first.pair_maps, second.pair_maps)))
    assert [*both.captions] == [*first.captions, *second.captions] and len(both.metadata) == 6


def test_captions_are_texts():
    row = {"image": datasets.Image().encode_example(Image.new("RGB", (12, 10))), "txt": "a red cube", "label": 3}
    picture, caption = captioned_picture(row, 8)
    assert picture.shape == (3, 8, 8) and caption == "a red cube"
    with pytest.raises(ValueError, match="column 'label' holds ints; captions are texts"):
        captioned_picture(row, 8, caption_column="label")
