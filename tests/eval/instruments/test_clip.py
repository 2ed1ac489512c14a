"""A CLIP model as an instrument, against transformers' own."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.eval.instruments.clip import ClipPictures, ImageTextEncoder, PictureScaling
from pocket_diffusers.training.objectives.contrastive import ClipSize, new_clip, train_tokenizer

TEXTS = ["a photo of a red cube", "an orange torus", "two green cones and a blue sphere"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    size = ClipSize(
        text_width=16, text_layers=1, vision_width=16, vision_layers=1, heads=2, image_size=16, projection=8
    )
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, size.tokens, vocabulary=300)
    folder = tmp_path_factory.mktemp("clip")
    new_clip(size, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return ImageTextEncoder.from_folder(folder)


def test_vectors_are_those_of_the_clip_model(encoder):
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = encoder.clip(**tokens, pixel_values=(pictures - 0.5) / 0.5)
    torch.testing.assert_close(encoder.encode_images(pictures), expected.image_embeds)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected.text_embeds)


def test_a_vector_does_not_depend_on_its_neighbours(encoder):
    alone = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    small = ImageTextEncoder(encoder.clip, encoder.tokenizer, batch_size=2)
    torch.testing.assert_close(small.encode_texts(TEXTS), alone)
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small.encode_images(pictures), encoder.encode_images(pictures))


def test_larger_pictures_are_resampled_and_long_texts_cut(encoder):
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(encoder.encode_images(flat), encoder.encode_images(flat[..., :16, :16]))
    assert encoder.encode_texts(["a cube and " * 40]).shape == (1, 8)


@pytest.mark.parametrize(("shape", "value"), [((3, 16, 16), 0.0), ((0, 3, 16, 16), 0.0), ((1, 3, 16, 16), -0.1)])
def test_bad_pictures_are_refused(encoder, shape, value):
    with pytest.raises(ValueError, match="pictures"):
        encoder.encode_images(torch.full(shape, value))


def test_missing_files_are_named(encoder, folder, tmp_path):
    with pytest.raises(ValueError, match="texts is empty"):
        encoder.encode_texts([])
    with pytest.raises(FileNotFoundError, match="config.json is missing"):
        ImageTextEncoder.from_folder(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing"):
        ImageTextEncoder.from_folder(tmp_path)


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


def test_a_folder_s_own_preprocessing_is_used(tmp_path):
    target = shutil.copytree(checkpoint("clip-nano-judge"), tmp_path / "clip")
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    (target / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    scaling, plain = ClipPictures(target).scaling, PictureScaling(64)
    (picture,) = pictures((101, 80))
    shown = scaling.pixels(picture) * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    assert torch.allclose(shown, plain.pixels(picture) / 2 + 0.5, atol=1e-6)


def test_clear_is_white_and_sixteen_bits_are_not_clipped():
    scaling, white, grey = PictureScaling(8), Image.new("L", (9, 8), 255), Image.new("L", (9, 8), 51)
    assert torch.equal(scaling.pixels(Image.new("RGBA", (9, 8), (9, 9, 9, 0))), scaling.pixels(white))
    assert torch.equal(scaling.pixels(Image.new("I;16", (9, 8), 51 * 257)), scaling.pixels(grey))


def test_bad_models_and_pictures(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is no CLIP model: model.safetensors is missing"):
        ClipPictures(tmp_path)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        ClipPictures(batch_size=0)
    clip = ClipPictures()
    with pytest.raises(ValueError, match="pictures is empty"):
        clip.encode_pictures([])
    with pytest.raises(ValueError, match="a picture must be a PIL image, not str"):
        clip.encode_pictures(["x.png"])


def test_similarity_is_the_cosine_of_each_picture_with_its_own_text(encoder):
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        every = encoder.clip(**tokens, pixel_values=2 * pictures - 1).logits_per_image / encoder.clip.logit_scale.exp()
    torch.testing.assert_close(encoder.similarity(pictures, TEXTS), every.diagonal())
