"""How AsCAN is exported: generator and decoder, classifier, or detector, whichever task a pipeline has."""

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
from ..contract import PipelineContract, TensorSpec
from . import Export
from .latents import ExportConditions, LatentExport
from .recognition import RecognitionExport, drawing

CLASS_STEP = 7
"""From one class to the next in a rehearsal: no factor of usual numbers of classes, so that it meets all in turn."""

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


class ClassConditions(ExportConditions):
    """Class numbers, as int32, which every back end takes; the number behind the last is no class."""

    def check(self, pipeline: AsCANPipeline) -> None:
        """Refuses a UNet that takes text."""
        config = pipeline.unet.config
        if config.cross_attention_dim or not config.num_classes:
            raise ValueError("the UNet takes text, but an export knows only class labels.")

    def inputs(self, pipeline: AsCANPipeline) -> tuple[TensorSpec, ...]:
        null = pipeline.unet.config.num_classes
        meaning = f"number of the class; {null} is no class"
        return (TensorSpec("class_labels", ("batch",), "int32", 0, null, meaning),)

    def calls(self, pipeline: AsCANPipeline) -> tuple[str, str]:
        null = pipeline.unet.config.num_classes
        return f"[{null}, {null}, ..., class_labels]", "class_labels"

    def constants(self, pipeline: AsCANPipeline) -> dict[str, Any]:
        return {"num_classes": pipeline.unet.config.num_classes, "labels": dict(pipeline.config.id2label)}

    def configs(self, pipeline: AsCANPipeline) -> dict[str, dict[str, Any]]:
        unet = pipeline.unet
        wanted = ("sample_size", "in_channels", "out_channels", "num_classes", "cross_attention_dim")
        return {
            "pipeline": {"id2label": dict(pipeline.config.id2label)},
            "unet": {**{key: unet.config[key] for key in wanted}, "size_multiple": unet.size_multiple},
        }

    def example(self, pipeline: AsCANPipeline, sample: int) -> int:
        return CLASS_STEP * sample % pipeline.unet.config.num_classes


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


class ClassificationExport(RecognitionExport):
    """Pictures to logits."""

    slug = "ascan"
    kind, network, wrapper = AsCANImageClassificationPipeline, "classifier", Classifier
    purpose = "names the class of a picture"
    settings = ("id2label", "image_size", "resize_mode")

    def contract(self, pipeline: AsCANImageClassificationPipeline) -> PipelineContract:
        size, channels, classes = pipeline.config.image_size, pipeline.model.config.in_channels, len(pipeline.labels)
        logits = TensorSpec("logits", ("batch", classes), "float32", None, None, "of each class; softmax makes scores")
        fitted = {
            "stretch": f"scaled to {size} x {size} pixels (bilinear with antialiasing)",
            "pad": f"scaled so that its longer side is {size} pixels (bilinear with antialiasing), "
            f"then padded to {size} x {size} with the pixels at its edge",
        }[pipeline.config.resize_mode]
        if channels == 1:
            fitted += ", as grey = 0.299 red + 0.587 green + 0.114 blue"
        constants = {"channels": channels, "labels": dict(pipeline.config.id2label)}
        return self.one_network(pipeline, (logits,), CLASSIFICATION.format(channels=channels, fitted=fitted), constants)

    def rehearse(self, pipeline: AsCANImageClassificationPipeline, samples: range) -> np.ndarray:
        """Logits [n, classes] of drawings; a reader of grey digits sees printed ones instead, five of six times."""
        digits = pipeline.model.config.in_channels == 1
        size = pipeline.config.image_size
        pictures = [
            read_digit(_printed_digit(sample)) if digits and sample % 6 else drawing(sample, size) for sample in samples
        ]
        return pipeline(pictures).logits.numpy()


class DetectionExport(RecognitionExport):
    """Pictures to dense maps."""

    slug = "ascan"
    kind, network, wrapper = AsCANDetectionPipeline, "detector", Detector
    purpose = "says of each place what is there"
    settings = ("id2label", "id2color", "image_size")

    def contract(self, pipeline: AsCANDetectionPipeline) -> PipelineContract:
        size, model = pipeline.config.image_size, pipeline.model
        meanings = {
            "shape": "logits: no object, then each class",
            "color": "logits of each colour",
            "center": "logit of being the middle of an object",
            "offset": f"(dy, dx) to the middle of the object, in {OFFSET_UNIT:g} pixels",
        }
        side, channels = size // model.dense_stride, model.config.dense_outputs
        outputs = tuple(
            TensorSpec(name, ("batch", channels[name], side, side), "float32", None, None, meanings[name])
            for name in OUTPUTS
        )
        loop = DETECTION.format(size=size, least=MIN_SCORE, unit=OFFSET_UNIT, strong=STRONG_PEAK, certain=CERTAIN_PEAK)
        constants = {
            "labels": dict(pipeline.config.id2label),
            "colors": dict(pipeline.config.id2color),
            "offset_unit": OFFSET_UNIT,
            "least_score": MIN_SCORE,
            "strong_peak": STRONG_PEAK,
        }
        return self.one_network(pipeline, outputs, loop, constants)

    def rehearse(self, pipeline: AsCANDetectionPipeline, samples: range) -> np.ndarray:
        """Dense maps of drawings, one row [values] a drawing."""
        pictures = [drawing(sample, pipeline.config.image_size) for sample in samples]
        maps = pipeline.dense_maps(pictures).values()
        return torch.cat([value.flatten(1) for value in maps], dim=1).numpy()


EXPORTS: dict[type[DiffusionPipeline], Export] = {
    AsCANPipeline: LatentExport("ascan", AsCANPipeline, ClassConditions()),
    AsCANImageClassificationPipeline: ClassificationExport(),
    AsCANDetectionPipeline: DetectionExport(),
}


def _printed_digit(sample: int) -> Image.Image:
    """A digit in print, leaning by up to 20 degrees to either side, dark on light."""
    picture = Image.new("L", (96, 96), 255)
    ImageDraw.Draw(picture).text((48, 48), str(sample % 10), fill=0, font_size=64, anchor="mm")
    return picture.rotate(4 * (sample // 10 % 11 - 5), fillcolor=255)
