"""What looks at pictures for GenEval: any detector, and the full-size one of transformers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from ...pipelines.outputs import MIN_SCORE, Detections, MaskRLE
from ...pipelines.recognition.picture_input import rgb_picture
from ...training.datasets.pocketworld.descriptions import Description
from .classes import GENEVAL_CLASSES
from .colors import ClipColorReader
from .replay import SeenPicture

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Detector(Protocol):
    """Finds objects; `name` becomes part of the metric's, `weights` says which network it is."""

    name: str
    weights: str | None

    def __call__(self, pictures: Sequence[Image.Image]) -> list[Detections]: ...


def detect_pictures(
    prompted: Iterable[tuple[Mapping[str, Any], Image.Image]],
    detector: Detector,
    color_reader: ClipColorReader | None = None,
    batch_size: int = 16,
) -> list[SeenPicture]:
    """Look at pictures, each with the metadata of its prompt.

    Args:
        prompted: (metadata, picture); pictures of one batch may differ in size when the detector allows it.
        detector: finds the objects.
        color_reader: reads colours where a prompt asks for them and the detector gave none.
        batch_size: pictures that the detector gets together, at least 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    prompted = list(prompted)
    weights = " + ".join(each.weights for each in (detector, color_reader) if each is not None and each.weights)
    seen = []
    for start in range(0, len(prompted), batch_size):
        part = prompted[start : start + batch_size]
        found = detector([picture for _, picture in part])
        for (metadata, picture), detections in zip(part, found, strict=True):
            if color_reader is not None and detections.colors is None:
                detections = _with_colors(picture, detections, metadata, color_reader)
            seen.append(SeenPicture(metadata, detections, detector.name, weights or None))
    return seen


def _with_colors(
    picture: Image.Image, detections: Detections, metadata: Mapping[str, Any], color_reader: ClipColorReader
) -> Detections:
    clauses = Description.from_metadata(metadata).include
    labels = {clause.cls for clause in clauses if clause.color is not None}
    return color_reader.read(picture, detections, labels) if labels else detections


class PictureSize(NamedTuple):
    """Rows and columns of a picture as it came, as the network sees it, and with the padding."""

    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


class Mask2FormerDetector:
    """transformers' Mask2Former for COCO instances: another training of the network GenEval uses, so its scores are
    `geneval_hf`, never `geneval`.

    Pictures are scaled to 800 pixels on the short and at most 1333 on the long side, objects scored by class
    probability times mean mask probability, and boxed by their masks, as mmdet does.

    Args:
        model: folder or Hub id of a `Mask2FormerForUniversalSegmentation`.
        classes: names of its classes in its order; matched by number, since its own names differ from GenEval's.
        device: where it runs, in float32 without TF32 and with deterministic kernels.
        short_side, long_side: pixels of the network's input; multiples of 32 need no padding.

    Raises:
        ValueError: another number of classes, or sides that are not 1 <= short_side <= long_side.
        ImportError: scipy is missing, which the network of transformers needs.
    """

    name = "hf"

    def __init__(
        self,
        model: str | Path = "facebook/mask2former-swin-small-coco-instance",
        classes: Sequence[str] = GENEVAL_CLASSES,
        device: str | torch.device = "cpu",
        short_side: int = 800,
        long_side: int = 1333,
    ):
        from transformers import Mask2FormerForUniversalSegmentation

        if not 1 <= short_side <= long_side:
            raise ValueError(f"sides are {short_side} and {long_side}; needed is 1 <= short_side <= long_side.")
        self.weights, self.classes, self.sides = str(model), tuple(classes), (short_side, long_side)
        network = Mask2FormerForUniversalSegmentation.from_pretrained(model, dtype=torch.float32, use_safetensors=True)
        if network.config.num_labels != len(self.classes):
            raise ValueError(
                f"model {self.weights} knows {network.config.num_labels} classes, but {len(self.classes)} are named."
            )
        self.network = network.to(device).eval()

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        """What is in each picture, best first, from `MIN_SCORE` up, with masks of the picture's size."""
        return [self._look(rgb_picture(picture)) for picture in pictures]

    def _look(self, picture: Image.Image) -> Detections:
        size = self._size_of(picture)
        pixels = self._pixels(picture, size)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            output = self.network(pixel_values=pixels.to(self.network.device))
        logits = output.class_queries_logits[0].float().cpu()  # [queries, classes + 1]
        return self._detections(logits, _full_size(output.masks_queries_logits.float().cpu(), size))

    def _size_of(self, picture: Image.Image) -> PictureSize:
        height, width = picture.height, picture.width
        short, long = self.sides
        scale = min(short / min(height, width), long / max(height, width))
        resized = tuple(max(1, int(length * scale + 0.5)) for length in (height, width))
        return PictureSize((height, width), resized, tuple(-(-length // 32) * 32 for length in resized))

    def _pixels(self, picture: Image.Image, size: PictureSize) -> Float[Tensor, "1 3 height width"]:
        picture = picture.resize(size.resized[::-1], Image.Resampling.BILINEAR)
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*size.resized, 3)
        pixels = (pixels / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        (height, width), (full_height, full_width) = size.resized, size.padded
        return F.pad(pixels.permute(2, 0, 1), (0, full_width - width, 0, full_height - height))[None]

    def _detections(
        self, logits: Float[Tensor, "queries labels"], masks: Float[Tensor, "queries height width"]
    ) -> Detections:
        """Every (query, class) is a candidate; as many as there are queries are kept."""
        classes = len(self.classes)
        scores, order = logits.softmax(dim=1)[:, :classes].flatten().topk(len(logits))
        found = []
        for score, index in zip(scores.tolist(), order.tolist(), strict=True):
            mask = masks[index // classes]
            score *= mask_score(mask)
            if score >= MIN_SCORE:
                found.append((min(score, 1.0), self.classes[index % classes], mask > 0))
        found.sort(key=lambda each: -each[0])
        return Detections(
            tuple(label for _, label, _ in found),
            tuple(score for score, _, _ in found),
            tuple(box_of_mask(mask) for _, _, mask in found),
            tuple(MaskRLE.encode(mask) for _, _, mask in found),
        )


def mask_score(logits: Float[Tensor, "height width"]) -> float:
    """Mean probability of the pixels that are set, in [0.5, 1]; 0 for an empty mask."""
    inside = logits > 0
    return logits.sigmoid()[inside].double().mean().item() if inside.any() else 0.0


def box_of_mask(mask: Bool[Tensor, "height width"]) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) around the pixels that are set, at least one; x1 and y1 are one past the last."""
    rows, columns = (mask.any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _full_size(masks: Float[Tensor, "1 queries h w"], size: PictureSize) -> Float[Tensor, "queries height width"]:
    """Mask logits at the picture's own size: scaled to the padded input, freed of the padding, scaled back."""
    masks = F.interpolate(masks, size.padded, mode="bilinear", align_corners=False)
    masks = masks[..., : size.resized[0], : size.resized[1]]
    return F.interpolate(masks, size.original, mode="bilinear", align_corners=False)[0]
