"""CLIP training: losses against naive twins, the tokenizer, and that pictures find their captions."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPModel
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from pocket_diffusers.pipelines.fitting.loop import FitSettings, fit
from pocket_diffusers.training.datasets.captioned_images import CaptionedImages
from pocket_diffusers.training.datasets.pocketworld.descriptions import RELATIONS, counting, position, two_object
from pocket_diffusers.training.datasets.pocketworld.records import pictures
from pocket_diffusers.training.datasets.pocketworld.scene import SHAPES
from pocket_diffusers.training.datasets.streams import shuffled_batches
from pocket_diffusers.training.objectives.contrastive import (
    ClipSize,
    Contrastive,
    can_be_mirrored,
    claim,
    claimed_relation,
    contrastive_loss,
    degrade,
    mirrored,
    new_clip,
    patch_labels,
    shape_counts,
    train_tokenizer,
)

SIZE = ClipSize(
    text_width=32, text_layers=1, vision_width=32, vision_layers=1, heads=2, patch_size=8, image_size=16, projection=16
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a red cube", "two blue cubes", "a sphere above a cone"] * 5, tokens=12, vocabulary=300)


def unit_vectors(count, generator):
    return F.normalize(torch.randn(count, 8, generator=generator), dim=-1)


def naive_loss(image, text, scale, groups):
    """Mean over right answers of -log softmax, item by item, in both directions."""
    total = 0.0
    for rows, columns in ((image, text), (text, image)):
        for i in range(len(groups)):
            logits = [scale * float(rows[i] @ columns[j]) for j in range(len(groups))]
            log_sum = math.log(sum(math.exp(logit) for logit in logits))
            right = [logits[j] - log_sum for j in range(len(groups)) if groups[j] == groups[i]]
            total -= sum(right) / len(right) / len(groups) / 2
    return total


def test_contrastive_loss_equals_its_naive_twin():
    generator = torch.Generator().manual_seed(0)
    image, text = unit_vectors(6, generator), unit_vectors(6, generator)
    groups = [0, 1, 0, 2, 1, 0]
    loss = contrastive_loss(image, text, torch.tensor(7.0), torch.tensor(groups))
    assert loss.item() == pytest.approx(naive_loss(image, text, 7.0, groups), abs=1e-5)


def test_contrastive_loss_without_duplicates_is_transformers_own():
    generator = torch.Generator().manual_seed(1)
    image, text = unit_vectors(5, generator), unit_vectors(5, generator)
    loss = contrastive_loss(image, text, torch.tensor(9.0), torch.arange(5))
    assert torch.allclose(loss, image_text_contrastive_loss(9.0 * text @ image.T), atol=1e-6)


def test_patch_labels_equal_their_naive_twin():
    generator = torch.Generator().manual_seed(2)
    pairs = torch.randint(0, 5, (3, 16, 16), generator=generator)
    maps = (pairs * (torch.rand(3, 16, 16, generator=generator) < 0.3)).to(torch.uint8)
    labels = patch_labels(maps, 8)
    assert labels.shape == (3, 4) and {0} < set(labels.flatten().tolist())
    for n, row, column in ((n, r, c) for n in range(3) for r in range(2) for c in range(2)):
        patch = maps[n, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten().tolist()
        shown = sorted(pair for pair in patch if pair > 0)
        expected = shown[64 // 6] if len(shown) > 64 / 6 else 0
        assert labels[n, 2 * row + column] == expected


def test_degrade_depends_on_its_generator_alone_and_softens_half():
    pixels = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    once, again, other = (degrade(pixels, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert once.shape == pixels.shape and once.abs().max() <= 1
    grey = torch.zeros(64, 3, 16, 16)
    assert degrade(grey, torch.Generator().manual_seed(5)).abs().max() < 0.5

    def detail(images):
        return (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))

    softened = detail(once) < 0.8 * detail(pixels)
    assert 10 < softened.sum() < 45


def record_of(description):
    return description.to_metadata("whatever it says")


def test_claims_are_grouped_whatever_their_words():
    two, three = counting("cone", 2), counting("cone", 3)
    keys = [claim(two.to_metadata("two cones")), claim(record_of(three)), claim(two.to_metadata("a pair of cones"))]
    assert keys[0] == keys[2] != keys[1]


def test_records_are_counted_and_related():
    assert shape_counts(record_of(counting("cone", 4))) == [4 * (shape == "cone") for shape in SHAPES]
    assert shape_counts(record_of(two_object("cube", "torus"))) == [int(shape in ("cube", "torus")) for shape in SHAPES]
    pair, relation = claimed_relation(record_of(position("cube", "above", "torus")))
    assert divmod(pair, len(SHAPES)) == (SHAPES.index("cube"), SHAPES.index("torus"))
    assert RELATIONS[relation] == "above"
    assert claimed_relation(record_of(counting("cone", 4))) == (-1, -1)


def test_only_claims_of_left_and_right_forbid_a_mirror():
    for relation in RELATIONS:
        allowed = relation in ("above", "below")
        assert can_be_mirrored(record_of(position("cube", relation, "torus"))) is allowed
    assert can_be_mirrored(record_of(counting("cone", 4))) and can_be_mirrored(record_of(two_object("cube", "torus")))


def test_chosen_maps_are_mirrored_and_labels_with_their_pictures(tokenizer):
    data = tiny_world()
    chosen = torch.arange(16) % 3 == 0
    seen = mirrored(data.pixels, chosen)
    for i in range(16):
        assert torch.equal(seen[i], data.pixels[i].flip(-1) if i % 3 == 0 else data.pixels[i])
    other = CaptionedImages(seen, data.captions, data.metadata, mirrored(data.pair_maps, chosen))
    labels, others = (Contrastive(new_clip(SIZE, tokenizer), tokenizer, d, 1e-3, 0.5).labels for d in (data, other))
    assert torch.equal(mirrored(labels, chosen), others) and not torch.equal(labels, others)


def test_tokenizer_frames_lowers_and_says_any_text(tokenizer):
    ids = tokenizer("A red CUBE").input_ids
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert ids == tokenizer("a red cube").input_ids
    strange = tokenizer("ß ≠ 猫").input_ids
    assert (
        tokenizer.unk_token_id not in strange
        and tokenizer.decode(strange, skip_special_tokens=True).strip() == "ß ≠ 猫"
    )
    long = tokenizer("cube " * 40, truncation=True, padding="max_length").input_ids
    assert len(long) == 12 and long[-1] == tokenizer.eos_token_id


def test_model_round_trips_and_every_weight_learns(tokenizer, tmp_path):
    torch.manual_seed(0)
    clip = new_clip(SIZE, tokenizer)
    objective = Contrastive(clip, tokenizer, tiny_world(), 1e-3, dense_weight=0.5)
    loss, metrics = objective.loss("clip", torch.arange(16), torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.item() == pytest.approx(metrics["contrast"] + 0.5 * (metrics["dense"] + metrics["scene"]), rel=1e-5)
    idle = [name for name, p in objective.parts["clip"].named_parameters() if p.grad is None or not p.grad.any()]
    assert all("k_proj.bias" in name or "post_layernorm" in name for name in idle), idle
    clip.save_pretrained(tmp_path)
    loaded = CLIPModel.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(clip.parameters(), loaded.parameters(), strict=True))
    assert loaded.config._attn_implementation == "sdpa"


def tiny_world(count: int = 16) -> CaptionedImages:
    """PocketWorld, one picture a claim."""
    chosen, seen = [], set()
    for picture in pictures("train_all", 16, range(60)):
        record = picture.description.to_metadata(picture.caption)
        if claim(record) not in seen and len(chosen) < count:
            seen.add(claim(record))
            chosen.append((picture, json.dumps(record)))
    pixels = torch.stack([torch.from_numpy(picture.rgb).permute(2, 0, 1) for picture, _ in chosen])
    maps = torch.stack([torch.from_numpy(picture.instances) for picture, _ in chosen])
    return CaptionedImages(pixels, [picture.caption for picture, _ in chosen], [record for _, record in chosen], maps)


@pytest.mark.slow
def test_sixteen_pictures_find_their_captions():
    data = tiny_world()
    tokenizer = train_tokenizer(data.captions, tokens=24, vocabulary=320)
    torch.manual_seed(0)
    objective = Contrastive(new_clip(SIZE, tokenizer), tokenizer, data, 3e-3, dense_weight=0.1)
    fit(objective, shuffled_batches(16, 16, 0), FitSettings(steps=120, warmup_steps=10), progress=False)
    clip = objective.parts["clip"].eval()
    with torch.no_grad():
        said = clip(data.images(torch.arange(16)), objective.input_ids, objective.attention_mask)
    assert torch.equal((said.image @ said.text.T).argmax(dim=1), torch.arange(16))
    assert torch.equal((said.text @ said.image.T).argmax(dim=1), torch.arange(16))
