"""Sample pictures of weights that look at pictures: test data with what the weights say of it."""

from collections.abc import Iterator
from typing import Any

from diffusers import DiffusionPipeline
from PIL import Image

SOURCES = ("pocketworld", "digits")
DIGIT_SIDE = 256


def recognize(
    pipeline: DiffusionPipeline, pictures: str, count: int, **arguments: Any
) -> Iterator[tuple[Image.Image, str]]:
    """The first test pictures of a source, each with a caption.

    Args:
        pipeline: of detection for "pocketworld", of classification for "digits".
        pictures: one of `SOURCES`.
        count: how many.
        arguments: further ones of the pipeline, such as `threshold`.

    Yields:
        "pocketworld": the picture with boxes, masks and names drawn, and PocketWorld's own caption; "digits": the
        picture, and the likeliest digit with its probability and the true one.

    Raises:
        ValueError: for an argument that the pipeline refuses.
        ModuleNotFoundError: scikit-learn is missing, which brings the digits (extra eval).
    """
    yield from {"pocketworld": _objects, "digits": _digits}[pictures](pipeline, count, **arguments)


def _objects(pipeline: Any, count: int, **arguments: Any) -> Iterator[tuple[Image.Image, str]]:
    from ..pipelines.recognition.detection_overlay import draw_detections
    from ..training.datasets.pocketworld.records import pictures

    records = list(pictures("test", pipeline.config.image_size, range(count)))
    images = [Image.fromarray(record.rgb) for record in records]
    for image, record, found in zip(images, records, pipeline(images, **arguments).detections, strict=True):
        yield draw_detections(image, found), record.caption


def _digits(pipeline: Any, count: int, **arguments: Any) -> Iterator[tuple[Image.Image, str]]:
    from ..training.datasets.digits import load_digits

    data = load_digits("test")
    pictures = data.pictures[:count] / 2 + 0.5
    output = pipeline(pictures, top_k=1, **arguments)
    for picture, truth, labels, scores in zip(
        pictures, data.labels.tolist(), output.labels, output.scores, strict=False
    ):
        grey = Image.fromarray((255 * picture[0]).round().byte().numpy())
        caption = f"{labels[0]} ({scores[0]:.0%}), truly {data.names[truth]}"
        yield grey.resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC), caption
