"""How AsCAN is exported: generator and decoder, classifier, or detector, whichever task a pipeline has."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ...outputs import MIN_SCORE
from ...pipeline_ascan import AsCANPipeline
from ...pipeline_ascan_classification import AsCANImageClassificationPipeline
from ...pipeline_ascan_detection import OUTPUTS, AsCANDetectionPipeline
from ...recognition.drawn_digit import read_digit
from ...recognition.instance_decoding import CERTAIN_PEAK, OFFSET_UNIT, STRONG_PEAK
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..euler_levels import check_euler, scheduler_record
from ..stand_ins import Decoder, DecoderStandIn, Runner, StandIn, decoder_config, explicit_twin

GUIDANCE = AsCANPipeline.defaults.guidance_scale
STEPS = AsCANPipeline.defaults.num_inference_steps
REHEARSAL_SAMPLES, GREY_SAMPLES = 6, 30

GENERATION = """\
latents = normal noise [n, {latents}], float32, one seed a picture
sigmas = scheduler's noise levels for the number of steps, from 1 down to 0 (see "scheduler" below)
for i in 0 .. steps - 1:
    t = 1000 * sigmas[i]
    if guidance_scale > 1:
        both = unet([latents, latents], [t, t, ...], [{null}, {null}, ..., class_labels])
        velocity = both[first half] + guidance_scale * (both[second half] - both[first half])
    else:
        velocity = unet(latents, [t, ...], class_labels)
    latents = latents + (sigmas[i + 1] - sigmas[i]) * velocity
picture = vae_decoder(latents)
pixels = round(255 * clamp(picture / 2 + 0.5, 0, 1))
"""
CLASSIFICATION = """\
picture = red, green and blue ({channels} channels) in [0, 1], {fitted}
logits = classifier(2 * picture - 1)
scores = softmax(logits); the name of each class stands under "labels"
"""
DETECTION = """\
picture = red, green and blue in [0, 1], scaled (bilinear with antialiasing) so that its longer side is {size} pixels,
    then padded to {size} x {size} with the pixels at its edge, as much before as after
shape, color, center, offset = detector(2 * picture - 1), each then interpolated to {size} x {size} (bilinear)
heat = sigmoid(center); peaks = pixels that are the highest of the 5 x 5 around them, from {least} up
for each pixel where argmax(shape) > 0:
    vote = (y, x) + {unit:g} * offset
    the pixel belongs to the peak nearest to its vote, of those from {strong} up;
    a lower peak gets the pixels that are nearer to it than to any of those
for each peak with pixels:
    label = argmax of mean(softmax(shape)[1:] over its pixels), color = argmax of mean(softmax(color) over its pixels)
    score = sqrt(min(heat at the peak / {certain}, 1) * that mean of the label)
    mask = its pixels, without padding, at the picture's size
"""


def contract(pipeline: DiffusionPipeline) -> PipelineContract:
    """The contract of an AsCAN pipeline of any task, at its default size.

    Raises:
        ValueError: for a generator that takes text, or a scheduler whose step is not Euler's without noise.
    """
    if isinstance(pipeline, AsCANPipeline):
        return _generation_contract(pipeline)
    if isinstance(pipeline, AsCANImageClassificationPipeline):
        return _classification_contract(pipeline)
    return _detection_contract(pipeline)


def modules(pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
    """The networks that the contract names, sharing the pipeline's weights."""
    if isinstance(pipeline, AsCANPipeline):
        found: dict[str, nn.Module] = {"unet": Denoiser(explicit_twin(pipeline.unet))}
        found["vae_decoder"] = Decoder(pipeline.vae)
    elif isinstance(pipeline, AsCANImageClassificationPipeline):
        found = {"classifier": Classifier(explicit_twin(pipeline.model))}
    else:
        found = {"detector": Detector(explicit_twin(pipeline.model))}
    return {name: module.eval() for name, module in found.items()}


def assemble(contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]) -> DiffusionPipeline:
    """The pipeline of the contract's task, its networks replaced by `runners`."""
    configs = contract.configs
    if "unet" in runners:
        return AsCANPipeline(
            unet=_RunUNet(runners["unet"], configs["unet"]),
            vae=DecoderStandIn(runners["vae_decoder"], configs["vae"]),
            scheduler=parts["scheduler"],
            **configs["pipeline"],
        )
    if "classifier" in runners:
        model = _RunModel(runners["classifier"], configs["model"], ("logits",))
        return AsCANImageClassificationPipeline(model, **configs["pipeline"])
    return AsCANDetectionPipeline(_RunModel(runners["detector"], configs["model"], OUTPUTS), **configs["pipeline"])


def rehearse(pipeline: DiffusionPipeline) -> np.ndarray:
    """What the pipeline makes of typical inputs: pictures of classes in four steps, logits, or dense maps."""
    if isinstance(pipeline, AsCANPipeline):
        classes = pipeline.unet.config.num_classes
        labels = [index * classes // REHEARSAL_SAMPLES for index in range(REHEARSAL_SAMPLES)]
        generators = [torch.Generator().manual_seed(seed) for seed in range(REHEARSAL_SAMPLES)]
        return pipeline(labels, generator=generators, num_inference_steps=4, output_type="np").images
    drawings = [_drawing(index, pipeline.config.image_size) for index in range(REHEARSAL_SAMPLES)]
    if isinstance(pipeline, AsCANImageClassificationPipeline):
        if pipeline.model.config.in_channels == 1:
            drawings += [read_digit(_printed_digit(index)) for index in range(GREY_SAMPLES)]
        return pipeline(drawings).logits.numpy()
    maps = pipeline.dense_maps(drawings).values()
    return torch.cat([value.flatten(1) for value in maps], dim=1).numpy()


class Denoiser(nn.Module):
    """The UNet, with class numbers as int32, which every back end takes."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        return self.unet(latents, timestep, class_labels, return_dict=False)[0]


class Classifier(nn.Module):
    """Pictures to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


class Detector(nn.Module):
    """Pictures to dense maps, in the order of `OUTPUTS`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        dense = self.model(pixel_values).dense
        return tuple(dense[name] for name in OUTPUTS)


class _RunUNet(StandIn):
    @property
    def size_multiple(self) -> int:
        return self.config["size_multiple"]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        class_labels: Tensor,
        encoder_hidden_states: None = None,
        encoder_attention_mask: None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        return (self.run(sample, timestep.float(), class_labels.int())[0],)


class _RunModel(StandIn):
    def __init__(self, run: Runner, config: dict[str, Any], outputs: tuple[str, ...]) -> None:
        super().__init__(run, config)
        self.outputs = outputs

    @property
    def size_multiple(self) -> int:
        return self.config["size_multiple"]

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        made = dict(zip(self.outputs, self.run(pixel_values), strict=True))
        return SimpleNamespace(logits=made.get("logits"), dense=made)


def _drawing(index: int, size: int) -> Image.Image:
    """A few bright shapes and a digit on a shaded ground: something to see for any recognizer."""
    y, x = np.mgrid[:size, :size] / size
    ground = np.stack([60 + 20 * index + 60 * y, 90 + 40 * x, 160 - 15 * index - 40 * x * y], axis=2)
    picture = Image.fromarray(ground.astype(np.uint8))
    pen, unit = ImageDraw.Draw(picture), size / 8
    colors = [(230, 40, 40), (40, 200, 60), (50, 70, 230), (240, 220, 40), (150, 50, 200), (250, 250, 250)]
    for number in range(1 + index % 3):
        x, y = (1 + 2 * number) * unit, (1 + (index + 2 * number) % 5) * unit
        draw = pen.ellipse if (index + number) % 2 else pen.rectangle
        draw((x, y, x + 2 * unit, y + 2 * unit), fill=colors[(index + number) % len(colors)])
    pen.text((5 * unit, unit), str(index), fill=(255, 255, 255), font_size=max(1, 5 * unit))
    return picture


def _printed_digit(index: int) -> Image.Image:
    """A digit in print, upright or leaning, dark on light."""
    picture = Image.new("L", (96, 96), 255)
    ImageDraw.Draw(picture).text((48, 48), str(index % 10), fill=0, font_size=64, anchor="mm")
    return picture.rotate(15 * (index // 10 - 1), fillcolor=255)


def _generation_contract(pipeline: AsCANPipeline) -> PipelineContract:
    config = pipeline.unet.config
    if config.cross_attention_dim or not config.num_classes:
        raise ValueError("the UNet takes text, but an export knows only class labels.")
    check_euler(pipeline.scheduler)
    latents = ("batch", config.in_channels, config.sample_size, config.sample_size)
    unet = ComponentContract(
        "unet",
        (
            TensorSpec("latents", latents, "float32", None, None, "noisy latents of this step, about unit variance"),
            TensorSpec("timestep", ("batch",), "float32", 0, 1000, "noise level times 1000: 1000 is noise, 0 is clean"),
            TensorSpec(
                "class_labels", ("batch",), "int32", 0, config.num_classes,
                f"number of the class; {config.num_classes} is no class",
            ),
        ),
        (TensorSpec("velocity", latents, "float32", None, None, "noise minus clean latents, as predicted"),),
        "predicts which way the noise lies, once a step",
    )  # fmt: skip
    side, channels = pipeline.default_size, pipeline.vae.config.out_channels
    picture = TensorSpec(
        "picture", ("batch", channels, side, side), "float32", -1, 1,
        "red, green and blue about [-1, 1], not clamped; pixel = round(255 * clamp(x / 2 + 0.5, 0, 1))",
    )  # fmt: skip
    meaning = "the latents as the last step left them; undoing their scale is inside"
    decoder = ComponentContract(
        "vae_decoder",
        (TensorSpec("latents", latents, "float32", None, None, meaning),),
        (picture,),
        "turns latents into a picture, once a picture",
    )
    wanted = ("sample_size", "in_channels", "out_channels", "num_classes", "cross_attention_dim")
    return PipelineContract(
        slug="ascan",
        components=(unet, decoder),
        scheduler=scheduler_record(pipeline.scheduler, STEPS),
        loop=GENERATION.format(latents=", ".join(map(str, latents[1:])), null=config.num_classes),
        constants={
            "height": side,
            "width": side,
            "latents": list(latents[1:]),
            "pixels_a_latent": pipeline.vae_scale_factor,
            "num_inference_steps": STEPS,
            "guidance_scale": GUIDANCE,
            "num_train_timesteps": pipeline.scheduler.config.num_train_timesteps,
            "num_classes": config.num_classes,
            "labels": dict(pipeline.config.id2label),
        },
        parts={"scheduler": ("diffusers", type(pipeline.scheduler).__name__)},
        configs={
            "pipeline": {"id2label": dict(pipeline.config.id2label)},
            "unet": {**{key: config[key] for key in wanted}, "size_multiple": pipeline.unet.size_multiple},
            "vae": decoder_config(config.in_channels, pipeline.vae_scale_factor),
        },
    )


def _classification_contract(pipeline: AsCANImageClassificationPipeline) -> PipelineContract:
    size, channels, classes = pipeline.config.image_size, pipeline.model.config.in_channels, len(pipeline.labels)
    logits = TensorSpec("logits", ("batch", classes), "float32", None, None, "of each class; softmax makes scores")
    fitted = {
        "stretch": f"scaled to {size} x {size} pixels (bilinear with antialiasing)",
        "pad": f"scaled so that its longer side is {size} pixels (bilinear with antialiasing), "
        f"then padded to {size} x {size} with the pixels at its edge",
    }[pipeline.config.resize_mode]
    if channels == 1:
        fitted += ", as grey = 0.299 red + 0.587 green + 0.114 blue"
    return PipelineContract(
        slug="ascan",
        components=(_recognizer("classifier", channels, size, (logits,), "names the class of a picture"),),
        scheduler={},
        loop=CLASSIFICATION.format(channels=channels, fitted=fitted),
        constants={"image_size": size, "channels": channels, "labels": dict(pipeline.config.id2label)},
        configs={
            "pipeline": {key: pipeline.config[key] for key in ("id2label", "image_size", "resize_mode")},
            "model": _model_config(pipeline.model),
        },
    )


def _detection_contract(pipeline: AsCANDetectionPipeline) -> PipelineContract:
    size, model = pipeline.config.image_size, pipeline.model
    meanings = {
        "shape": "logits: no object, then each class",
        "color": "logits of each colour",
        "center": "logit of being the middle of an object",
        "offset": f"(dy, dx) to the middle of the object, in {OFFSET_UNIT:g} pixels",
    }
    side = size // model.dense_stride
    outputs = tuple(
        TensorSpec(name, ("batch", model.config.dense_outputs[name], side, side), "float32", None, None, meanings[name])
        for name in OUTPUTS
    )
    return PipelineContract(
        slug="ascan",
        components=(_recognizer("detector", 3, size, outputs, "says of each place what is there"),),
        scheduler={},
        loop=DETECTION.format(size=size, least=MIN_SCORE, unit=OFFSET_UNIT, strong=STRONG_PEAK, certain=CERTAIN_PEAK),
        constants={
            "image_size": size,
            "labels": dict(pipeline.config.id2label),
            "colors": dict(pipeline.config.id2color),
            "offset_unit": OFFSET_UNIT,
            "least_score": MIN_SCORE,
            "strong_peak": STRONG_PEAK,
        },
        configs={
            "pipeline": {key: pipeline.config[key] for key in ("id2label", "id2color", "image_size")},
            "model": _model_config(model),
        },
    )


def _recognizer(
    name: str, channels: int, size: int, outputs: tuple[TensorSpec, ...], purpose: str
) -> ComponentContract:
    pixels = TensorSpec(
        "pixel_values", ("batch", channels, size, size), "float32", -1, 1, "2 * picture - 1, the picture in [0, 1]"
    )
    return ComponentContract(name, (pixels,), outputs, f"{purpose}, once a picture")


def _model_config(model: nn.Module) -> dict[str, Any]:
    wanted = ("in_channels", "image_size", "num_classes", "dense_outputs")
    return {**{key: model.config[key] for key in wanted}, "size_multiple": model.size_multiple}
