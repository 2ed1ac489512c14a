"""How the encoders that serve all methods are trained: small CLIP models of PocketWorld.

| stage | learns |
|---|---|
| clip | a CLIPModel, whose text tower conditions the nano models |
| judge | another CLIPModel, which measures and never trains anything |
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerFast

from ..pipelines.inputs import require
from .datasets.captioned_images import pocketworld_images
from .datasets.pocketworld.captions import caption
from .datasets.pocketworld.descriptions import TAGS
from .datasets.pocketworld.plans import sample_plan
from .datasets.pocketworld.scene import ALL_PAIRS
from .datasets.pocketworld.vocabulary import MOTIONS
from .objectives.contrastive import ClipSize, Contrastive, new_clip, train_tokenizer
from .preset import Preset
from .stages import Stage, StageRun, run_stage


@dataclass(frozen=True, kw_only=True)
class ClipPreset(Preset):
    """A CLIPModel for small pictures, trained on all colour-shape pairs of PocketWorld.

    With fewer pictures it learns by heart which of them shows four cones, and does not learn to count.

    Attributes:
        init: comes with its tokenizer.
        frozen_text_layers: the text embeddings and that many text layers stay as they are: what a generator learns
            from them meanwhile stays valid. 0 leaves nothing frozen.
        dense_weight: weight of the loss that names the object in each patch, beside the contrastive one.
        text_width, vision_width, text_layers, vision_layers: of a new model (see `ClipSize`).
    """

    split: str = "train_all+train"
    num_pictures: int = 48_000
    steps: int = 8000
    dense_weight: float = 0.5
    frozen_text_layers: int = 0
    text_width: int
    vision_width: int
    text_layers: int
    vision_layers: int = 4

    def __post_init__(self):
        super().__post_init__()
        require(self.source == "pocketworld", "source", self.source, "'pocketworld', whose captions prove their claims")
        require(self.frozen_text_layers >= 0, "frozen_text_layers", self.frozen_text_layers, "at least 0")


def train_clip(preset: ClipPreset, run: StageRun) -> Path:
    data = run.pocketworld(pocketworld_images)
    torch.manual_seed(preset.seed)
    if preset.init:
        run.begins_with("init", preset.init)
    clip, tokenizer = untrained_clip(preset)
    run.learn(Contrastive(clip, tokenizer, data, preset.learning_rate, preset.dense_weight), run.indices(len(data)))
    return run.save(clip, tokenizer)


def untrained_clip(preset: ClipPreset) -> tuple[CLIPModel, PreTrainedTokenizerFast]:
    """A CLIPModel with new weights, or those of `init`, and its tokenizer."""
    if preset.init:
        clip = CLIPModel.from_pretrained(preset.init, dtype=torch.float32, attn_implementation="eager")
        tokenizer = AutoTokenizer.from_pretrained(preset.init)
    else:
        size = ClipSize(
            text_width=preset.text_width,
            text_layers=preset.text_layers,
            vision_width=preset.vision_width,
            vision_layers=preset.vision_layers,
            image_size=preset.image_size,
        )
        tokenizer = train_tokenizer(world_sentences(), size.tokens)
        clip = new_clip(size, tokenizer)
    if preset.frozen_text_layers:
        clip.text_model.embeddings.requires_grad_(False)
        clip.text_model.encoder.layers[: preset.frozen_text_layers].requires_grad_(False)
    return clip, tokenizer


def world_sentences(count: int = 20_000) -> list[str]:
    """Sentences of PocketWorld, still and moving, so that every word of the world is a token."""
    rng = np.random.default_rng(0)
    verbs = [None, None, None, *MOTIONS]
    sentences = []
    for i in range(count):
        description, _ = sample_plan(rng, TAGS[i % len(TAGS)], ALL_PAIRS)
        moves = tuple(verbs[int(rng.integers(len(verbs)))] for _ in description.include)
        sentences.append(caption(description, rng, moves))
    return sentences


# fmt: off
CLIP  = {"nano": ClipPreset(seed=0, text_width=128, vision_width=128, text_layers=3)}
JUDGE = {"nano": ClipPreset(seed=1, text_width=96,  vision_width=96,  text_layers=2)}
# fmt: on

STAGES = {"clip": Stage(train_clip, CLIP, "clip-nano"), "judge": Stage(train_clip, JUDGE, "clip-nano-judge")}
run = partial(run_stage, "encoders", STAGES)
