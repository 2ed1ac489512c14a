"""The encoder of a CLIP folder, against transformers' `CLIPModel` used directly; folders that lack something."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_snapgen import make_tokenizer
from transformers import CLIPConfig, CLIPModel

from pocket_diffusers.pipelines.recognition.image_text_encoder import ImageTextEncoder

TEXTS = ["a red cube", "two", "a photo of a red cube and two green cones and more", ""]
MEAN, STD = [0.48, 0.45, 0.4], [0.27, 0.26, 0.25]
SIDE, LENGTH = 16, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CLIP with its own scaling of pictures, whose weights are large enough to tell pictures and texts apart."""
    place, tokenizer = tmp_path_factory.mktemp("clip"), make_tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    texts = {**tower, **special, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    pictures = {**tower, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=texts, vision_config=pictures, projection_dim=8, initializer_factor=5.0))
    model.half().save_pretrained(place)
    tokenizer.save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return place


@pytest.fixture(scope="module")
def clip(folder) -> CLIPModel:
    return CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()


def pictures(side: int = SIDE) -> torch.Tensor:
    return torch.rand(len(TEXTS), 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def vectors_of_texts(clip: CLIPModel) -> torch.Tensor:
    """One text at a time, without padding, cut to the model's length with the end of the text as its last token."""
    tokenizer, found = make_tokenizer(), []
    for text in TEXTS:
        ids = tokenizer(text).input_ids
        ids = ids if len(ids) <= LENGTH else [*ids[: LENGTH - 1], tokenizer.eos_token_id]
        found.append(clip.text_projection(clip.text_model(torch.tensor([ids])).pooler_output))
    return torch.cat(found)


@torch.no_grad()
def vectors_of_pictures(clip: CLIPModel, scaled: torch.Tensor) -> torch.Tensor:
    return clip.visual_projection(clip.vision_model(scaled).pooler_output)


def scaled(images: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    return torch.stack([(images[:, i] - mean[i]) / std[i] for i in range(3)], dim=1)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.square().sum(1, keepdim=True).sqrt()


def test_pictures_are_scaled_as_the_folder_says(folder, clip):
    encoder, images = ImageTextEncoder.from_pretrained(folder), pictures()
    expected = unit(vectors_of_pictures(clip, scaled(images, MEAN, STD)))
    torch.testing.assert_close(encoder.encode_images(images), expected)
    other = unit(vectors_of_pictures(clip, scaled(images, [0.5] * 3, [0.5] * 3)))
    assert (other - expected).abs().max() > 0.01, "another scaling must tell"
    assert not encoder.clip.training and next(encoder.clip.parameters()).dtype == torch.float32


def test_without_a_preprocessor_pictures_lie_within_one_of_zero(folder, clip, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").unlink()
    expected = unit(vectors_of_pictures(clip, pictures() * 2 - 1))
    torch.testing.assert_close(ImageTextEncoder.from_pretrained(tmp_path / "clip").encode_images(pictures()), expected)


def test_pictures_of_another_size_are_resampled_as_pillow_does(folder, clip):
    large = pictures(40)
    resized = [
        [Image.fromarray(channel.numpy()).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for channel in picture]
        for picture in large
    ]
    images = torch.from_numpy(np.stack([[np.asarray(channel) for channel in picture] for picture in resized]))
    expected = unit(vectors_of_pictures(clip, scaled(images, MEAN, STD)))
    found = ImageTextEncoder.from_pretrained(str(folder)).encode_images(large)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_texts_of_many_lengths_are_encoded_as_each_alone(folder, clip):
    expected = unit(vectors_of_texts(clip))
    encoder = ImageTextEncoder.from_pretrained(folder)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected)
    assert torch.cdist(expected, expected).fill_diagonal_(1).min() > 0.01, "texts must be told apart"


def test_similarity_is_the_cosine_of_each_pair(folder, clip):
    of_pictures, of_texts = vectors_of_pictures(clip, scaled(pictures(), MEAN, STD)), vectors_of_texts(clip)
    expected = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(of_pictures, of_texts, strict=True)]
    found = ImageTextEncoder.from_pretrained(folder).similarity(pictures(), TEXTS)
    assert found.tolist() == pytest.approx(expected, abs=1e-5) and len(set(expected)) == len(TEXTS)


# What is missing


def spelling(folder: Path) -> dict[str, int]:
    """Puts CLIP's own tokenizer of the letters a to e in the folder, in two files as it was published; its ids."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    own = json.loads((folder / "config.json").read_text())["text_config"]
    ids = {"<|startoftext|>": own["bos_token_id"], "<|endoftext|>": own["eos_token_id"]}
    others = (i for i in range(own["vocab_size"]) if i not in ids.values())
    ids |= {letter + end: next(others) for letter in "abcde" for end in ("", "</w>")}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return ids


def test_a_tokenizer_of_two_files_is_read_too(folder, clip, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    ids = spelling(tmp_path / "clip")
    said = torch.tensor([[ids[token] for token in ("<|startoftext|>", "a", "b</w>", "e</w>", "<|endoftext|>")]])
    with torch.no_grad():
        expected = unit(clip.text_projection(clip.text_model(said).pooler_output))
    torch.testing.assert_close(ImageTextEncoder.from_pretrained(tmp_path / "clip").encode_texts(["ab e"]), expected)


def without_merges(folder: Path) -> None:
    spelling(folder)
    (folder / "merges.txt").unlink()


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_projection(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_other_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "projection_dim": 12}))


@pytest.mark.parametrize(
    ("damage", "error", "sentence"),
    [
        (shutil.rmtree, FileNotFoundError, r"^[^ ]*clip must be a folder with a CLIP model, which it is not\.$"),
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, r"^[^ ]*config\.json is missing\.$"),
        (lambda f: (f / "tokenizer.json").unlink(), FileNotFoundError, r"^[^ ]*tokenizer\.json is missing\.$"),
        (without_merges, FileNotFoundError, r"^[^ ]*tokenizer\.json is missing\.$"),
        (lambda f: (f / "model.safetensors").unlink(), OSError, r"model\.safetensors"),
        (as_pickle, OSError, r"model\.safetensors"),
        (without_projection, ValueError, r"clip must hold the weights of a CLIP .*_projection\.weight is missing\.$"),
        (of_other_width, ValueError, r"^[^ ]*clip must hold weights of the sizes that its config\.json says\.$"),
        (lambda f: (f / "preprocessor_config.json").write_text("{"), ValueError, r"preprocessor_config\.json is trunc"),
    ],
    ids=["folder", "config", "tokenizer", "merges", "weights", "pickle", "tensor", "width", "preprocessor"],
)  # fmt: skip
def test_what_is_missing_is_refused(folder, tmp_path, damage, error, sentence):
    shutil.copytree(folder, tmp_path / "clip")
    damage(tmp_path / "clip")
    with pytest.raises(error, match=sentence):
        ImageTextEncoder.from_pretrained(tmp_path / "clip")
