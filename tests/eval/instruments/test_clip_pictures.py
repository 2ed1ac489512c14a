"""A CLIP model that reads pictures, against transformers' own."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.eval.instruments.clip_pictures import ClipPictures, PictureScaling
from pocket_diffusers.eval.instruments.features import clip_features


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]


def test_embeddings_are_those_of_transformers_before_their_length_is_taken_away():
    clip = ClipPictures(batch_size=2)
    made = pictures((64, 64), (64, 64), (64, 64))
    pixels = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1 for picture in made])
    with torch.no_grad():
        tokens = torch.zeros(1, 4, dtype=torch.long)
        expected = clip.clip(pixel_values=pixels, input_ids=tokens).image_embeds
    found = clip.encode_pictures(made)
    assert torch.allclose(torch.nn.functional.normalize(found, dim=1), expected, atol=1e-5)
    assert (found.norm(dim=1) - 1).abs().max() > 1e-2
    assert clip.name == "clip-nano-judge"


def test_features_carry_the_model_s_name():
    extractor = clip_features("clip-nano-judge")
    made = pictures((64, 64), (80, 70))
    assert extractor.name == "clip-nano-judge"
    assert np.allclose(extractor(made), ClipPictures().encode_pictures(made).numpy(), atol=1e-6)
    assert extractor(made).dtype == np.float64


def test_a_folder_s_own_preprocessing_is_used(tmp_path):
    target = shutil.copytree(checkpoint("clip-nano-judge"), tmp_path / "clip")
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    (target / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    scaling, plain = ClipPictures(target).scaling, PictureScaling(64)
    (picture,) = pictures((101, 80))
    shown = scaling.pixels(picture) * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    assert torch.allclose(shown, plain.pixels(picture) / 2 + 0.5, atol=1e-6)


def test_bad_models_and_pictures(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is no CLIP model: model.safetensors is missing"):
        ClipPictures(tmp_path)
    with pytest.raises(ValueError, match="batch_size is 0"):
        ClipPictures(batch_size=0)
    clip = ClipPictures()
    with pytest.raises(ValueError, match="pictures is empty"):
        clip.encode_pictures([])
    with pytest.raises(ValueError, match="a picture is str"):
        clip.encode_pictures(["x.png"])
