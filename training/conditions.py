"""What a denoiser is shown of a batch: latents, and beside them texts or classes, which are sometimes left out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .latents import encode, encode_all, scaled

Shown = tuple[Tensor, ...]
"""What the denoiser takes behind latents and timesteps: (text features, mask), or (class labels,)."""


@dataclass(frozen=True)
class Conditions:
    """One batch.

    Attributes:
        latents: scaled to about unit variance.
        shown: beside them, a row of each tensor a picture.
    """

    latents: Float[Tensor, "batch channels h w"]
    shown: Shown


class CachedConditions:
    """Latents and conditions of a data set that fits in memory, computed once: batches are indices.

    Args:
        latents: of the pictures.
        table: everything that can be shown, a row each; what it holds in half precision is shown in float32.
        rows: which row of it each picture is shown with.
        empty: the row that shows nothing, which is what guidance steers away from.
        drop: chance that a picture is shown with that one.
    """

    def __init__(
        self, latents: Float[Tensor, "count _ h w"], table: Shown, rows: Int[Tensor, " count"], empty: int, drop: float
    ):
        self.latents, self.table, self.rows, self.empty, self.drop = latents, table, rows, empty, drop

    def __len__(self) -> int:
        return len(self.latents)

    def __call__(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> Conditions:
        batch = batch.cpu()
        dropped = torch.rand(len(batch), generator=generator) < self.drop
        rows = torch.where(dropped, self.empty, self.rows[batch])
        shown = (column[rows] for column in self.table)
        return Conditions(self.latents[batch], tuple(c.float() if c.is_floating_point() else c for c in shown))


class StreamedConditions:
    """Latents and conditions computed as the data come: batches are (pictures, captions or labels).

    Args:
        vae: makes the latents.
        show: what a picture's caption or label is shown as, dropped by chance.
    """

    def __init__(self, vae: nn.Module, show: Callable[[Any, torch.Generator], Shown]):
        self.vae, self.show = vae, show

    @torch.no_grad()
    def __call__(self, batch: tuple[Tensor, Any], generator: torch.Generator) -> Conditions:
        pixels, said = batch
        return Conditions(scaled(self.vae, encode(self.vae, pixels)), self.show(said, generator))


def cached_latents(
    vae: nn.Module, images: Callable[[Tensor], Tensor], chosen: Int[Tensor, " count"]
) -> Float[Tensor, "count channels h w"]:
    """Scaled latents of the pictures that `images(indices)` gives in [-1, 1] for the `chosen` indices, on the CPU."""
    return scaled(vae, torch.cat([encode_all(vae, images(part)) for part in chosen.split(512)]))


# Classes


def cached_classes(
    latents: Float[Tensor, "count _ h w"], labels: Int[Tensor, " count"], num_classes: int, drop: float
) -> CachedConditions:
    """Latents with their classes; number `num_classes` is no class."""
    return CachedConditions(latents, (torch.arange(num_classes + 1),), labels, num_classes, drop)


def shown_classes(num_classes: int, drop: float) -> Callable[[Tensor, torch.Generator], Shown]:
    """Shows labels, or number `num_classes` where by that chance one is dropped."""

    def show(labels: Tensor, generator: torch.Generator) -> Shown:
        dropped = torch.rand(len(labels), generator=generator) < drop
        return (torch.where(dropped, num_classes, labels.cpu()),)

    return show


# Texts


def cached_texts(
    encode: Callable[[list[str]], Shown], latents: Float[Tensor, "count _ h w"], captions: Sequence[str], drop: float
) -> CachedConditions:
    """Latents with what `encode` makes of their captions, a row each; the empty prompt shows nothing."""
    sentences = ["", *dict.fromkeys(captions)]
    number = {sentence: i for i, sentence in enumerate(sentences)}
    rows = torch.tensor([number[caption] for caption in captions])
    return CachedConditions(latents, encode(sentences), rows, 0, drop)


@torch.no_grad()
def encode_sentences(
    pipeline: DiffusionPipeline, sentences: list[str], batch_size: int = 512
) -> tuple[Float[Tensor, "count tokens width"], Bool[Tensor, "count tokens"]]:
    """Text features of many sentences, in bfloat16, and their mask, cut to the longest; on the CPU."""
    batches = [sentences[i : i + batch_size] for i in range(0, len(sentences), batch_size)]
    encoded = [pipeline.encode_prompt(batch, do_classifier_free_guidance=False)[:2] for batch in batches]
    text, mask = (torch.cat([pair[k].cpu() for pair in encoded]) for k in (0, 1))
    length = int(mask.sum(dim=1).max())
    return text[:, :length].bfloat16(), mask[:, :length]


@torch.no_grad()
def encode_unmasked(
    pipeline: DiffusionPipeline, sentences: list[str], batch_size: int = 512
) -> tuple[Float[Tensor, "count tokens width"]]:
    """Text features of many sentences, in bfloat16, padding included, as Stable Diffusion attends to it; on the CPU."""
    batches = [sentences[i : i + batch_size] for i in range(0, len(sentences), batch_size)]
    features = [pipeline.encode_prompt(batch, do_classifier_free_guidance=False)[0] for batch in batches]
    return (torch.cat([part.cpu().bfloat16() for part in features]),)


def shown_unmasked(pipeline: DiffusionPipeline, drop: float) -> Callable[[list[str], torch.Generator], Shown]:
    """Shows captions as text features, or those of the empty prompt where by that chance a caption is dropped."""

    def show(captions: list[str], generator: torch.Generator) -> Shown:
        dropped = torch.rand(len(captions), generator=generator) < drop
        said = ["" if gone else caption for caption, gone in zip(captions, dropped.tolist(), strict=True)]
        return (pipeline.encode_prompt(said, do_classifier_free_guidance=False)[0],)

    return show


def shown_texts(
    pipeline: DiffusionPipeline, encoders: Iterable[str], drop: float
) -> Callable[[list[str], torch.Generator], Shown]:
    """Shows captions as text features and their mask.

    By that chance a text encoder is dropped for a picture, each of `encoders` on its own, as if it were missing, so
    that inference works without one (SnapGen++, arXiv 2601.08303, says this of SnapGen); a picture that loses them all
    is shown with the empty prompt.
    """
    names = tuple(encoders)

    def show(captions: list[str], generator: torch.Generator) -> Shown:
        drops = torch.rand(len(captions), len(names), generator=generator) < drop
        dropped = [{name for name, gone in zip(names, row, strict=True) if gone} for row in drops.tolist()]
        return pipeline.encode_prompt(captions, do_classifier_free_guidance=False, dropped=dropped)[:2]

    return show
