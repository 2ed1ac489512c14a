"""What a denoiser is shown: computed ahead or as data come, with classes or text encoders dropped by chance."""

from functools import partial

import pytest
import torch

from pocket_diffusers.pipelines.pipeline_snapgen import ENCODERS, SnapGenPipeline
from pocket_diffusers.training.conditions import (
    StreamedConditions,
    cached_classes,
    cached_latents,
    cached_texts,
    encode_sentences,
    shown_classes,
    shown_texts,
)
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


def streamed(pipeline, drop, encoders=ENCODERS):
    return StreamedConditions(pipeline.vae, shown_texts(pipeline, encoders, drop))


def remembered(pipeline, data, drop):
    latents = cached_latents(pipeline.vae, data.images, torch.arange(len(data)))
    return cached_texts(partial(encode_sentences, pipeline), latents, data.captions, drop)


# Texts


@pytest.mark.parametrize("gone", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_a_dropped_encoder_is_a_missing_one(three_encoders, data, gone):
    names = [list(ENCODERS)[number] for number in gone]
    batch = (data.images(torch.arange(1)), CAPTIONS[:1])
    given = streamed(three_encoders, 1.0, names)(batch, torch.Generator())
    text, mask, *_ = three_encoders.without(names).encode_prompt(CAPTIONS[0], do_classifier_free_guidance=False)
    seen = velocity(three_encoders, *given.shown)
    assert torch.allclose(seen, velocity(three_encoders, text, mask), atol=1e-5)


def test_a_picture_that_lost_all_encoders_has_the_empty_prompt(three_encoders, data):
    batch = (data.images(torch.arange(2)), CAPTIONS[:2])
    given = streamed(three_encoders, 1.0)(batch, torch.Generator())
    text, mask, *_ = three_encoders.encode_prompt(["", ""], do_classifier_free_guidance=False)
    assert torch.allclose(given.shown[0], text, atol=1e-6) and torch.equal(given.shown[1], mask)


class Listener:
    """Stands for a pipeline, and remembers which encoders each prompt did without."""

    def encode_prompt(self, prompt, do_classifier_free_guidance, dropped):
        self.dropped = dropped
        return torch.zeros(len(prompt), 1, 1), torch.ones(len(prompt), 1, dtype=torch.bool), None, None


def test_encoders_are_dropped_independently_as_often_as_asked():
    pipeline = Listener()
    shown_texts(pipeline, ENCODERS, 0.464)([""] * 4000, torch.Generator().manual_seed(0))
    drops = torch.tensor([[name in row for name in ENCODERS] for row in pipeline.dropped]).float()
    assert torch.allclose(drops.mean(dim=0), torch.full((3,), 0.464), atol=0.03)
    assert torch.allclose(torch.corrcoef(drops.T), torch.eye(3), atol=0.05)
    assert drops.prod(dim=1).mean() == pytest.approx(0.464**3, abs=0.02)


def test_stream_latents_are_scaled_and_need_no_gradient(three_encoders, data):
    pixels = data.images(torch.arange(4))
    given = streamed(three_encoders, 0.0)((pixels, CAPTIONS), torch.Generator().manual_seed(0))
    std, mean = torch.tensor([[1.0, 0.5, 2.0, 1.5], [0.1, -0.2, 0.3, 0.0]]).view(2, 4, 1, 1)
    expected = (three_encoders.vae.encode(pixels).latent_dist.mode() - mean) / std * 0.8
    text, mask = given.shown
    assert torch.allclose(given.latents, expected) and not given.latents.requires_grad and not text.requires_grad
    assert text.shape[:2] == mask.shape and len(text) == 4


def test_memory_holds_what_the_stream_would_compute(one_encoder, data):
    memory = remembered(one_encoder, data, drop=0.0)
    chosen = torch.tensor([2, 0, 3])
    held = memory(chosen, torch.Generator().manual_seed(0))
    batch = (data.images(chosen), [CAPTIONS[i] for i in chosen])
    shown = streamed(one_encoder, 0.0)(batch, torch.Generator().manual_seed(0))
    (text, mask), (other, its_mask) = held.shown, shown.shown
    assert len(memory) == 4 and not text.requires_grad and text.dtype == torch.float32
    assert torch.allclose(held.latents, shown.latents, atol=1e-5)
    length = mask.shape[1]
    assert torch.equal(mask, its_mask[:, :length]) and not its_mask[:, length:].any()
    assert torch.equal(text, other[:, :length].bfloat16().float())


def test_memory_drops_to_the_empty_prompt_as_often_as_asked(one_encoder, data):
    memory = remembered(one_encoder, data, drop=0.25)
    text, mask = memory(torch.zeros(2000, dtype=torch.long), torch.Generator().manual_seed(0)).shown
    empty, its_mask, *_ = one_encoder.encode_prompt("", do_classifier_free_guidance=False)
    length = mask.shape[1]
    is_empty = (mask == its_mask[:, :length]).all(dim=1)
    assert is_empty.float().mean() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(text[is_empty][0], empty[0, :length].bfloat16().float())


# Classes


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_labels_are_dropped_as_often_as_told(kind):
    labels = torch.arange(4000) % 3
    if kind == "memory":
        data = cached_classes(torch.zeros(4000, 4, 2, 2), labels, num_classes=3, drop=0.2)
        (shown,) = data(torch.arange(4000), torch.Generator().manual_seed(0)).shown
    else:
        (shown,) = shown_classes(3, 0.2)(labels, torch.Generator().manual_seed(0))
    kept = shown != 3
    assert float((~kept).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert torch.equal(shown[kept], labels[kept]) and shown.dtype == torch.long
