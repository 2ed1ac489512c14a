"""What SnapGen's UNet is shown of a batch: latents of the pictures and text features of their captions."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..hub_models.layers.latent_scaling import scale_latents
from ..pipelines.pipeline_snapgen import ENCODERS, Features, SnapGenPipeline
from .datasets.captioned_images import CaptionedImages
from .objectives.reconstruction import encode_all


@dataclass(frozen=True)
class Conditions:
    """One batch.

    Attributes:
        latents: scaled to about unit variance.
        text: features of the captions.
        mask: True where a token of them counts.
    """

    latents: Float[Tensor, "batch channels h w"]
    text: Float[Tensor, "batch tokens width"]
    mask: Bool[Tensor, "batch tokens"]


class MemoryConditions:
    """Latents and text features of a data set that fits in memory, computed once: batches are indices.

    Args:
        pipeline: its autoencoder and text encoders are used.
        data: pictures and captions.
        text_drop: chance that a picture is shown with the empty prompt, which is what guidance steers away from.
    """

    @torch.no_grad()
    def __init__(self, pipeline: SnapGenPipeline, data: CaptionedImages, text_drop: float):
        self.text_drop = text_drop
        parts = torch.arange(len(data)).split(512)
        latents = torch.cat([encode_all(pipeline.vae, data.images(part)) for part in parts])
        self.latents = scale_latents(latents, pipeline.vae.config)
        sentences = ["", *dict.fromkeys(data.captions)]
        self.text, self.mask = encode_sentences(pipeline, sentences)
        number = {sentence: i for i, sentence in enumerate(sentences)}
        self.sentence = torch.tensor([number[caption] for caption in data.captions])

    def __len__(self) -> int:
        return len(self.latents)

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Conditions:
        batch = batch.cpu()
        keep = torch.rand(len(batch), generator=generator) >= self.text_drop
        sentence = self.sentence[batch] * keep  # number 0 is the empty prompt
        return Conditions(self.latents[batch], self.text[sentence].float(), self.mask[sentence])


class StreamConditions:
    """Latents and text features computed as the data come: batches are (pictures, captions).

    Args:
        pipeline: its autoencoder and text encoders are used.
        text_drop: chance that a text encoder is dropped for a picture, each on its own, as if it were missing (so that
            inference works with one missing: SnapGen++, arXiv 2601.08303, says this of SnapGen); a
            picture that loses them all is shown with the empty prompt.
    """

    def __init__(self, pipeline: SnapGenPipeline, text_drop: float):
        self.pipeline, self.text_drop = pipeline, text_drop

    @torch.no_grad()
    def __call__(self, batch: tuple[Tensor, list[str]], generator: torch.Generator) -> Conditions:
        pixels, captions = batch
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()
        dropped = self._dropped(len(captions), generator)
        text, mask, *_ = self.pipeline.encode_prompt(captions, do_classifier_free_guidance=False, dropped=dropped)
        return Conditions(scale_latents(latents, vae.config), text, mask)

    def _dropped(self, count: int, generator: torch.Generator) -> list[set[str]]:
        drops = torch.rand(count, len(ENCODERS), generator=generator) < self.text_drop
        return [{name for name, drop in zip(ENCODERS, row, strict=True) if drop} for row in drops.tolist()]


def encode_sentences(pipeline: SnapGenPipeline, sentences: list[str], batch_size: int = 512) -> Features:
    """Text features in bfloat16, and their mask, of many sentences, cut to the longest; on the CPU."""
    batches = [sentences[i : i + batch_size] for i in range(0, len(sentences), batch_size)]
    encoded = [pipeline.encode_prompt(batch, do_classifier_free_guidance=False)[:2] for batch in batches]
    text, mask = (torch.cat([pair[k].cpu() for pair in encoded]) for k in (0, 1))
    length = int(mask.sum(dim=1).max())
    return text[:, :length].bfloat16(), mask[:, :length]
