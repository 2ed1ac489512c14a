"""AsCAN's models and pipelines, tiny and real."""

from typing import Any

import numpy as np
import torch
from contract_cases import ImageSamplerCase, ModelCase, RecognizerCase
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ModelMixin, SchedulerMixin
from torch import Tensor, nn

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline

# Pictures by class


CLASSES = {0: "red cube", 1: "red cone", 2: "blue cube, azure cube", 3: "blue cone", 4: "crane", 5: "crane"}


def make_unet(**changes: Any) -> AsCANUNet2DModel:
    torch.manual_seed(0)
    options = {
        "sample_size": 4, "in_channels": 4, "out_channels": 4, "down_stages": ("C", "T"), "widths": (16, 32),
        "expansion": 2, "head_dim": 8, "ffn_ratio": 2, "num_classes": 6, "emb_dim": 16,
    }  # fmt: skip
    unet = AsCANUNet2DModel(**{**options, **changes}).eval()
    nn.init.normal_(unet.conv_out.weight, std=0.1)  # a new UNet predicts nothing
    return unet


def make_vae() -> AutoencoderKL:
    torch.manual_seed(1)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, scaling_factor=0.5, shift_factor=0.1, **blocks
    ).eval()


def make_generator(
    id2label: Any = CLASSES, vae: ModelMixin | None = None, scheduler: SchedulerMixin | None = None, **unet: Any
) -> AsCANPipeline:
    """Six classes, 8 x 8 pixels, multiples of 4; `unet` are changes of the UNet."""
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=1.5)
    pipeline = AsCANPipeline(make_unet(**unet), vae or make_vae(), scheduler, id2label)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


GENERATOR = ImageSamplerCase(
    make=make_generator,
    argument="class_labels",
    values=(3, 0, "red cone"),
    copies="num_images_per_class",
    watched={"latents": 1, "class_labels": 2},
    refused=[
        ({"class_labels": None}, "class_labels are needed: numbers from 0 to 5, or names out of `labels`"),
        ({"class_labels": []}, "class_labels is empty"),
        ({"class_labels": 6}, "class_labels must be numbers from 0 to 5 or class names, not 6"),
        ({"class_labels": [0, -1]}, "not -1"),
        ({"class_labels": 1.5}, "not 1.5"),
        ({"class_labels": torch.tensor([0.5])}, "not 0.5"),
        ({"class_labels": True}, "not True"),
        ({"class_labels": [None]}, "not None"),
        ({"class_labels": "red kube"}, "no class is named 'red kube': the nearest are 'red cube', "),
        ({"class_labels": ["zzz"]}, "no class is named 'zzz': the nearest are 'azure cube', 'blue cone', 'blue cube'"),
        ({"class_labels": "crane"}, "the name 'crane' belongs to the classes 4 and 5: pass the number"),
        ({"prompt_embeds": torch.zeros(1, 3, 12)}, "prompt_embeds cannot be used: this UNet was made for classes"),
        ({"negative_prompt_attention_mask": torch.zeros(1, 3)}, "negative_prompt_embeds cannot be used"),
        ({"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}, "must be one of latents, class_labels, not"),
    ],
    misfits=[
        ({"in_channels": 5}, "the UNet takes 5 and makes 4 latent channels, but the vae has 4"),
        ({"out_channels": 8}, "takes 4 and makes 8 latent channels"),
        ({"id2label": None, "num_classes": None}, "neither num_classes nor cross_attention_dim"),
        ({"num_classes": None, "cross_attention_dim": 12}, "id2label cannot be used"),
        ({"id2label": {0: "a"}}, r"id2label must name the 6 classes 0 to 5, but it names \[0\]"),
        ({"id2label": {**CLASSES, 6: "b"}}, "must name the 6 classes"),
        ({"id2label": {**CLASSES, "x": "b"}}, "id2label must be a dictionary, number -> name"),
        ({"id2label": ["a"] * 6}, "id2label must be a dictionary"),
        ({"id2label": {**CLASSES, 3: 7}}, r"id2label\[3\] must be a name, not 7"),
        ({"id2label": {**CLASSES, 3: " "}}, r"id2label\[3\] must be a name"),
    ],
)

# Classes of pictures, and objects in them

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
PICTURES = (PIXELS, PIXELS[:9], PIXELS[:, :5])
DIGITS = {0: "zero", 1: "one", 2: "two"}
LABELS, COLORS = {0: "cube", 1: "sphere"}, {0: "red", 1: "green", 2: "blue"}
DENSE = {"shape": 3, "color": 3, "center": 1, "offset": 2}


def fill_all(model: nn.Module) -> None:
    """Branches of a new model are nothing."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)


def make_backbone(**changes: Any) -> AsCANModel:
    options = {
        "stages": ("C", "T"), "widths": (8, 16), "stem_width": 8, "head_dim": 8, "ffn_ratio": 2, "expansion": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AsCANModel(**{**options, **changes}).eval()
    fill_all(model)
    return model


def make_classifier(
    id2label: Any = DIGITS, image_size: int | None = None, resize_mode: str = "stretch", **changes: Any
) -> AsCANImageClassificationPipeline:
    """Three classes, 16 x 16 pixels, multiples of 8; `changes` are those of the model."""
    model = make_backbone(**{"strides": (2, 2, 2), "image_size": 16, "num_classes": 3, **changes})
    pipeline = AsCANImageClassificationPipeline(model, id2label, image_size, resize_mode)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_detector(
    id2label: Any = LABELS, id2color: Any = COLORS, image_size: int | None = None, **changes: Any
) -> AsCANDetectionPipeline:
    """Two classes, three colours, 32 x 32 pixels, multiples of 4; `changes` are those of the model."""
    dense = {"dense_outputs": DENSE, "dense_width": 8, "dense_pool_scales": (1,), "num_classes": None}
    model = make_backbone(**{"strides": (2, 1, 2), "image_size": 32, **dense, **changes})
    pipeline = AsCANDetectionPipeline(model, id2label, id2color, image_size)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def dense_numbers(pipeline: AsCANDetectionPipeline, images: Any, **arguments: Any) -> Tensor:
    return torch.cat([value.flatten(1) for value in pipeline.dense_maps(images, **arguments).values()], dim=1)


PIPELINES = {
    "class-to-image": GENERATOR,
    "image-classification": RecognizerCase(
        make=lambda **changes: make_classifier(**{"resize_mode": "pad", "image_size": 24, **changes}),
        values=PICTURES,
        numbers=lambda pipeline, images, **arguments: pipeline(images, **arguments).logits,
        refused=[({"top_k": 0}, "top_k must be a whole number of at least 1, not 0")],
        misfits=[
            ({"num_classes": None}, "the model has no classifier"),
            ({"in_channels": 4}, "takes 4 channels, but pictures have 1 or 3"),
            ({"id2label": {0: "a"}}, "id2label must name the 3 classes"),
            ({"image_size": 20}, "image_size must be a multiple of 8 pixels, not 20"),
            ({"resize_mode": "crop"}, "resize_mode must be one of stretch, pad, not 'crop'"),
        ],
    ),
    "object-detection": RecognizerCase(
        make=lambda **changes: make_detector(**{"image_size": 40, **changes}),
        values=PICTURES,
        numbers=dense_numbers,
        refused=[
            ({"threshold": 0.01}, "threshold must be a number from 0.05 to 1, not 0.01"),
            ({"threshold": 2}, "threshold must be a number"),
        ],
        misfits=[
            ({"dense_outputs": None}, "dense_outputs must be shape"),
            ({"dense_outputs": {**DENSE, "offset": 3}}, "dense_outputs must be shape"),
            ({"dense_outputs": {**DENSE, "shape": 1}}, "dense_outputs must be shape"),
            ({"dense_outputs": {"shape": 3, "color": 3, "center": 1}}, "dense_outputs must be shape"),
            ({"id2label": {0: "a"}}, "id2label must name the 2 classes"),
            ({"id2color": {0: "a"}}, "id2color must name the 3 classes"),
            ({"image_size": 30}, "image_size must be a multiple of 4 pixels, not 30"),
            ({"in_channels": 1}, "takes 1 channels, but colours need 3"),
        ],
    ),
}

# Models


def unet_inputs(model: AsCANUNet2DModel, samples: int) -> dict[str, Tensor]:
    config, generator = model.config, torch.Generator().manual_seed(0)
    side = config.sample_size
    given = {
        "sample": torch.randn(samples, config.in_channels, side, side, generator=generator),
        "timestep": torch.rand(samples, generator=generator) * 1000,
    }
    if config.num_classes:
        given["class_labels"] = torch.arange(samples) % (config.num_classes + 1)
    if config.cross_attention_dim:
        given["encoder_hidden_states"] = torch.randn(samples, 3, config.cross_attention_dim, generator=generator)
    return given


def unet_outputs(model: AsCANUNet2DModel, **inputs: Any) -> list[Tensor]:
    return [model(**inputs).sample]


UNET = ModelCase(
    cls=AsCANUNet2DModel,
    options={
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "down_stages": ("CC", "CT", "TT"),
        "widths": (16, 24, 32), "expansion": 2, "head_dim": 8, "ffn_ratio": 2, "num_classes": 5, "emb_dim": 16,
    },
    inputs=unet_inputs,
    outputs=unet_outputs,
    fill=lambda model: nn.init.normal_(model.conv_out.weight, std=0.2),
    presets={"imagenet256": 413_475_652, "text": 595_505_508, "nano": 2_481_904},
    layouts={
        "classes": {},
        "text": {"num_classes": None, "cross_attention_dim": 6},
        "both": {"cross_attention_dim": 6},
        "neither": {"num_classes": None},
    },
    refused_inputs=[
        ({"sample": torch.zeros(2, 3, 8, 8)}, r"sample must be \[batch, 4, height, width\]"),
        ({"sample": torch.zeros(2, 4, 8, 6)}, r"sample is 8 x 6 latents .* multiples of 4"),
        ({"timestep": torch.zeros(3)}, r"timestep must be one number or \[2\], not \[3\]"),
        ({"class_labels": None}, "class_labels are needed: this model was made for 5 of them"),
        ({"class_labels": torch.zeros(3, dtype=torch.long)}, r"class_labels must be \[2\] whole numbers"),
        ({"class_labels": torch.zeros(2)}, r"class_labels must be \[2\] whole numbers, not torch.float32"),
        ({"encoder_hidden_states": torch.zeros(2, 3, 6)}, "encoder_hidden_states cannot be used"),
        ({"encoder_attention_mask": torch.ones(2, 3)}, "encoder_attention_mask must have one entry"),
    ],
    refused_options=[
        ({"down_stages": ("CC", "CA", "TT")}, "down_stages holds 'CA'"),
        ({"down_stages": ("CC", "TT")}, "down_stages must be 3 strings"),
        ({"conv_norm": "layer"}, "conv_norm must be one of batch, group, not 'layer'"),
        ({"head_dim": 5}, "do not divide into heads of 5"),
    ],
)  # fmt: skip


def backbone_inputs(model: AsCANModel, samples: int) -> dict[str, Tensor]:
    side, generator = model.config.image_size, torch.Generator().manual_seed(0)
    return {"pixel_values": torch.rand(samples, model.config.in_channels, side, side, generator=generator) * 2 - 1}


def backbone_outputs(model: AsCANModel, pixel_values: Tensor) -> list[Tensor]:
    output = model(pixel_values)
    return [output.logits, *output.feature_maps, *output.dense.values()]


BACKBONE = ModelCase(
    cls=AsCANModel,
    options={
        "stages": ("C", "CC", "CT"), "widths": (8, 16, 24), "stem_width": 8, "strides": (2, 1, 2, 2), "image_size": 32,
        "head_dim": 8, "ffn_ratio": 2, "expansion": 2, "num_classes": 5, "dense_outputs": {"a": 2, "b": 3},
        "dense_width": 8, "dense_pool_scales": (1, 2), "drop_path": 0.0,
    },
    inputs=backbone_inputs,
    outputs=backbone_outputs,
    fill=lambda model: [nn.init.normal_(parameter, std=0.2) for parameter in model.parameters()],
    presets={"tiny": 55_646_388, "base": 98_085_000, "large": 173_854_520, "nano": 1_832_944},
    layouts={
        "defaults": {},
        "fused": {"conv_block": "fused_mbconv"},
        "one fused stage": {"fused_stages": (0,)},
        "group norm": {"conv_norm": "group"},
        "no position": {"rel_pos_bias": False},
        "no squeeze": {"se_ratio": 0},
        "separable head": {"dense_separable": True},
        "inverted": {"stages": ("T", "TC", "CC")},
    },
    refused_inputs=[
        (
            {"pixel_values": torch.zeros(2, 1, 32, 32)},
            r"pixel_values must be \[batch, 3, height, width\], not \[2, 1, 32, 32\]",
        ),
        ({"pixel_values": torch.zeros(3, 32, 32)}, r"not \[3, 32, 32\]"),
        (
            {"pixel_values": torch.zeros(2, 3, 32, 30)},
            r"is 32 x 30 pixels \(height x width\): both must be multiples of 8",
        ),
    ],
    refused_options=[
        ({"stages": ("C", "CX", "T")}, "stages holds 'CX'"),
        ({"stages": ("C", "T")}, "stages must be 3 strings"),
        ({"strides": (2, 2, 2)}, r"strides must be 4 numbers 1 or 2.*not \(2, 2, 2\)"),
        ({"strides": (2, 3, 2, 2)}, "strides must be 4 numbers 1 or 2"),
        ({"conv_block": "convnext"}, "conv_block must be one of mbconv, fused_mbconv.*not 'convnext'"),
        ({"conv_norm": "layer"}, "conv_norm must be one of batch, group.*not 'layer'"),
        ({"head_dim": 7}, "24 channels do not divide into heads of 7"),
        ({"drop_path": 1.5}, "rate of stochastic depth must be at least 0 and below 1"),
    ],
)  # fmt: skip

MODELS = {"unet": UNET, "transformer": BACKBONE}

# What its benchmark measures in the contract: how much less than it does by itself, and what not at all

MEASURED = {
    "judged_pictures": 4, "true_pictures": 24, "shuffles": 2, "chance_pictures": 8, "pictures_a_class": 1,
    "modes": ("eager",), "batches": (1,), "repeats": 2, "threads": 1, "ablation_steps": (1,), "ablation_seeds": 1,
    "ablation_pictures": 8, "ablation_test_pictures": 4, "ablation_batch": 4,
}  # fmt: skip
NOT_MEASURED = {
    "exported": "exports take minutes: tests/eval/claims/ascan/test_exported.py measures a bundle",
    "operations": "tests/eval/claims/ascan/test_costs.py counts all of them by hand",
    "resolution": "tests/eval/claims/ascan/test_costs.py measures it, beside a single rival",
}
LACKING = {
    "throughput": {
        f"{what}-{rival}-{mode}-{batch}"
        for what in ("throughput", "memory")
        for rival in ("convnext", "swin", "vit", "pvt")
        for mode in ("eager", "compiled", "onnx")
        for batch in (1, 16, 64)
        if (mode, batch) != ("eager", 1)
    }
}
"""Measurement -> rows that `MEASURED` leaves out."""
