"""AsCAN's training, stage by stage.

| stage | what learns | data of preset `nano` | of preset `paper` |
|---|---|---|---|
| classification | backbone and classifier | scikit-learn's digits | ImageNet-1K by Hub id or folder |
| segmentation | backbone and semantic head | PocketWorld's five shapes | ADE20K by Hub id or folder |
| judge | backbone and the heads of a detector | PocketWorld, clean and spoilt | - |
| generation | the UNet, class by class | PocketWorld's fifty colour-shape classes | ImageNet-1K |

The judge measures generators: no feature or verdict of it ever enters a training loss.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..hub_models.transformer_ascan import AsCANModel
from ..hub_models.unet_ascan import AsCANUNet2DModel
from ..pipelines.inputs import require
from ..pipelines.pipeline_ascan import AsCANPipeline
from ..pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from ..pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from .conditions import CachedConditions, StreamedConditions, cached_classes, cached_latents, shown_classes
from .datasets.digits import load_digits
from .datasets.instance_images import NO_OBJECT, InstanceImages, pocketworld_instances
from .datasets.labelled_images import class_names, labelled_picture
from .datasets.pocketworld.scene import ALL_PAIRS, COLORS, SHAPES
from .datasets.segmented_images import segmented_picture
from .latents import load_autoencoder, pixels_per_latent
from .objectives.classification import Classification, ClassificationSettings
from .objectives.denoising import Denoising, sampler_of, training_scheduler
from .objectives.detection import DETECTION_OUTPUTS, DetectionObjective
from .objectives.segmentation import OUTPUT, Segmentation
from .preset import Preset
from .stages import Stage, StageRun, run_stage

# The numbers


@dataclass(frozen=True, kw_only=True)
class RecognitionPreset(Preset):
    """What the stages with a backbone share.

    Attributes:
        model: preset of `AsCANModel`.
        weight_decay: of AdamW.
    """

    model: str
    weight_decay: float

    def __post_init__(self):
        super().__post_init__()
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")


@dataclass(frozen=True, kw_only=True)
class ClassificationPreset(RecognitionPreset, ClassificationSettings):
    """Backbone and classifier.

    Attributes:
        source: "digits", or an image dataset with labels: a Hub id or a folder with a subfolder a class.
        label_column: of such a dataset.
        num_classes: how many there are.
        drop_path: stochastic depth of the last block.
    """

    label_column: str = "label"
    num_classes: int
    drop_path: float

    def __post_init__(self):
        super().__post_init__()
        require(self.source != "pocketworld", "source", self.source, "'digits', a Hub id or a folder with labels")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "at least 0 and below 1")
        for name in ("mixup", "cutmix", "turn", "zoom", "shift"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        if self.source == "digits":
            require(self.image_size == 32, "image_size", self.image_size, "32 for the source digits")


@dataclass(frozen=True, kw_only=True)
class SegmentationPreset(RecognitionPreset):
    """Backbone and semantic head.

    Attributes:
        source: "pocketworld", whose pixels show nothing or one of five shapes, or a dataset with masks.
        mask_column: of such a dataset.
        first_class: value in its masks that is class 0; lower ones are ignored.
        num_classes: how many classes there are.
        backbone: folder of an `AsCANModel`, say of stage classification, whose stem and stages are taken over;
            "" starts from new weights.
        drop_path: stochastic depth of the last block.
    """

    split: str = "train_all"
    num_pictures: int = 24_000
    mask_column: str = "annotation"
    first_class: int = 1
    num_classes: int
    backbone: str = ""
    drop_path: float

    def __post_init__(self):
        super().__post_init__()
        require(self.num_classes >= 2, "num_classes", self.num_classes, "at least 2")


@dataclass(frozen=True, kw_only=True)
class JudgePreset(RecognitionPreset):
    """The detector of PocketWorld's shapes and colours.

    Attributes:
        spoilt: share of pictures that are degraded (see `training.objectives.degradation`), in 0..1.
    """

    split: str = "train_all"
    num_pictures: int = 96_000
    spoilt: float

    def __post_init__(self):
        super().__post_init__()
        require(self.source == "pocketworld", "source", self.source, "'pocketworld', whose masks are exact")
        require(0 <= self.spoilt <= 1, "spoilt", self.spoilt, "in 0..1")


@dataclass(frozen=True, kw_only=True)
class GenerationPreset(Preset):
    """The UNet, class by class.

    Attributes:
        source: "pocketworld", whose pictures of one object make fifty classes, or an image dataset with labels.
        label_column: of such a dataset.
        model: preset of `AsCANUNet2DModel`.
        vae: folder or Hub id of an autoencoder, or of a pipeline with one; "" is that of `ascan-nano`.
        prediction_type: of `training_scheduler`; the paper's is "epsilon".
        num_classes: how many there are.
        label_drop: chance that a picture is shown as of no class, in 0..1.
    """

    split: str = "train_all"
    num_pictures: int = 96_000
    label_column: str = "label"
    model: str
    vae: str = ""
    prediction_type: str
    num_classes: int
    label_drop: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        require(self.num_classes >= 1, "num_classes", self.num_classes, "at least 1")
        require(0 <= self.label_drop <= 1, "label_drop", self.label_drop, "in 0..1")
        training_scheduler(self.prediction_type)


YOURS = {"source": "", "split": "train"}  # pictures that you bring

# fmt: off
CLASSIFICATION = {
    "nano":  ClassificationPreset(model="nano", image_size=32,  batch_size=64,  steps=2_500,   warmup_steps=100,
                                  learning_rate=2e-3, weight_decay=0.05, ema_decay=0.995,  num_classes=10,
                                  label_smoothing=0.1, drop_path=0.1, mixup=0.2, cutmix=0.0, turn=15.0, zoom=0.12,
                                  shift=0.1, mirror=False, source="digits"),
    # 300 epochs of ImageNet-1K; the global batch of 1024 is processes x gradient_accumulation_steps x batch_size.
    "paper": ClassificationPreset(model="tiny", image_size=224, batch_size=128, steps=375_000, warmup_steps=25_000,
                                  learning_rate=1e-3, weight_decay=0.05, ema_decay=0.9999, num_classes=1000,
                                  label_smoothing=0.1, drop_path=0.2, mixup=0.8, cutmix=1.0, turn=0.0,  zoom=0.25,
                                  shift=0.1, mirror=True, **YOURS),
}
SEGMENTATION = {
    "nano":  SegmentationPreset(model="nano", image_size=64,  batch_size=32, steps=2_000,   warmup_steps=100,
                                learning_rate=1.5e-3, weight_decay=0.02, ema_decay=0.99, num_classes=1 + len(SHAPES),
                                drop_path=0.0),
    # 160,000 steps of 16 crops of 512 pixels, as UPerNet is usually trained on ADE20K.
    "paper": SegmentationPreset(model="tiny", image_size=512, batch_size=16, steps=160_000, warmup_steps=1_500,
                                learning_rate=1e-4,   weight_decay=0.05, ema_decay=None, num_classes=150,
                                drop_path=0.2, **YOURS),
}
JUDGE = {
    "nano":  JudgePreset(model="nano", batch_size=32, steps=8_000, learning_rate=1.5e-3, weight_decay=0.02,
                         ema_decay=0.998, spoilt=0.6),
}
GENERATION = {
    "nano":  GenerationPreset(model="nano",        image_size=64,  batch_size=64, steps=12_000,  warmup_steps=100,
                              learning_rate=1.5e-3, ema_decay=0.999,  num_classes=len(ALL_PAIRS),
                              prediction_type="flow"),
    "paper": GenerationPreset(model="imagenet256", image_size=256, batch_size=64, steps=400_000, warmup_steps=1_000,
                              learning_rate=1e-4,   ema_decay=0.9999, num_classes=1000,
                              prediction_type="epsilon", vae="stabilityai/sdxl-vae", **YOURS),
}
# fmt: on


# Stage classification


def train_classification(preset: ClassificationPreset, run: StageRun) -> Path:
    if preset.source == "digits":
        data = load_digits("train")
        batches, names, channels = run.indices(len(data)), data.names, data.pictures.shape[1]
    else:
        batches = run.stream(labelled_picture, label_column=preset.label_column)
        data, names, channels = None, names_of_source(preset), 3
    model = run.new_model(
        AsCANModel, "model", num_classes=preset.num_classes, image_size=preset.image_size, in_channels=channels,
        drop_path=preset.drop_path,
    )  # fmt: skip
    run.learn(Classification(model, preset, data), batches)
    return run.save_pipeline(AsCANImageClassificationPipeline(model, dict(enumerate(names))))


def names_of_source(preset: ClassificationPreset | GenerationPreset) -> tuple[str, ...]:
    """The names of its classes, which must be as many as the preset says."""
    names = class_names(preset.source, preset.split, preset.label_column)
    require(len(names) == preset.num_classes, "num_classes", preset.num_classes, f"{len(names)}, as of the source")
    return names


# Stage segmentation


def train_segmentation(preset: SegmentationPreset, run: StageRun) -> Path:
    if preset.source == "pocketworld":
        data = run.pocketworld(pocketworld_instances)
        batches, read = run.indices(len(data)), partial(pictures_and_shapes, data)
    else:
        columns = {"mask_column": preset.mask_column, "first_class": preset.first_class}
        batches, read = run.stream(segmented_picture, **columns), tuple
    model = run.new_model(
        AsCANModel, "model", num_classes=None, dense_outputs={OUTPUT: preset.num_classes},
        image_size=preset.image_size, drop_path=preset.drop_path,
    )  # fmt: skip
    if preset.backbone:
        take_backbone(model, AsCANModel.from_pretrained(run.begins_with("backbone", preset.backbone)))
    run.learn(Segmentation(model, read, preset.learning_rate, preset.weight_decay), batches)
    return run.save(model)


def pictures_and_shapes(data: InstanceImages, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures in [-1, 1], and 0 for nothing or 1 + shape of each pixel, by their indices."""
    return 2 * data.images(batch) - 1, data.targets(batch).shape


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


# Stage judge


def train_judge(preset: JudgePreset, run: StageRun) -> Path:
    data = run.pocketworld(pocketworld_instances)
    model = run.new_model(
        AsCANModel, "model", num_classes=None, dense_outputs=DETECTION_OUTPUTS, image_size=preset.image_size
    )
    objective = DetectionObjective(model, data, preset.learning_rate, preset.weight_decay, preset.spoilt)
    run.learn(objective, run.indices(len(data)))
    return run.save_pipeline(AsCANDetectionPipeline(model, dict(enumerate(SHAPES)), dict(enumerate(COLORS))))


# Stage generation


def train_generation(preset: GenerationPreset, run: StageRun) -> Path:
    vae = load_autoencoder(run.begins_with("vae", preset.vae or checkpoint("ascan-nano") / "vae")).to(run.device)
    if preset.source == "pocketworld":
        conditions = single_objects(vae, run.pocketworld(pocketworld_instances), preset)
        batches, names = run.indices(len(conditions)), [" ".join(pair) for pair in ALL_PAIRS]
    else:
        conditions = StreamedConditions(vae, shown_classes(preset.num_classes, preset.label_drop))
        batches, names = run.stream(labelled_picture, label_column=preset.label_column), names_of_source(preset)
    channels, size = vae.config.latent_channels, preset.image_size // pixels_per_latent(vae)
    unet = run.new_model(
        AsCANUNet2DModel, "unet", sample_size=size, in_channels=channels, out_channels=channels,
        num_classes=preset.num_classes,
    )  # fmt: skip
    scheduler = training_scheduler(preset.prediction_type)
    run.learn(Denoising(unet, scheduler, conditions, preset.learning_rate), batches)
    return run.save_pipeline(AsCANPipeline(unet, vae, sampler_of(scheduler), dict(enumerate(names))))


def single_objects(vae: nn.Module, data: InstanceImages, preset: GenerationPreset) -> CachedConditions:
    """Latents of the pictures that show one object, labelled by their place in `ALL_PAIRS`."""
    alone = (data.shapes[:, 1] == NO_OBJECT).nonzero()[:, 0]
    labels = data.colors[:, 0].long() * len(SHAPES) + data.shapes[:, 0].long()
    latents = cached_latents(vae, lambda part: 2 * data.images(part) - 1, alone)
    return cached_classes(latents, labels[alone], preset.num_classes, preset.label_drop)


LABELLED = "your labelled pictures: a Hub dataset id or a folder"
STAGES = {
    "classification": Stage(train_classification, CLASSIFICATION, data=LABELLED),
    "segmentation": Stage(train_segmentation, SEGMENTATION, data="your pictures with masks: a Hub dataset id"),
    "judge": Stage(train_judge, JUDGE),
    "generation": Stage(train_generation, GENERATION, data=LABELLED),
}
run = partial(run_stage, "ascan", STAGES)
