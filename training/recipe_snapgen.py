"""How SnapGen (arXiv 2412.09619) is trained: one stage after the other, each leaving `<output>/<stage>/model`.

| stage | learns |
|---|---|
| clip | a CLIPModel, whose text tower conditions the nano UNet |
| judge | another CLIPModel, which measures and never trains anything |
| autoencoder | pictures to latents and back; in `paper` the tiny decoder of Stable Diffusion 3's frozen encoder |
| refine | the same from where stage `autoencoder` ended: sharper outlines, in `paper` by a discriminator |
| base | the UNet, by rectified flow on the latents of captioned pictures |

Preset `nano` learns PocketWorld on two CPU cores, `paper` your captioned pictures at the published sizes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Model,
    PreTrainedTokenizerFast,
)

from ..hub_models.autoencoder_snapgen import AutoencoderSnapGen
from ..hub_models.losses.flow_matching import flow_matching_pair, logit_normal_sigmas, shift_sigmas
from ..hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from ..pipelines.contact_sheet import contact_sheet
from ..pipelines.files import whole_folder
from ..pipelines.fitting.loop import Batches, require
from ..pipelines.fitting.run_folder import RunFolder
from ..pipelines.pipeline_snapgen import ENCODERS, SnapGenPipeline
from ..pipelines.repository import save_repository, text_tower
from .conditions_snapgen import Conditions, MemoryConditions, StreamConditions
from .datasets.captioned_images import CaptionedImages, pocketworld_images, shuffled_batches, stream_captioned_images
from .datasets.pocketworld.captions import caption
from .datasets.pocketworld.descriptions import TAGS
from .datasets.pocketworld.plans import sample_plan
from .datasets.pocketworld.scene import ALL_PAIRS
from .datasets.pocketworld.vocabulary import MOTIONS
from .loop import train
from .objectives.contrastive import ClipSize, Contrastive, new_clip, train_tokenizer
from .objectives.reconstruction import Reconstruction, ReconstructionWeights, encode_all
from .preset import Preset, configure
from .training_record import write_training_record

CHECKPOINTS = Path(__file__).resolve().parent.parent / "hub_models" / "checkpoints"
COMMITTED = {"clip": CHECKPOINTS / "clip-nano", "autoencoder": CHECKPOINTS / "snapgen-nano" / "vae"}
"""What stands in for a stage that was not run in the same output: the models that came with this package."""

PIXELS_PER_LATENT = 8  # along each side, of every autoencoder here
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
class ClipPreset(Preset):
    """A CLIPModel for small pictures, trained on all colour-shape pairs of PocketWorld.

    With fewer pictures it learns by heart which of them shows four cones, and does not learn to count.

    Attributes:
        init: folder of a CLIPModel to go on from, with its tokenizer.
        frozen_text_layers: the text embeddings and that many text layers stay as they are: what a generator learns
            from them meanwhile stays valid. 0 leaves nothing frozen.
        dense_weight: weight of the loss that names the object in each patch, beside the contrastive one.
        text_width, vision_width, text_layers, vision_layers: of a new model (see `ClipSize`).
    """

    split: str = "train_all+train"
    num_pictures: int = 48_000
    batch_size: int = 128
    steps: int = 8000
    dense_weight: float = 0.5
    init: str = ""
    frozen_text_layers: int = 0
    text_width: int = 128
    vision_width: int = 128
    text_layers: int = 3
    vision_layers: int = 4

    def __post_init__(self):
        super().__post_init__()
        require(self.source == "pocketworld", "source", self.source, "'pocketworld', whose captions prove their claims")
        require(self.frozen_text_layers >= 0, "frozen_text_layers", self.frozen_text_layers, "at least 0")


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset(Preset):
    """Encoder and decoder together (`nano`), or the tiny decoder of a frozen encoder (`paper`).

    Attributes:
        model: preset of `AutoencoderSnapGen`.
        encoder: folder or Hub id of an autoencoder whose encoder is taken over and frozen; "" trains our own.
        init: folder of an `AutoencoderSnapGen` to go on from. "" is new weights, in stage `refine` those of stage
            `autoencoder`.
        pixel_weight, edge_weight, kl_weight, object_weight, adversarial_weight: see `ReconstructionWeights`. The
            paper's are unknown: those here are latent diffusion's, with an adversary after a warm-up,
            which is the stage before. Objects are known of PocketWorld alone.
    """

    model: str = "nano"
    encoder: str = ""
    init: str = ""
    split: str = "train_all"
    num_pictures: int = 48_000
    batch_size: int = 16
    steps: int = 3200
    warmup_steps: int = 50
    learning_rate: float = 3e-3
    ema_decay: float | None = 0.99
    pixel_weight: float = 1.0
    edge_weight: float = 1.0
    kl_weight: float = 3e-4
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
        text_drop: chance that a text encoder is dropped for a picture, each on its own (0.464 is Stable Diffusion 3's;
            the single encoder of a nano model is dropped for guidance alone). In 0..1.
        init: folder of a UNet to start from. The paper trains small pictures before large ones, up to 1024 px: run the
            stage once a size, each in an output of its own, with `init` pointing into the last.
        time_shift: of the timestep density towards noise; 1 is none.
    """

    model: str = "nano"
    vae: str = ""
    text_encoders: str = ""
    text_drop: float = 0.1
    init: str = ""
    time_shift: float = 1.0
    batch_size: int = 64
    steps: int = 16_000
    ema_decay: float | None = 0.999

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.text_drop <= 1, "text_drop", self.text_drop, "in 0..1")
        require(self.time_shift > 0, "time_shift", self.time_shift, "above 0")
        fitting = self.text_encoders.count(",") < len(ENCODERS)
        require(fitting, "text_encoders", self.text_encoders, f"at most {len(ENCODERS)}, comma-separated")


SD3 = "stabilityai/stable-diffusion-3.5-large"
TEXT_ENCODERS = "openai/clip-vit-large-patch14,laion/CLIP-ViT-bigG-14-laion2B-39B-b160k,google/gemma-2-2b"

PAPER_DECODER = AutoencoderPreset(
    source="",
    split="train",
    model="paper",
    encoder=SD3,
    image_size=256,
    steps=20_000,
    learning_rate=1e-4,
    kl_weight=0.0,
)

STAGES: dict[str, dict[str, Preset]] = {
    "clip": {"nano": ClipPreset()},
    "judge": {"nano": ClipPreset(seed=1, text_width=96, vision_width=96, text_layers=2)},
    "autoencoder": {"nano": AutoencoderPreset(), "paper": PAPER_DECODER},
    "refine": {
        "nano": AutoencoderPreset(
            seed=2,
            steps=20_000,
            learning_rate=2.5e-3,
            edge_weight=3.0,
            kl_weight=1e-3,
            object_weight=10.0,
            ema_decay=0.995,
        ),
        "paper": replace(PAPER_DECODER, seed=1, steps=180_000, adversarial_weight=0.5),
    },
    "base": {
        "nano": BasePreset(seed=40, steps=17_000, learning_rate=1.5e-3, time_shift=1.5),
        # Learning rate, 256 px and steps: SnapGen++'s (arXiv 2601.08303, supplement H). Its global batch of 8192 is
        # processes x gradient_accumulation_steps x batch_size.
        "paper": BasePreset(
            source="",
            model="paper",
            vae=SD3,
            text_encoders=TEXT_ENCODERS,
            text_drop=0.464,
            image_size=256,
            batch_size=32,
            steps=400_000,
            learning_rate=1e-4,
            warmup_steps=1000,
            ema_decay=0.9999,
        ),
    },
}


def configured(
    stage: str, preset: str, seed: int | None = None, overrides: dict[str, str] | None = None
) -> ClipPreset | AutoencoderPreset | BasePreset:
    """A preset with other values (see `training.preset.configure`)."""
    return configure(STAGES, stage, preset, seed, overrides)


def run(
    stage: str,
    preset: str,
    output: str | Path,
    resume: bool = True,
    seed: int | None = None,
    overrides: dict[str, str] | None = None,
) -> Path:
    """Trains one stage into `output`/<stage>: its model, `training.json` with what made it, and what the loop leaves.

    Args:
        stage: a key of `STAGES`.
        preset: "nano" or "paper".
        output: folder that the stages share, for each finds there what the earlier ones left.
        resume: go on from the last checkpoint in `output`/<stage>.
        seed: in place of the preset's.
        overrides: other values for fields of the stage's preset, as text.

    Returns:
        The folder of the model.

    Raises:
        ValueError: unknown stage, preset or field, a value that does not fit it, or data that cannot be used.
        FileNotFoundError: what an earlier stage should have left, or local data, is missing.
        OSError: `output` cannot be written to.
    """
    chosen = configured(stage, preset, seed, overrides)
    require(chosen.source != "", "source", "", "your captioned pictures: a Hub dataset id, a folder or 'shards/*.tar'")
    folder = Path(output) / stage
    model = _RUNNERS[stage](chosen, folder, resume)
    changed = ({} if seed is None else {"seed": seed}) | (overrides or {})
    on_main_process(lambda: write_training_record(folder, "snapgen", stage, preset, chosen, changed))
    return model


# Stages clip and judge


def run_clip(preset: ClipPreset, folder: Path, resume: bool) -> Path:
    return train_clip(preset, pocketworld_of(preset, folder), folder, resume)


def train_clip(preset: ClipPreset, data: CaptionedImages, folder: Path, resume: bool) -> Path:
    """Trains a CLIPModel and its tokenizer; writes `folder`/model."""
    torch.manual_seed(preset.seed)
    clip, tokenizer = untrained_clip(preset)
    objective = Contrastive(clip, tokenizer, data, preset.learning_rate, preset.dense_weight)
    batches = index_batches(len(data), preset)
    modules = train(objective, batches, preset.settings(save_every=200, log_every=20), folder, resume)
    return save_model(folder, modules["clip"].clip, tokenizer)


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


# Stages autoencoder and refine


def run_autoencoder(preset: AutoencoderPreset, folder: Path, resume: bool, init: str | Path = "") -> Path:
    if preset.source == "pocketworld":
        data = pocketworld_of(preset, folder)
        batches, samples = memory_batches(data, preset), data.images(torch.arange(min(2048, len(data))))
    else:
        batches = stream_batches(preset)
        samples, _ = next(batches(0, 0, 1))
    return train_autoencoder(preset, folder, resume, batches, samples, init)


def run_refine(preset: AutoencoderPreset, folder: Path, resume: bool) -> Path:
    return run_autoencoder(preset, folder, resume, preset.init or stage_model(folder.parent, "autoencoder"))


def train_autoencoder(
    preset: AutoencoderPreset, folder: Path, resume: bool, batches: Batches, samples: Tensor, init: str | Path = ""
) -> Path:
    """Trains an autoencoder or a decoder; writes `folder`/model.

    `samples` [B, 3, h, w] are shown in previews and, unless the encoder is frozen, give mean and deviation of each
    latent channel; `init` takes the place of the preset's.
    """
    torch.manual_seed(preset.seed)
    vae = untrained_autoencoder(preset, init or preset.init)
    weights = ReconstructionWeights(
        pixel=preset.pixel_weight,
        edge=preset.edge_weight,
        kl=preset.kl_weight,
        object=preset.object_weight,
        adversarial=preset.adversarial_weight,
    )
    objective = Reconstruction(vae, weights, preset.learning_rate, samples[:8])
    train(objective, batches, preset.settings(save_every=400, log_every=50, preview_every=800), folder, resume)
    if not preset.encoder:
        std, mean = torch.std_mean(encode_all(vae, samples), dim=(0, 2, 3))
        vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist(), scaling_factor=1.0)
    return save_model(folder, vae)


def untrained_autoencoder(preset: AutoencoderPreset, init: str | Path = "") -> AutoencoderSnapGen:
    """New weights, or those of `init`; with an encoder that is named, taken over and frozen if there is one."""
    vae = AutoencoderSnapGen.from_pretrained(init) if init else AutoencoderSnapGen.from_preset(preset.model)
    if preset.encoder:
        published = load_autoencoder(preset.encoder)
        vae.encoder.load_state_dict(published.encoder.state_dict())
        vae.encoder.requires_grad_(False)
        names = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
        vae.register_to_config(**{name: getattr(published.config, name, None) for name in names})
    elif not init:
        with torch.no_grad():  # start with little noise on the latents, or nothing is learned until it has shrunk
            vae.encoder.conv_out.bias[vae.config.latent_channels :] = -5.0
    return vae


def load_autoencoder(source: str | Path) -> AutoencoderSnapGen | AutoencoderKL:
    """An autoencoder from a folder of its own, or from subfolder `vae` of a pipeline's folder or Hub repository."""
    if not (Path(source) / "config.json").is_file():
        return AutoencoderKL.from_pretrained(source, subfolder="vae")
    name = AutoencoderSnapGen.load_config(source)["_class_name"]
    return (AutoencoderKL if name == "AutoencoderKL" else AutoencoderSnapGen).from_pretrained(source)


# Stage base


class Denoising:
    """An objective (see `pipelines.fitting.loop.Objective`): rectified flow, v = eps - x0, logit-normal timesteps.

    Args:
        pipeline: its UNet learns.
        conditions: makes `Conditions` of a batch.
        preset: of the stage.
    """

    def __init__(
        self,
        pipeline: SnapGenPipeline,
        conditions: Callable[[Any, torch.Generator], Conditions],
        preset: BasePreset,
    ):
        self.pipeline, self.conditions, self.preset = pipeline, conditions, preset
        self.parts: dict[str, nn.Module] = {"unet": pipeline.unet}

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parts[part].parameters(), self.preset.learning_rate)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        given = self.conditions(batch, generator)
        device = next(self.parts[part].parameters()).device
        latents = given.latents.to(device)
        sigmas = shift_sigmas(logit_normal_sigmas(len(latents), generator), self.preset.time_shift).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        x, velocity = flow_matching_pair(latents, noise, sigmas)
        x = x.contiguous(memory_format=torch.channels_last)
        text, mask = given.text.to(device), given.mask.to(device)
        predicted = self.parts[part](x, 1000 * sigmas, text, mask, return_dict=False)[0]
        return (predicted.float() - velocity).square().mean(), {}

    def preview(self, modules: dict[str, nn.Module]) -> Image.Image:
        self.pipeline.set_progress_bar_config(disable=True)
        seeds = [torch.Generator().manual_seed(i) for i in range(len(PREVIEW_PROMPTS))]
        made = self.pipeline(list(PREVIEW_PROMPTS), generator=seeds)
        return contact_sheet(made.images, PREVIEW_PROMPTS, cell=128)


def run_base(preset: BasePreset, folder: Path, resume: bool) -> Path:
    if preset.source == "pocketworld":
        pipeline = untrained_pipeline(preset, folder.parent)
        conditions = MemoryConditions(pipeline, pocketworld_of(preset, folder), preset.text_drop)
        batches = index_batches(len(conditions), preset)
    else:
        batches = stream_batches(preset)
        pipeline = untrained_pipeline(preset, folder.parent)
        conditions = StreamConditions(pipeline, preset.text_drop)
    return train_base(preset, pipeline, conditions, batches, folder, resume)


def untrained_pipeline(preset: BasePreset, runs: Path) -> SnapGenPipeline:
    """The pipeline around a UNet that is new (or `init`), with the models of earlier stages, on accelerate's device."""
    size = preset.image_size // PIXELS_PER_LATENT
    torch.manual_seed(preset.seed)
    if preset.init:
        unet = SnapGenUNet2DConditionModel.from_pretrained(preset.init, sample_size=size)
    else:
        unet = SnapGenUNet2DConditionModel.from_preset(preset.model, sample_size=size)
    vae = load_autoencoder(preset.vae or stage_model(runs, "refine", "autoencoder")).eval().requires_grad_(False)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=preset.time_shift)
    pipeline = SnapGenPipeline(vae=vae, unet=unet, scheduler=scheduler, **load_text(preset, runs))
    return pipeline.to(Accelerator().device)


def load_text(preset: BasePreset, runs: Path) -> dict[str, Any]:
    """Text encoders, frozen, and tokenizers; named ones in the preset's precision."""
    if not preset.text_encoders:
        folder = stage_model(runs, "clip")
        clip = CLIPModel.from_pretrained(folder, dtype=torch.float32)
        tower = text_tower(clip).requires_grad_(False)
        return {"text_encoder": tower, "tokenizer": AutoTokenizer.from_pretrained(folder)}
    dtype = torch.bfloat16 if preset.mixed_precision == "bf16" else torch.float32
    classes = (CLIPTextModel, CLIPTextModelWithProjection, Gemma2Model)
    components: dict[str, Any] = {}
    for (name, tokenizer), cls, source in zip(ENCODERS.items(), classes, preset.text_encoders.split(","), strict=False):
        if source:
            components[name] = cls.from_pretrained(source, dtype=dtype).eval().requires_grad_(False)
            components[tokenizer] = AutoTokenizer.from_pretrained(source)
    return components


def train_base(
    preset: BasePreset,
    pipeline: SnapGenPipeline,
    conditions: Callable[[Any, torch.Generator], Conditions],
    batches: Batches,
    folder: Path,
    resume: bool,
) -> Path:
    """Trains the UNet of a pipeline; writes the whole repository to `folder`/model."""
    unet = pipeline.unet
    unet.set_attention_form("explicit" if pipeline.device.type == "cpu" else "fused")
    objective = Denoising(pipeline, conditions, preset)
    train(objective, batches, preset.settings(save_every=500, log_every=50, preview_every=1000), folder, resume)
    unet.set_attention_form("fused")
    own = {} if preset.text_encoders else {"text_encoder": stage_model(folder.parent, "clip")}
    on_main_process(lambda: save_repository(pipeline, folder / "model", embedded=own))
    return folder / "model"


# What the stages share


def pocketworld_of(preset: Preset, folder: Path) -> CaptionedImages:
    """The preset's pictures; an output that cannot be written to shows before they are made."""
    RunFolder(folder)
    return pocketworld_images(preset.split, preset.image_size, preset.num_pictures)


def index_batches(count: int, preset: Preset) -> Batches:
    """`Batches` of indices into data in memory."""
    return shuffled_batches(count, preset.batch_size, preset.seed, preset.gradient_accumulation_steps)


def memory_batches(data: CaptionedImages, preset: Preset) -> Batches:
    """`Batches` of (pictures [B, 3, h, w] in [-1, 1], where objects are [B, 1, h, w]) from memory."""
    indices = index_batches(len(data), preset)
    return lambda start, rank, world: (
        (data.images(chosen), data.objects(chosen)) for chosen in indices(start, rank, world)
    )


def stream_batches(preset: Preset) -> Batches:
    """`Batches` of (pictures, captions) from the preset's own source."""
    return stream_captioned_images(
        preset.source,
        preset.image_size,
        preset.batch_size,
        preset.seed,
        preset.image_column,
        preset.caption_column,
        preset.split,
        preset.gradient_accumulation_steps,
    )


def stage_model(runs: Path, *stages: str) -> Path:
    """The model that the first of `stages` to have been run left in the same output, else the committed one."""
    for folder in [*(runs / stage / "model" for stage in stages), COMMITTED[stages[-1]]]:
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(
        f"there is no {stages[-1]} model in {runs}: train stage {stages[-1]} into that output first"
    )


def save_model(folder: Path, *components: Any) -> Path:
    """Writes models and tokenizers that belong together to `folder`/model, whole or not at all."""

    def write() -> None:
        with whole_folder(folder / "model") as draft:
            for component in components:
                component.save_pretrained(draft)

    on_main_process(write)
    return folder / "model"


def on_main_process(write: Callable[[], Any]) -> None:
    """Lets one process write while the others wait."""
    state = PartialState()
    if state.is_main_process:
        write()
    state.wait_for_everyone()


_RUNNERS = {"clip": run_clip, "judge": run_clip, "autoencoder": run_autoencoder, "refine": run_refine, "base": run_base}
