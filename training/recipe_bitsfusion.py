"""How BitsFusion (arXiv 2406.04333) is trained: one stage after the other, each leaving `<output>/<stage>/model`.

| stage | learns |
|---|---|
| clip | the text encoder of the nano models (see `recipe_encoders`) |
| base | a UNet of Stable Diffusion's shape in full precision: what the others begin with, and what they are held to |
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPModel

from .. import checkpoint
from ..hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel
from ..pipelines.inputs import require
from ..pipelines.pipeline_bitsfusion import BitsFusionPipeline
from ..pipelines.repository import text_tower
from . import recipe_encoders
from .conditions import cached_latents, cached_texts, encode_unmasked
from .datasets.captioned_images import pocketworld_images
from .latents import load_autoencoder, pixels_per_latent
from .objectives.denoising import Denoising, training_scheduler
from .preset import Preset
from .stages import Stage, StageRun, run_stage


@dataclass(frozen=True, kw_only=True)
class BasePreset(Preset):
    """The UNet in full precision, by noise prediction.

    Attributes:
        source: "pocketworld"; the larger presets begin with published weights, so that this stage has none.
        model: preset of `BitsFusionUNet2DConditionModel`.
        vae: folder or Hub id of an autoencoder, or of a pipeline with one; "" is that of `snapgen-nano`.
        text_drop: chance that a picture is shown with the empty prompt, in 0..1.
    """

    model: str = "nano"
    vae: str = ""
    text_drop: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        require(self.source == "pocketworld", "source", self.source, "'pocketworld'")
        require(0 <= self.text_drop <= 1, "text_drop", self.text_drop, "in 0..1")


# fmt: off
BASE = {
    "nano": BasePreset(seed=0, steps=7_000, batch_size=64, learning_rate=1.5e-3, ema_decay=0.999),
}
# fmt: on


def train_base(preset: BasePreset, run: StageRun) -> Path:
    pipeline = untrained_pipeline(preset, run)
    data = run.pocketworld(pocketworld_images)
    latents = cached_latents(pipeline.vae, data.images, torch.arange(len(data)))
    conditions = cached_texts(partial(encode_unmasked, pipeline), latents, data.captions, preset.text_drop)
    run.learn(Denoising(pipeline.unet, pipeline.scheduler, conditions, preset.learning_rate), run.indices(len(data)))
    return run.save(pipeline.unet)


def untrained_pipeline(preset: BasePreset, run: StageRun) -> BitsFusionPipeline:
    """The pipeline around a new UNet, or that of `init`, with the models of earlier stages, on accelerate's device."""
    unet = run.new_model(BitsFusionUNet2DConditionModel, "unet")
    vae = load_autoencoder(run.begins_with("vae", preset.vae or checkpoint("snapgen-nano")))
    unet.register_to_config(sample_size=preset.image_size // pixels_per_latent(vae))
    clip = run.begins_with("text_encoder", run.earlier("clip"))
    tower = text_tower(CLIPModel.from_pretrained(clip, dtype=torch.float32)).requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(clip)
    scheduler = training_scheduler("epsilon")
    return BitsFusionPipeline(vae, unet, scheduler, tower, tokenizer).to(run.device)


STAGES = {
    **recipe_encoders.STAGES,
    "base": Stage(train_base, BASE),
}
run = partial(run_stage, "bitsfusion", STAGES)
