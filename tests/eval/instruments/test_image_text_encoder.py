import pytest
import torch

from pocket_diffusers.eval.instruments.image_text_encoder import ImageTextEncoder
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
