"""What the UNet is shown: computed ahead or as data come, with text encoders dropped as if they were missing."""

import pytest
import torch

from pocket_diffusers.pipelines.pipeline_snapgen import ENCODERS, SnapGenPipeline
from pocket_diffusers.training.conditions_snapgen import MemoryConditions, StreamConditions
from pocket_diffusers.training.datasets.captioned_images import CaptionedImages

CAPTIONS = ["a red cube", "two", "the blue sphere", "a red cube"]


@pytest.fixture(scope="module")
def three_encoders(tiny_components):
    return SnapGenPipeline(**tiny_components("lg3"))


@pytest.fixture(scope="module")
def one_encoder(tiny_components):
    return SnapGenPipeline(**tiny_components("l"))


@pytest.fixture(scope="module")
def data():
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return CaptionedImages(pixels, CAPTIONS, [""] * 4)


@torch.no_grad()
def velocity(pipeline, text, mask):
    sample = torch.linspace(-1, 1, 4 * 16).view(1, 4, 4, 4)
    return pipeline.unet(sample, 500, text, mask).sample


def dropping(pipeline, pattern):
    """Stream conditions that drop by a pattern instead of by chance."""
    conditions = StreamConditions(pipeline, 0.5)
    conditions._dropped = lambda count, generator: [pattern] * count
    return conditions


@pytest.mark.parametrize("gone", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_a_dropped_encoder_is_a_missing_one(three_encoders, data, gone):
    names = [list(ENCODERS)[number] for number in gone]
    batch = (data.images(torch.arange(1)), CAPTIONS[:1])
    given = dropping(three_encoders, set(names))(batch, torch.Generator())
    text, mask, *_ = three_encoders.without(names).encode_prompt(CAPTIONS[0], do_classifier_free_guidance=False)
    seen = velocity(three_encoders, given.text, given.mask)
    assert torch.allclose(seen, velocity(three_encoders, text, mask), atol=1e-5)


def test_a_picture_that_lost_all_encoders_has_the_empty_prompt(three_encoders, data):
    batch = (data.images(torch.arange(2)), CAPTIONS[:2])
    given = dropping(three_encoders, set(ENCODERS))(batch, torch.Generator())
    text, mask, *_ = three_encoders.encode_prompt(["", ""], do_classifier_free_guidance=False)
    assert torch.allclose(given.text, text, atol=1e-6) and torch.equal(given.mask, mask)


def test_encoders_are_dropped_independently_as_often_as_asked(three_encoders):
    rows = StreamConditions(three_encoders, 0.464)._dropped(4000, torch.Generator().manual_seed(0))
    drops = torch.tensor([[name in row for name in ENCODERS] for row in rows]).float()
    assert torch.allclose(drops.mean(dim=0), torch.full((3,), 0.464), atol=0.03)
    assert torch.allclose(torch.corrcoef(drops.T), torch.eye(3), atol=0.05)
    assert drops.prod(dim=1).mean() == pytest.approx(0.464**3, abs=0.02)


def test_stream_latents_are_scaled_and_need_no_gradient(three_encoders, data):
    pixels = data.images(torch.arange(4))
    given = StreamConditions(three_encoders, 0.0)((pixels, CAPTIONS), torch.Generator().manual_seed(0))
    std, mean = torch.tensor([[1.0, 0.5, 2.0, 1.5], [0.1, -0.2, 0.3, 0.0]]).view(2, 4, 1, 1)
    expected = (three_encoders.vae.encode(pixels).latent_dist.mode() - mean) / std * 0.8
    assert torch.allclose(given.latents, expected) and not given.latents.requires_grad and not given.text.requires_grad
    assert given.text.shape[:2] == given.mask.shape and len(given.text) == 4


def test_memory_holds_what_the_stream_would_compute(one_encoder, data):
    memory = MemoryConditions(one_encoder, data, text_drop=0.0)
    chosen = torch.tensor([2, 0, 3])
    held = memory(chosen, torch.Generator().manual_seed(0))
    batch = (data.images(chosen), [CAPTIONS[i] for i in chosen])
    streamed = StreamConditions(one_encoder, 0.0)(batch, torch.Generator().manual_seed(0))
    assert len(memory) == 4 and not held.text.requires_grad
    assert torch.allclose(held.latents, streamed.latents, atol=1e-5)
    length = held.mask.shape[1]
    assert torch.equal(held.mask, streamed.mask[:, :length]) and not streamed.mask[:, length:].any()
    assert torch.equal(held.text, streamed.text[:, :length].bfloat16().float())


def test_memory_drops_to_the_empty_prompt_as_often_as_asked(one_encoder, data):
    memory = MemoryConditions(one_encoder, data, text_drop=0.25)
    given = memory(torch.zeros(2000, dtype=torch.long), torch.Generator().manual_seed(0))
    empty, mask, *_ = one_encoder.encode_prompt("", do_classifier_free_guidance=False)
    length = given.mask.shape[1]
    is_empty = (given.mask == mask[:, :length]).all(dim=1)
    assert is_empty.float().mean() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(given.text[is_empty][0], empty[0, :length].bfloat16().float())
