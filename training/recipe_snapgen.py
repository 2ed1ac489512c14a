"""How SnapGen (arXiv 2412.09619) is trained: one stage after the other, each leaving `<output>/<stage>/model`.

| stage | learns |
|---|---|
| clip, judge | the CLIPs that serve all methods (see `recipe_encoders`); the first conditions the nano UNet |
| autoencoder | pictures to latents and back; in `paper` the tiny decoder of Stable Diffusion 3's frozen encoder |
| refine | the same from where stage `autoencoder` ended: sharper outlines, in `paper` by a discriminator |
| base | the UNet, by rectified flow on the latents of captioned pictures |

Preset `nano` learns PocketWorld on two CPU cores, `paper` your captioned pictures at the published sizes.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, CLIPTextModel, CLIPTextModelWithProjection, Gemma2Model

from ..hub_models.autoencoder_snapgen import AutoencoderSnapGen
from ..hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from ..pipelines.contact_sheet import contact_sheet
from ..pipelines.fitting.loop import Batches
from ..pipelines.inputs import require
from ..pipelines.pipeline_snapgen import ENCODERS, SnapGenPipeline
from ..pipelines.repository import text_tower
from . import recipe_encoders
from .conditions import StreamedConditions, cached_latents, cached_texts, encode_sentences, shown_texts
from .datasets.captioned_images import CaptionedImages, captioned_picture, pocketworld_images
from .latents import encode_all, load_autoencoder, pixels_per_latent
from .objectives.denoising import Denoising, training_scheduler
from .objectives.reconstruction import Reconstruction, ReconstructionWeights
from .preset import Preset
from .stages import Stage, StageRun, run_stage

PREVIEW_PROMPTS = (
    "a photo of a red cube",
    "a photo of a blue sphere",
    "a photo of a green cone and a white torus",
    "a photo of a sphere above a cube",
    "a photo of a yellow cylinder",
    "a photo of three cones",
    "a photo of a pink torus",
    "a photo of a cube left of a cylinder",
)


# The numbers


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset(Preset):
    """Encoder and decoder together (`nano`), or the tiny decoder of a frozen encoder (`paper`).

    Attributes:
        model: preset of `AutoencoderSnapGen`.
        encoder: folder or Hub id of an autoencoder whose encoder is taken over and frozen; "" trains our own.
        init: "" is new weights, but in stage `refine` those of stage `autoencoder`.
        pixel_weight, edge_weight, kl_weight, object_weight, adversarial_weight: see `ReconstructionWeights`. The
            paper's are unknown: those here are latent diffusion's (arXiv 2112.10752), with an adversary after a
            warm-up, which is the stage before. Objects are known of PocketWorld alone.
    """

    model: str = "nano"
    encoder: str = ""
    split: str = "train_all"
    num_pictures: int = 48_000
    batch_size: int = 16
    warmup_steps: int = 50
    ema_decay: float | None = 0.99
    pixel_weight: float = 1.0
    edge_weight: float = 1.0
    kl_weight: float = 0.0
    object_weight: float = 0.0
    adversarial_weight: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        require(self.object_weight >= 0, "object_weight", self.object_weight, "at least 0")
        known = self.object_weight == 0 or self.source == "pocketworld"
        require(known, "object_weight", self.object_weight, "0 for pictures whose objects are not known")


@dataclass(frozen=True, kw_only=True)
class BasePreset(Preset):
    """The UNet, by rectified flow with logit-normal timesteps.

    Attributes:
        model: preset of `SnapGenUNet2DConditionModel`.
        vae: folder or Hub id of an autoencoder; "" takes what `refine`, or else `autoencoder`, left in the same output.
            SD3's may stand in for SnapGen's own in training: the encoder is the same.
        text_encoders: folders or Hub ids of CLIP-L, CLIP-G and Gemma-2, comma-separated, empty for a missing one;
            "" takes the text tower of what `clip` left in the same output.
        text_drop: chance that a text encoder is dropped for a picture, each on its own, in 0..1. The paper does
            not say how often: 0.464 is Stable Diffusion 3's. The single encoder of a nano model is dropped for guidance
            alone.
        init: the paper trains small pictures before large ones, up to 1024 px: run the stage once a size, each in an
            output of its own, with `init` pointing into the last.
        time_shift: of the timestep density towards noise; 1 is none.
    """

    model: str = "nano"
    vae: str = ""
    text_encoders: str = ""
    text_drop: float
    time_shift: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.text_drop <= 1, "text_drop", self.text_drop, "in 0..1")
        require(self.time_shift > 0, "time_shift", self.time_shift, "above 0")
        fitting = self.text_encoders.count(",") < len(ENCODERS)
        require(fitting, "text_encoders", self.text_encoders, f"at most {len(ENCODERS)}, comma-separated")


SD3 = "stabilityai/stable-diffusion-3.5-large"
TEXT_ENCODERS = "openai/clip-vit-large-patch14,laion/CLIP-ViT-bigG-14-laion2B-39B-b160k,google/gemma-2-2b"
# Pictures that you bring, at the size and learning rate of SnapGen++'s base (arXiv 2601.08303, supplement H), which the
# decoders share because theirs are not published.
PAPER = {"source": "", "split": "train", "model": "paper", "image_size": 256, "learning_rate": 1e-4}

# fmt: off
AUTOENCODER = {
    "nano":  AutoencoderPreset(seed=0, steps=3_200,   learning_rate=3e-3,   kl_weight=3e-4, edge_weight=1.0),
    "paper": AutoencoderPreset(seed=0, steps=20_000,  encoder=SD3, **PAPER),
}
REFINE = {
    "nano":  AutoencoderPreset(seed=2, steps=20_000,  learning_rate=2.5e-3, kl_weight=1e-3, edge_weight=3.0,
                               object_weight=10.0, ema_decay=0.995),
    "paper": AutoencoderPreset(seed=1, steps=180_000, encoder=SD3, adversarial_weight=0.5, **PAPER),
}
# The paper's steps are SnapGen++'s as well. Its global batch of 8192 is processes x gradient_accumulation_steps x
# batch_size.
BASE = {
    "nano":  BasePreset(seed=40, steps=17_000,  batch_size=64, ema_decay=0.999,  text_drop=0.1,   time_shift=1.5,
                        learning_rate=1.5e-3),
    "paper": BasePreset(seed=0,  steps=400_000, batch_size=32, ema_decay=0.9999, text_drop=0.464, warmup_steps=1_000,
                        vae=SD3, text_encoders=TEXT_ENCODERS, **PAPER),
}
# fmt: on


# Stages autoencoder and refine


def train_autoencoder(preset: AutoencoderPreset, run: StageRun, init: str | Path = "") -> Path:
    if preset.source == "pocketworld":
        data = run.pocketworld(pocketworld_images)
        batches, samples = with_objects(data, run), data.images(torch.arange(min(2048, len(data))))
    else:
        batches = run.stream(captioned_picture, caption_column=preset.caption_column)
        samples, _ = next(batches(0, 0, 1))
    vae = untrained_autoencoder(preset, run, init)
    weights = ReconstructionWeights(
        pixel=preset.pixel_weight,
        edge=preset.edge_weight,
        kl=preset.kl_weight,
        object=preset.object_weight,
        adversarial=preset.adversarial_weight,
    )
    run.learn(Reconstruction(vae, weights, preset.learning_rate, samples[:8]), batches)
    if not preset.encoder:
        std, mean = torch.std_mean(encode_all(vae, samples), dim=(0, 2, 3))  # of each channel of latents
        vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist(), scaling_factor=1.0)
    return run.save(vae)


def with_objects(data: CaptionedImages, run: StageRun) -> Batches:
    """`Batches` of (pictures [B, 3, h, w] in [-1, 1], where objects are [B, 1, h, w])."""
    indices = run.indices(len(data))
    return lambda *place: ((data.images(chosen), data.objects(chosen)) for chosen in indices(*place))


def train_refine(preset: AutoencoderPreset, run: StageRun) -> Path:
    return train_autoencoder(preset, run, init=preset.init or run.earlier("autoencoder"))


def untrained_autoencoder(preset: AutoencoderPreset, run: StageRun, init: str | Path = "") -> AutoencoderSnapGen:
    """New weights, or those of `init`; with an encoder that is named, taken over and frozen if there is one."""
    vae = run.new_model(AutoencoderSnapGen, "vae", init)
    if preset.encoder:
        published = load_autoencoder(run.begins_with("encoder", preset.encoder))
        vae.encoder.load_state_dict(published.encoder.state_dict())
        vae.encoder.requires_grad_(False)
        names = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
        vae.register_to_config(**{name: getattr(published.config, name, None) for name in names})
    elif not (init or preset.init):
        with torch.no_grad():  # start with little noise on the latents, or nothing is learned until it has shrunk
            vae.encoder.conv_out.bias[vae.config.latent_channels :] = -5.0
    return vae


# Stage base


def train_base(preset: BasePreset, run: StageRun) -> Path:
    if preset.source != "pocketworld":
        batches = run.stream(captioned_picture, caption_column=preset.caption_column)
    pipeline = untrained_pipeline(preset, run)
    if preset.source == "pocketworld":
        data = run.pocketworld(pocketworld_images)
        latents = cached_latents(pipeline.vae, data.images, torch.arange(len(data)))
        conditions = cached_texts(partial(encode_sentences, pipeline), latents, data.captions, preset.text_drop)
        batches = run.indices(len(data))
    else:
        conditions = StreamedConditions(pipeline.vae, shown_texts(pipeline, ENCODERS, preset.text_drop))
    objective = Denoising(
        pipeline.unet, pipeline.scheduler, conditions, preset.learning_rate, partial(draw_preview, pipeline)
    )
    run.learn(objective, batches)
    return run.save_pipeline(pipeline, **({} if preset.text_encoders else {"text_encoder": run.earlier("clip")}))


def untrained_pipeline(preset: BasePreset, run: StageRun) -> SnapGenPipeline:
    """The pipeline around a UNet that is new (or `init`), with the models of earlier stages, on accelerate's device."""
    unet = run.new_model(SnapGenUNet2DConditionModel, "unet")
    vae = load_autoencoder(run.begins_with("vae", preset.vae or run.earlier("refine", "autoencoder")))
    unet.register_to_config(sample_size=preset.image_size // pixels_per_latent(vae))
    encoders = run.begins_with("text_encoders", preset.text_encoders or run.earlier("clip"))
    text = named_encoders(preset) if preset.text_encoders else own_encoder(encoders)
    scheduler = training_scheduler("flow", preset.time_shift)
    return SnapGenPipeline(vae=vae, unet=unet, scheduler=scheduler, **text).to(run.device)


def own_encoder(folder: Path) -> dict[str, Any]:
    """The text tower of a CLIPModel, frozen, and its tokenizer."""
    tower = text_tower(CLIPModel.from_pretrained(folder, dtype=torch.float32))
    return {"text_encoder": tower.requires_grad_(False), "tokenizer": AutoTokenizer.from_pretrained(folder)}


def named_encoders(preset: BasePreset) -> dict[str, Any]:
    """Published text encoders, frozen, in the preset's precision, and their tokenizers."""
    dtype = torch.bfloat16 if preset.mixed_precision == "bf16" else torch.float32
    classes = (CLIPTextModel, CLIPTextModelWithProjection, Gemma2Model)
    components: dict[str, Any] = {}
    for (name, tokenizer), cls, source in zip(ENCODERS.items(), classes, preset.text_encoders.split(","), strict=False):
        if source:
            components[name] = cls.from_pretrained(source, dtype=dtype).eval().requires_grad_(False)
            components[tokenizer] = AutoTokenizer.from_pretrained(source)
    return components


def draw_preview(pipeline: SnapGenPipeline) -> Image.Image:
    pipeline.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(i) for i in range(len(PREVIEW_PROMPTS))]
    made = pipeline(list(PREVIEW_PROMPTS), generator=seeds)
    return contact_sheet(made.images, PREVIEW_PROMPTS, cell=128)


STAGES = {
    **recipe_encoders.STAGES,
    "autoencoder": Stage(train_autoencoder, AUTOENCODER, "snapgen-nano/vae"),
    "refine": Stage(train_refine, REFINE),
    "base": Stage(train_base, BASE),
}
run = partial(run_stage, "snapgen", STAGES)
