"""How BitsFusion (arXiv 2406.04333) is trained: one stage after the other, each leaving `<output>/<stage>/model`.

| stage | learns |
|---|---|
| clip | the text encoder of the nano models (see `recipe_encoders`) |
| base | a UNet of Stable Diffusion's shape in full precision: what the others begin with, and what they are held to |
| sensitivity | how many bits each layer needs; leaves the UNet packed in so many, without training |
| distill | stage I: the UNet of few bits predicts what that of full precision does, and makes the features it makes |
| finetune | stage II: it predicts the noise in captioned pictures; leaves the packed pipeline |

Preset `nano` learns PocketWorld on two CPU cores; `paper` quantises Stable Diffusion 1.5 with your captioned pictures.
"""

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, ModelMixin, UNet2DConditionModel
from rich.progress import Progress
from transformers import AutoTokenizer, CLIPModel

from .. import checkpoint
from ..hub_models.layers.time_embedding_cache import replaced_layers
from ..hub_models.quantizer_bitsfusion import BitsFusionConfig, pack_model, prepare_training
from ..hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel
from ..pipelines.calibration_bitsfusion import calibrated_bits
from ..pipelines.files import read_json
from ..pipelines.fitting.loop import Batches
from ..pipelines.inputs import require
from ..pipelines.pipeline_bitsfusion import BitsFusionPipeline
from ..pipelines.recognition.image_text_encoder import ImageTextEncoder
from ..pipelines.repository import text_tower
from ..pipelines.sampling.cached_steps import scheduled_timesteps
from . import recipe_encoders
from .conditions import StreamedConditions, cached_latents, cached_texts, encode_unmasked, shown_unmasked
from .datasets.captioned_images import captioned_picture, pocketworld_images
from .latents import load_autoencoder, pixels_per_latent
from .objectives.denoising import Denoising, sampler_of, training_scheduler
from .objectives.distillation import Distillation
from .preset import Preset
from .shadow_weights_bitsfusion import load_shadow, save_shadow
from .stages import Stage, StageRun, run_stage

# The numbers


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


@dataclass(frozen=True, kw_only=True)
class SensitivityPreset(Preset):
    """How pictures change with each layer in turn at 1, 2 and 3 bits, and bits for all layers by that.

    Attributes:
        base: folder or Hub id of the pipeline in full precision; "" takes what stage `base` left in the same output.
        clip: folder or Hub id of the CLIP whose score is watched; "" takes what stage `clip` left. A judge that
            measures generators is never taken.
        prompts: a text file of prompts, one a line; "" takes captions of PocketWorld's split `validation`.
        num_prompts: the first so many are drawn (100 of PartiPrompts in the paper).
        sampling_steps: in which each is drawn.
        iterations: of tuning each layer, which the paper leaves open, as it does the rate.
        target: average of bits a weight that is not exceeded, as the paper counts it.
        cache_steps: see `DistillPreset`; the table's values count.
    """

    base: str = ""
    clip: str = ""
    prompts: str = ""
    num_prompts: int
    sampling_steps: int
    iterations: int
    target: float = 1.99
    cache_steps: int = 50

    def __post_init__(self):
        super().__post_init__()
        for name in ("num_prompts", "sampling_steps", "cache_steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


@dataclass(frozen=True, kw_only=True)
class FinetunePreset(Preset):
    """The UNet of few bits, by noise prediction.

    Attributes:
        base: folder or Hub id of the pipeline in full precision; "" takes what stage `base` left in the same output.
        text_drop: chance that a picture is shown with the empty prompt, in 0..1 (0.1 in the paper).
        time_alpha: timesteps are drawn from Beta(alpha, 1), the more towards noise the larger it is (3 in the paper).
    """

    base: str = ""
    text_drop: float = 0.1
    time_alpha: float = 3.0

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.text_drop <= 1, "text_drop", self.text_drop, "in 0..1")
        require(self.time_alpha > 0, "time_alpha", self.time_alpha, "above 0")


@dataclass(frozen=True, kw_only=True)
class DistillPreset(FinetunePreset):
    """The UNet of few bits, by what that of full precision predicts.

    Attributes:
        bits: "sensitivity" takes what that stage left in the same output, "published" the recipe for Stable
            Diffusion 1.5; else a JSON file of bits by layer, or one number for all layers.
        cache_steps: of the pipeline's scheduler, for whose timesteps a table stands in place of the layers of time
            when the UNet is packed; these layers do not learn.
        feature_weight: of the blocks' features (0.01 in the paper).
    """

    bits: str = "sensitivity"
    cache_steps: int = 50
    feature_weight: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        require(self.cache_steps >= 1, "cache_steps", self.cache_steps, "at least 1")
        require(self.feature_weight >= 0, "feature_weight", self.feature_weight, "at least 0")


SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
# Pictures that you bring, at the published learning rate, which is constant there and falls along a cosine here. The
# global batches of 256 and 1024 are processes x gradient_accumulation_steps x batch_size.
PAPER = {"source": "", "split": "train", "base": SD15, "image_size": 512, "learning_rate": 1e-5, "warmup_steps": 0}

# fmt: off
BASE = {
    "nano":  BasePreset(seed=0, steps=8_000, batch_size=64, learning_rate=1.5e-3, ema_decay=0.999),
}
SENSITIVITY = {
    "nano":  SensitivityPreset(seed=0, batch_size=16, learning_rate=3e-4, num_prompts=24,  sampling_steps=8,
                               iterations=5),
    "paper": SensitivityPreset(seed=0, batch_size=8,  learning_rate=1e-5, num_prompts=100, sampling_steps=50,
                               iterations=100, base=SD15, clip="openai/clip-vit-base-patch32", image_size=512),
}
DISTILL = {
    "nano":  DistillPreset(seed=1, steps=2_000,   batch_size=64, learning_rate=5e-4),
    "paper": DistillPreset(seed=1, steps=20_000,  batch_size=32, **PAPER),
}
FINETUNE = {
    "nano":  FinetunePreset(seed=2, steps=2_000,  batch_size=64, learning_rate=5e-4),
    "paper": FinetunePreset(seed=2, steps=50_000, batch_size=32, **PAPER),
}
# fmt: on


# Stage base


def train_base(preset: BasePreset, run: StageRun) -> Path:
    unet = run.new_model(BitsFusionUNet2DConditionModel, "unet")
    pipeline = nano_pipeline(unet, preset.vae, run)
    conditions, batches = shown(preset, run, pipeline)
    run.learn(Denoising(unet, training_scheduler("epsilon"), conditions, preset.learning_rate), batches)
    pipeline.register_modules(vae=packed_autoencoder(pipeline.vae))
    return run.save_pipeline(pipeline, text_encoder=run.earlier("clip"))


def packed_autoencoder(autoencoder: ModelMixin) -> ModelMixin:
    """Half of float16's bytes for a sixth of a decibel, and what the later stages learn with."""
    return pack_model(prepare_training(autoencoder, BitsFusionConfig(default_bits=8)))


def nano_pipeline(unet: UNet2DConditionModel, vae: str, run: StageRun) -> BitsFusionPipeline:
    """A UNet with the nano models' text encoder and an autoencoder, on accelerate's device."""
    autoencoder = load_autoencoder(run.begins_with("vae", vae or checkpoint("snapgen-nano")))
    unet.register_to_config(sample_size=run.preset.image_size // pixels_per_latent(autoencoder))
    clip = run.begins_with("text_encoder", run.earlier("clip"))
    tower = text_tower(CLIPModel.from_pretrained(clip, dtype=torch.float32)).requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(clip)
    return BitsFusionPipeline(autoencoder, unet, stable_diffusion_sampler(), tower, tokenizer).to(run.device)


def stable_diffusion_sampler() -> Any:
    """DDIM as Stable Diffusion 1.5 is set up."""
    return sampler_of(training_scheduler("epsilon"), set_alpha_to_one=False, steps_offset=1)


def shown(preset: Any, run: StageRun, pipeline: BitsFusionPipeline) -> tuple[Any, Batches]:
    """What the UNet is shown of pictures and their captions, and batches of them."""
    if preset.source != "pocketworld":
        show = StreamedConditions(pipeline.vae, shown_unmasked(pipeline, preset.text_drop))
        return show, run.stream(captioned_picture, caption_column=preset.caption_column)
    data = run.pocketworld(pocketworld_images)
    latents = cached_latents(pipeline.vae, data.images, torch.arange(len(data)))
    conditions = cached_texts(partial(encode_unmasked, pipeline), latents, data.captions, preset.text_drop)
    return conditions, run.indices(len(data))


# Stage sensitivity


def train_sensitivity(preset: SensitivityPreset, run: StageRun) -> Path:
    pipeline = full_precision(preset, run)
    pipeline.set_progress_bar_config(disable=True)
    clip = ImageTextEncoder.from_pretrained(run.begins_with("clip", preset.clip or run.earlier("clip")))
    timesteps = scheduled_timesteps(pipeline.scheduler, preset.cache_steps)
    with Progress() as bar:
        bits = calibrated_bits(
            pipeline, drawn_prompts(preset), preset.target, run.folder / "sensitivities", cached_timesteps=timesteps,
            iterations=preset.iterations, learning_rate=preset.learning_rate, batch_size=preset.batch_size,
            steps=preset.sampling_steps, seed=preset.seed, pictures_at_once=32, image_text_similarity=clip.similarity,
            progress=partial(bar.advance, bar.add_task("drawing with each layer at few bits", total=1)),
        )  # fmt: skip
    config = BitsFusionConfig(bits, default_bits=None, cached_timesteps=timesteps)
    return run.save(pack_model(low_bit_copy(pipeline.unet, config)))


def drawn_prompts(preset: SensitivityPreset) -> list[str]:
    if preset.prompts:
        lines = [line.strip() for line in Path(preset.prompts).read_text(encoding="utf-8").splitlines()]
        said = list(dict.fromkeys(filter(None, lines)))
    else:
        said = list(dict.fromkeys(pocketworld_images("validation", preset.image_size, 4 * preset.num_prompts).captions))
    require(len(said) >= preset.num_prompts, "num_prompts", preset.num_prompts, f"at most {len(said)}, the prompts")
    return said[: preset.num_prompts]


# Stages of few bits


def train_distill(preset: DistillPreset, run: StageRun) -> Path:
    pipeline = full_precision(preset, run)
    teacher = pipeline.unet
    student = low_bit_copy(teacher, quantization(preset, run, pipeline))
    conditions, batches = shown(preset, run, pipeline)
    run.learn(
        Distillation(
            student, teacher, noise_levels(pipeline), conditions, preset.learning_rate, preset.feature_weight,
            preset.time_alpha,
        ),
        batches,
    )  # fmt: skip
    return run.write(partial(save_shadow, student))


def train_finetune(preset: FinetunePreset, run: StageRun) -> Path:
    pipeline = full_precision(preset, run)
    student = load_shadow(type(pipeline.unet), Path(run.begins_with("distilled", run.earlier("distill"))))
    pipeline.register_modules(unet=freeze_time(student).to(run.device))
    conditions, batches = shown(preset, run, pipeline)
    levels, alpha = noise_levels(pipeline), preset.time_alpha
    run.learn(Denoising(student, levels, conditions, preset.learning_rate, time_alpha=alpha), batches)
    pack_model(student)
    return run.save_pipeline(pipeline, **({} if preset.base else {"text_encoder": run.earlier("clip")}))


def full_precision(preset: SensitivityPreset | FinetunePreset, run: StageRun) -> BitsFusionPipeline:
    """The pipeline that is quantised, its parts frozen, in float32 on accelerate's device."""
    source = run.begins_with("base", preset.base or run.earlier("base"))
    pipeline = BitsFusionPipeline.from_pretrained(source)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.eval().requires_grad_(False)
    return pipeline.to(run.device)


def quantization(preset: DistillPreset, run: StageRun, pipeline: BitsFusionPipeline) -> BitsFusionConfig:
    """The bits of each layer that the preset asks for, and the timesteps of the sampler."""
    timesteps = scheduled_timesteps(pipeline.scheduler, preset.cache_steps)
    if preset.bits == "published":
        return BitsFusionConfig.published(timesteps)
    if preset.bits.isdecimal():
        return BitsFusionConfig(default_bits=int(preset.bits), cached_timesteps=timesteps)
    if preset.bits != "sensitivity":
        return BitsFusionConfig(read_json(preset.bits, dict), default_bits=None, cached_timesteps=timesteps)
    measured = Path(run.begins_with("sensitivity", run.earlier("sensitivity")))
    bits = read_json(measured / "config.json", dict)["quantization_config"]["bits"]
    return BitsFusionConfig(bits, default_bits=None, cached_timesteps=timesteps)


def noise_levels(pipeline: BitsFusionPipeline) -> DDPMScheduler:
    """Those that the pipeline's UNet was trained on."""
    return DDPMScheduler.from_config(pipeline.scheduler.config)


def low_bit_copy(unet: UNet2DConditionModel, config: BitsFusionConfig) -> UNet2DConditionModel:
    """A copy in low-bit training, whose layers of time do not learn, for a table is to stand in their place."""
    student = prepare_training(copy.deepcopy(unet).requires_grad_(True), config)
    return freeze_time(student)


def freeze_time(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    for name in replaced_layers(unet):
        unet.get_submodule(name).requires_grad_(False)
    return unet


STAGES = {
    **recipe_encoders.STAGES,
    "base": Stage(train_base, BASE, "bitsfusion-nano-full"),
    "sensitivity": Stage(train_sensitivity, SENSITIVITY, "bitsfusion-nano/unet"),
    "distill": Stage(train_distill, DISTILL),
    "finetune": Stage(train_finetune, FINETUNE),
}
run = partial(run_stage, "bitsfusion", STAGES)
