import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig

from pocket_diffusers.eval.instruments.clip import PictureScaling
from pocket_diffusers.eval.scores.clip_score import ClipScorer, official_faults
from pocket_diffusers.training.objectives.contrastive import ClipSize, new_clip, train_tokenizer

CAPTIONS = ["a red cube", "two blue spheres", "a green cone left of a white torus"]


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny untrained CLIP for pictures of 16 pixels a side."""
    size = ClipSize(
        text_width=16, text_layers=2, vision_width=16, vision_layers=1, heads=2, image_size=16, projection=8
    )
    tokenizer = train_tokenizer(iter(CAPTIONS), size.tokens, vocabulary=300)
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("clip")
    new_clip(size, tokenizer).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def test_score_is_the_mean_cosine_that_transformers_computes(folder):
    scorer = ClipScorer(folder)
    made = pictures((16, 16), (16, 16), (16, 16))
    pixels = torch.stack([torch.from_numpy(np.asarray(picture)).permute(2, 0, 1) / 127.5 - 1 for picture in made])
    tokens = scorer.clip.tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = scorer.clip.clip(pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    cosines = torch.cosine_similarity(output.image_embeds, output.text_embeds)
    found = scorer.score(made, CAPTIONS)
    assert found.clip_score == pytest.approx(cosines.mean().item(), abs=1e-5)
    low, high = found.interval
    assert min(cosines) - 1e-5 <= low <= found.clip_score <= high <= max(cosines) + 1e-5
    assert (found.scale, found.compat, found.n, found.truncated) == (1.0, "fixed", 3, 0)
    assert found.backbone.startswith(f"{folder.name}: ViT 16/") and found.backbone.endswith(" at 16")


def test_a_folder_s_own_preprocessing_is_used(folder, tmp_path):
    """Bicubic to the shortest side, the square in the middle, then the mean and deviation of the file."""
    target = tmp_path / "clip"
    shutil.copytree(folder, target)
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    (target / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    scaling, plain = ClipScorer(target).clip.scaling, ClipScorer(folder).clip.scaling
    (picture,) = pictures((61, 40))
    pixels = scaling.pixels(picture)
    assert torch.allclose(pixels * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None],
                          plain.pixels(picture) / 2 + 0.5, atol=1e-6)  # fmt: skip
    small = picture.resize((24, 16), Image.Resampling.BICUBIC).crop((4, 0, 20, 16))
    assert torch.equal(plain.pixels(small), plain.pixels(picture))


def test_long_captions_are_counted_not_hidden(folder):
    scorer = ClipScorer(folder)
    assert scorer.score(pictures((16, 16)), ["a red cube " * 100]).truncated == 1
    assert scorer.score(pictures((16, 16)), ["a red cube"]).interval is None


def test_official_takes_the_official_backbone_only(folder):
    with pytest.raises(ValueError, match="needs OpenAI's ViT-B/32.*model is .*ViT 16/"):
        ClipScorer(folder, "official")
    scorer = ClipScorer(folder)
    scorer.compat = "official"
    with pytest.raises(ValueError, match="1 captions are too long"):
        scorer.score(pictures((16, 16)), ["a red cube " * 100])


OPENAI = PictureScaling(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def test_official_is_what_transformers_makes_of_openai_s_model():
    """The defaults of CLIPConfig are those of openai/clip-vit-base-patch32, whose own file says eos_token_id 2."""
    assert official_faults(CLIPConfig(), OPENAI) == []
    assert official_faults(CLIPConfig(text_config={"eos_token_id": 2}), OPENAI) == []
    same = CLIPConfig(logit_scale_init_value=1.0, vision_config={"attention_dropout": 0.1, "initializer_range": 1.0})
    assert official_faults(same, OPENAI) == [], "what does not change a cosine"


@pytest.mark.parametrize(
    ("tower", "field", "value"),
    [
        ("vision_config", "hidden_act", "gelu"),
        ("vision_config", "hidden_size", 960),
        ("vision_config", "intermediate_size", 4096),
        ("vision_config", "num_hidden_layers", 24),
        ("vision_config", "num_attention_heads", 16),
        ("vision_config", "num_channels", 1),
        ("vision_config", "image_size", 336),
        ("vision_config", "patch_size", 16),
        ("vision_config", "layer_norm_eps", 1e-6),
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "hidden_size", 768),
        ("text_config", "intermediate_size", 3072),
        ("text_config", "num_hidden_layers", 11),
        ("text_config", "num_attention_heads", 4),
        ("text_config", "max_position_embeddings", 64),
        ("text_config", "vocab_size", 49409),
        ("text_config", "layer_norm_eps", 1e-6),
        ("text_config", "eos_token_id", 7),
    ],
)
def test_official_notices_another_value_of_any_field(tower, field, value):
    (fault,) = official_faults(CLIPConfig(**{tower: {field: value}}), OPENAI)
    assert fault.startswith(f"{tower}.{field} is {value!r} and not ")


def test_official_notices_another_projection_and_scaling():
    assert official_faults(CLIPConfig(projection_dim=768), OPENAI) == ["projection_dim is 768 and not 512"]
    for scaling in (PictureScaling(224), replace(OPENAI, side=256), replace(OPENAI, std=(0.5, 0.5, 0.5))):
        (fault,) = official_faults(CLIPConfig(), scaling)
        assert fault.startswith("pictures are scaled as ")


def test_without_a_model_it_is_the_committed_judge_and_tells_captions_apart():
    from pocket_diffusers.training.datasets.pocketworld.records import pictures as records

    scorer = ClipScorer()
    assert scorer.backbone.startswith("clip-nano-judge: ViT ")
    made = list(records("test", 64, range(12)))
    shown = [Image.fromarray(record.rgb) for record in made]
    captions = [record.caption for record in made]
    assert scorer.score(shown, captions).clip_score > scorer.score(shown, captions[1:] + captions[:1]).clip_score + 0.1


def test_bad_input_is_named(folder, tmp_path):
    scorer = ClipScorer(folder)
    with pytest.raises(ValueError, match="there are 0 pictures and 0 captions"):
        scorer.score([], [])
    with pytest.raises(ValueError, match="there are 1 pictures and 2 captions; they must be pairs"):
        scorer.score(pictures((16, 16)), CAPTIONS[:2])
    with pytest.raises(ValueError, match="a picture must be a PIL image.*not ndarray"):
        scorer.score([np.zeros((16, 16, 3))], CAPTIONS[:1])
    with pytest.raises(ValueError, match="compat must be one of fixed, official.*not 'new'"):
        ClipScorer(folder, "new")
    with pytest.raises(FileNotFoundError, match="is no CLIP model: config.json is missing"):
        ClipScorer(tmp_path)
