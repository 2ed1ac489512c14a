"""AsCAN's training, stage by stage.

| stage | what learns | data of preset `nano` | of preset `paper` |
|---|---|---|---|
| classification | backbone and classifier | scikit-learn's digits | ImageNet-1K by Hub id or folder |
| segmentation | backbone and semantic head | PocketWorld's five shapes | ADE20K by Hub id or folder |
| judge | backbone and the heads of a detector | PocketWorld, clean and spoilt | - |
| generation | the UNet, class by class | PocketWorld's fifty colour-shape classes | ImageNet-1K |

The judge measures generators: no feature or verdict of it ever enters a training loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import PartialState
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from ..hub_models.transformer_ascan import AsCANModel
from ..hub_models.unet_ascan import AsCANUNet2DModel
from ..pipelines.files import whole_folder
from ..pipelines.fitting.loop import Batches, require
from ..pipelines.fitting.run_folder import RunFolder
from ..pipelines.pipeline_ascan import AsCANPipeline
from ..pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from ..pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from ..pipelines.repository import save_repository
from .datasets.captioned_images import shuffled_batches
from .datasets.digits import load_digits
from .datasets.instance_images import NO_OBJECT, InstanceImages, pocketworld_instances
from .datasets.labelled_images import LabelledImages, class_names, stream_labelled_images
from .datasets.pocketworld.scene import ALL_PAIRS, COLORS, SHAPES
from .datasets.segmented_images import stream_segmented_images
from .loop import train
from .objectives.class_denoising import ClassDenoising, LabelledLatents, StreamedLatents, encode_labelled
from .objectives.classification import Classification, ClassificationSettings
from .objectives.detection import DETECTION_OUTPUTS, DetectionObjective
from .objectives.segmentation import OUTPUT, Segmentation
from .preset import Preset, configure
from .training_record import write_training_record

PACKAGE = __package__.rpartition(".")[0]
CHECKPOINTS = Path(__file__).parents[1] / "hub_models" / "checkpoints"
PAIR_NAMES = tuple(" ".join(pair) for pair in ALL_PAIRS)


# The numbers


@dataclass(frozen=True, kw_only=True)
class ClassificationPreset(Preset):
    """Backbone and classifier.

    Attributes:
        source: "digits", or an image dataset with labels: a Hub id or a folder with a subfolder a class.
        label_column: of such a dataset.
        model: preset of `AsCANModel`.
        init: folder of an `AsCANModel` to go on from.
        drop_path: stochastic depth of the last block.
        num_classes: how many there are.
        weight_decay, label_smoothing, mixup, cutmix, turn, zoom, shift, mirror: see `ClassificationSettings`.
    """

    source: str = "digits"
    label_column: str = "label"
    model: str = "nano"
    init: str = ""
    image_size: int = 32
    batch_size: int = 64
    steps: int = 2500
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float | None = 0.995
    num_classes: int = 10
    drop_path: float = 0.1
    label_smoothing: float = 0.1
    mixup: float = 0.2
    cutmix: float = 0.0
    turn: float = 15.0
    zoom: float = 0.12
    shift: float = 0.1
    mirror: bool = False

    def __post_init__(self):
        super().__post_init__()
        require(self.source != "pocketworld", "source", self.source, "'digits', a Hub id or a folder with labels")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "at least 0 and below 1")
        for name in ("weight_decay", "mixup", "cutmix", "turn", "zoom", "shift"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        if self.source == "digits":
            require(self.image_size == 32, "image_size", self.image_size, "32 for the source digits")


@dataclass(frozen=True, kw_only=True)
class SegmentationPreset(Preset):
    """Backbone and semantic head.

    Attributes:
        source: "pocketworld", whose pixels show nothing or one of five shapes, or a dataset with masks.
        mask_column: of such a dataset.
        first_class: value in its masks that is class 0; lower ones are ignored.
        num_classes: how many classes there are.
        model: preset of `AsCANModel`.
        backbone: folder of an `AsCANModel`, say of stage classification, whose stem and stages are taken over;
            "" starts from new weights.
        init: folder of an `AsCANModel` with the same head to go on from.
        drop_path: stochastic depth of the last block.
        weight_decay: of AdamW.
    """

    split: str = "train_all"
    num_pictures: int = 24_000
    mask_column: str = "annotation"
    first_class: int = 1
    num_classes: int = 1 + len(SHAPES)
    model: str = "nano"
    backbone: str = ""
    init: str = ""
    batch_size: int = 32
    steps: int = 2000
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    ema_decay: float | None = 0.99
    drop_path: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        require(self.num_classes >= 2, "num_classes", self.num_classes, "at least 2")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")


@dataclass(frozen=True, kw_only=True)
class JudgePreset(Preset):
    """The detector of PocketWorld's shapes and colours.

    Attributes:
        model: preset of `AsCANModel`.
        init: folder of an `AsCANModel` with the same heads to go on from.
        weight_decay: of AdamW.
        spoilt: share of pictures that are degraded (see `training.objectives.degradation`), in 0..1.
    """

    split: str = "train_all"
    num_pictures: int = 96_000
    model: str = "nano"
    init: str = ""
    batch_size: int = 32
    steps: int = 8000
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    ema_decay: float | None = 0.998
    spoilt: float = 0.6

    def __post_init__(self):
        super().__post_init__()
        require(self.source == "pocketworld", "source", self.source, "'pocketworld', whose masks are exact")
        require(0 <= self.spoilt <= 1, "spoilt", self.spoilt, "in 0..1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")


@dataclass(frozen=True, kw_only=True)
class GenerationPreset(Preset):
    """The UNet, class by class.

    Attributes:
        source: "pocketworld", whose pictures of one object make fifty classes, or an image dataset with labels.
        label_column: of such a dataset.
        model: preset of `AsCANUNet2DModel`.
        vae: folder or Hub id of an autoencoder; a Hub id's subfolder `vae`.
        init: folder of a UNet to go on from.
        prediction_type: "flow", or "epsilon" or "v_prediction" of a scaled-linear DDPM; the paper's is "epsilon".
        num_classes: how many there are.
        label_drop: chance that a picture is shown as of no class, in 0..1.
    """

    split: str = "train_all"
    num_pictures: int = 96_000
    label_column: str = "label"
    model: str = "nano"
    vae: str = str(CHECKPOINTS / "ascan-nano" / "vae")
    init: str = ""
    batch_size: int = 64
    steps: int = 12_000
    learning_rate: float = 1.5e-3
    ema_decay: float | None = 0.999
    prediction_type: str = "flow"
    num_classes: int = len(ALL_PAIRS)
    label_drop: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        require(self.num_classes >= 1, "num_classes", self.num_classes, "at least 1")
        require(0 <= self.label_drop <= 1, "label_drop", self.label_drop, "in 0..1")
        kinds = ("flow", "epsilon", "v_prediction")
        require(self.prediction_type in kinds, "prediction_type", self.prediction_type, f"one of {', '.join(kinds)}")


STAGES: dict[str, dict[str, Preset]] = {
    "classification": {
        "nano": ClassificationPreset(),
        # 300 epochs of ImageNet-1K; the global batch of 1024 is processes x gradient_accumulation_steps x batch_size.
        "paper": ClassificationPreset(
            source="", split="train", model="tiny", image_size=224, batch_size=128, steps=375_000, warmup_steps=25_000,
            learning_rate=1e-3, ema_decay=0.9999, num_classes=1000, drop_path=0.2, mixup=0.8, cutmix=1.0,
            turn=0.0, zoom=0.25, shift=0.1, mirror=True,
        ),
    },
    "segmentation": {
        "nano": SegmentationPreset(),
        # 160,000 steps of 16 crops of 512 pixels, as UPerNet is usually trained on ADE20K.
        "paper": SegmentationPreset(
            source="", split="train", model="tiny", image_size=512, num_classes=150, batch_size=16, steps=160_000,
            warmup_steps=1500, learning_rate=1e-4, weight_decay=0.05, ema_decay=None, drop_path=0.2,
        ),
    },
    "judge": {"nano": JudgePreset()},
    "generation": {
        "nano": GenerationPreset(),
        "paper": GenerationPreset(
            source="", split="train", model="imagenet256", vae="stabilityai/sdxl-vae", image_size=256, batch_size=64,
            steps=400_000, warmup_steps=1000, learning_rate=1e-4, ema_decay=0.9999, prediction_type="epsilon",
            num_classes=1000,
        ),
    },
}  # fmt: skip


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
        output: folder that the stages share.
        resume: go on from the last checkpoint in `output`/<stage>.
        seed: in place of the preset's.
        overrides: other values for fields of the stage's preset, as text.

    Returns:
        The folder of the model.

    Raises:
        ValueError: unknown stage, preset or field, a value that does not fit it, or data that cannot be used.
        FileNotFoundError: local data or a model is missing.
        OSError: `output` cannot be written to.
    """
    chosen = configure(STAGES, stage, preset, seed, overrides)
    require(chosen.source != "", "source", "", "your labelled pictures: a Hub dataset id or a folder")
    folder = Path(output) / stage
    RunFolder(folder)  # an output that cannot be written to shows before data are made
    model = _RUNNERS[stage](chosen, folder, resume)
    changed = ({} if seed is None else {"seed": seed}) | (overrides or {})
    if PartialState().is_main_process:
        write_training_record(folder, "ascan", stage, preset, chosen, changed)
    return model


# Stage classification


def run_classification(preset: ClassificationPreset, folder: Path, resume: bool) -> Path:
    if preset.source == "digits":
        data = load_digits("train")
        return train_classification(preset, folder, resume, index_batches(len(data), preset), data.names, data)
    batches = stream_labelled_images(**_stream(preset), label_column=preset.label_column)
    names = class_names(preset.source, preset.split, preset.label_column)
    require(len(names) == preset.num_classes, "num_classes", preset.num_classes, f"{len(names)}, as of the source")
    return train_classification(preset, folder, resume, batches, names)


def train_classification(
    preset: ClassificationPreset,
    folder: Path,
    resume: bool,
    batches: Batches,
    names: Sequence[str],
    data: LabelledImages | None = None,
) -> Path:
    """Trains a backbone and its classifier; writes `folder`/model, an `AsCANImageClassificationPipeline`."""
    torch.manual_seed(preset.seed)
    channels = 3 if data is None else data.pictures.shape[1]
    options: dict[str, Any] = {"num_classes": preset.num_classes, "image_size": preset.image_size}
    model = new_model(AsCANModel, "model", preset, in_channels=channels, drop_path=preset.drop_path, **options)
    settings = {entry.name for entry in fields(ClassificationSettings)}
    given = ClassificationSettings(**{name: getattr(preset, name) for name in settings})
    labels = dict(enumerate(names))
    return trained(
        Classification(model, given, data), "model", batches, preset, folder, resume,
        lambda model: AsCANImageClassificationPipeline(model, labels),
    )  # fmt: skip


# Stage segmentation


def run_segmentation(preset: SegmentationPreset, folder: Path, resume: bool) -> Path:
    if preset.source == "pocketworld":
        data = pocketworld_instances(preset.split, preset.image_size, preset.num_pictures)
        return train_segmentation(preset, folder, resume, index_batches(len(data), preset), shapes_of(data))
    columns = {"mask_column": preset.mask_column, "first_class": preset.first_class}
    batches = stream_segmented_images(**_stream(preset), **columns)
    return train_segmentation(preset, folder, resume, batches, lambda batch: batch)


def train_segmentation(
    preset: SegmentationPreset, folder: Path, resume: bool, batches: Batches, read: Callable[[Any], tuple]
) -> Path:
    """Trains a backbone and its semantic head; writes `folder`/model."""
    torch.manual_seed(preset.seed)
    options = {"num_classes": None, "dense_outputs": {OUTPUT: preset.num_classes}, "image_size": preset.image_size}
    model = new_model(AsCANModel, "model", preset, drop_path=preset.drop_path, **options)
    if preset.backbone:
        take_backbone(model, AsCANModel.from_pretrained(preset.backbone))
    objective = Segmentation(model, read, preset.learning_rate, preset.weight_decay)
    return trained(objective, "model", batches, preset, folder, resume)


def take_backbone(model: AsCANModel, other: AsCANModel) -> None:
    """Copies stem and stages of another model; position tables of another size are interpolated.

    Raises:
        ValueError: for a backbone of other stages or widths.
    """
    for name in ("stages", "widths", "stem_width", "strides", "in_channels", "expansion", "ffn_ratio", "fused_stages"):
        mine, others = model.config[name], other.config[name]
        same = mine == others if isinstance(mine, int) else list(mine) == list(others)
        require(same, f"{name} of the backbone", others, f"{mine}, as of the model")
    weights = {name: value for name, value in other.state_dict().items() if name.startswith(("stem.", "blocks."))}
    own = model.state_dict()
    for name, value in weights.items():
        if name.endswith(".table") and value.shape != own[name].shape:
            weights[name] = torch.nn.functional.interpolate(value[None], own[name].shape[1:], mode="bicubic")[0]
    model.load_state_dict(weights, strict=False)


def shapes_of(data: InstanceImages) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Reads batches of indices as (pictures in [-1, 1], 0 for nothing or 1 + shape)."""
    return lambda batch: (2 * data.images(batch) - 1, data.targets(batch).shape)


# Stage judge


def run_judge(preset: JudgePreset, folder: Path, resume: bool) -> Path:
    data = pocketworld_instances(preset.split, preset.image_size, preset.num_pictures)
    return train_judge(preset, data, folder, resume)


def train_judge(preset: JudgePreset, data: InstanceImages, folder: Path, resume: bool) -> Path:
    """Trains a detector; writes `folder`/model, an `AsCANDetectionPipeline`."""
    torch.manual_seed(preset.seed)
    options = {"num_classes": None, "dense_outputs": DETECTION_OUTPUTS, "image_size": preset.image_size}
    model = new_model(AsCANModel, "model", preset, **options)
    objective = DetectionObjective(model, data, preset.learning_rate, preset.weight_decay, preset.spoilt)
    return trained(objective, "model", index_batches(len(data), preset), preset, folder, resume, judge_pipeline)


def judge_pipeline(model: AsCANModel) -> AsCANDetectionPipeline:
    """A detector of PocketWorld's shapes and colours around its model."""
    return AsCANDetectionPipeline(model, dict(enumerate(SHAPES)), dict(enumerate(COLORS)))


# Stage generation


def run_generation(preset: GenerationPreset, folder: Path, resume: bool) -> Path:
    vae = load_vae(preset.vae).eval().requires_grad_(False)
    if preset.source == "pocketworld":
        data = pocketworld_instances(preset.split, preset.image_size, preset.num_pictures)
        return train_generation(preset, folder, resume, vae, single_objects(vae, data), PAIR_NAMES)
    names = class_names(preset.source, preset.split, preset.label_column)
    require(len(names) == preset.num_classes, "num_classes", preset.num_classes, f"{len(names)}, as of the source")
    batches = stream_labelled_images(**_stream(preset), label_column=preset.label_column)
    return train_generation(preset, folder, resume, vae, StreamedLatents(vae), names, batches)


def single_objects(vae: nn.Module, data: InstanceImages) -> LabelledLatents:
    """Latents of the pictures that show one object, labelled by their place in `ALL_PAIRS`."""
    alone = (data.shapes[:, 1] == NO_OBJECT).nonzero()[:, 0]
    labels = data.colors[:, 0].long() * len(SHAPES) + data.shapes[:, 0].long()
    return encode_labelled(vae, lambda part: 2 * data.images(part) - 1, labels, alone)


def train_generation(
    preset: GenerationPreset,
    folder: Path,
    resume: bool,
    vae: nn.Module,
    data: LabelledLatents | StreamedLatents,
    names: Sequence[str],
    batches: Batches | None = None,
) -> Path:
    """Trains a UNet for latents of `vae`; writes `folder`/model, an `AsCANPipeline` of classes with these names.

    Without `batches`, data are latents in memory.
    """
    torch.manual_seed(preset.seed)
    channels = vae.config.latent_channels
    options = {"in_channels": channels, "out_channels": channels, "num_classes": preset.num_classes}
    unet = new_model(
        AsCANUNet2DModel, "unet", preset, sample_size=preset.image_size // pixels_per_latent(vae), **options
    )
    scheduler = new_scheduler(preset)
    objective = ClassDenoising(unet, scheduler, data, preset.learning_rate, preset.label_drop)
    batches = batches or index_batches(len(data), preset)
    return trained(
        objective, "unet", batches, preset, folder, resume,
        lambda unet: AsCANPipeline(unet, vae, sampler_of(scheduler), dict(enumerate(names))),
    )  # fmt: skip


def sampler_of(
    scheduler: FlowMatchEulerDiscreteScheduler | DDPMScheduler,
) -> FlowMatchEulerDiscreteScheduler | DDIMScheduler:
    """The scheduler that draws pictures with a model trained on `scheduler`'s noise levels: DDIM's for a DDPM."""
    return DDIMScheduler.from_config(scheduler.config) if isinstance(scheduler, DDPMScheduler) else scheduler


def pixels_per_latent(vae: nn.Module) -> int:
    """Pixels a latent stands for, along each side."""
    return getattr(vae, "spatial_compression_ratio", None) or 2 ** (len(vae.config.block_out_channels) - 1)


def new_scheduler(preset: GenerationPreset) -> FlowMatchEulerDiscreteScheduler | DDPMScheduler:
    """The scheduler of training; SDXL's noise levels where it is no flow."""
    if preset.prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler()
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=preset.prediction_type,
        clip_sample=False,  # latents are not confined to [-1, 1]
    )


def load_vae(source: str | Path) -> nn.Module:
    """An autoencoder of diffusers or of this package, from its folder or a Hub repository (itself or subfolder `vae`).

    Raises:
        ValueError: a folder whose config names no autoencoder.
        OSError: it cannot be reached.
    """
    if not Path(source).is_dir():
        return diffusers.AutoencoderKL.from_pretrained(source)
    name = diffusers.AutoencoderKL.load_config(source).get("_class_name", "")
    kind = getattr(diffusers, name, None) or getattr(import_module(PACKAGE), name, None) if name else None
    require(kind is not None and hasattr(kind, "encode"), "vae", str(source), "a folder of an autoencoder")
    return kind.from_pretrained(source)


# What the stages share


def new_model(kind: type, part: str, preset: Any, **options: Any) -> nn.Module:
    """A model with new weights of the preset, or those of `init`, with the attention that trains fastest here."""
    if preset.init:
        inside = Path(preset.init) / part
        model = kind.from_pretrained(inside if inside.is_dir() else preset.init)
    else:
        model = kind.from_preset(preset.model, **options)
    model.set_attention_form("explicit" if PartialState().device.type == "cpu" else "fused")
    return model


def trained(
    objective: Any,
    part: str,
    batches: Batches,
    preset: Preset,
    folder: Path,
    resume: bool,
    pipeline: Callable[[nn.Module], DiffusionPipeline] | None = None,
) -> Path:
    """Runs the loop and saves what learned to `folder`/model, whole or not at all: its pipeline, or else it alone."""
    model = train(objective, batches, preset.settings(save_every=500, log_every=50), folder, resume)[part]
    model.set_attention_form("fused")
    if PartialState().is_main_process:
        if pipeline is not None:
            save_repository(pipeline(model), folder / "model")
        else:
            with whole_folder(folder / "model") as draft:
                model.save_pretrained(draft)
    PartialState().wait_for_everyone()
    return folder / "model"


def index_batches(count: int, preset: Preset) -> Batches:
    """`Batches` of indices into data in memory."""
    return shuffled_batches(count, preset.batch_size, preset.seed, preset.gradient_accumulation_steps)


def _stream(preset: Any) -> dict[str, Any]:
    return {
        "source": preset.source,
        "size": preset.image_size,
        "batch_size": preset.batch_size,
        "seed": preset.seed,
        "image_column": preset.image_column,
        "split": preset.split,
        "micro_steps": preset.gradient_accumulation_steps,
    }


_RUNNERS = {
    "classification": run_classification,
    "segmentation": run_segmentation,
    "judge": run_judge,
    "generation": run_generation,
}
