"""Colours of detected objects by a CLIP model, zero-shot, as GenEval reads them.

Source: `ImageCrops` and `color_classification` of djghosh13/geneval, evaluation/evaluate_images.py at af4902f, with
`zero_shot_classifier` of CLIP_benchmark.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...pipelines.outputs import Detections, MaskRLE
from ...pipelines.recognition.picture_input import rgb_picture
from ..instruments.clip import ClipPictures
from .classes import GENEVAL_COLORS
from .rules import GenEvalSettings

TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")


class ClipColorReader:
    """Names the colour of each object: its pixels on grey, cut to its box, by the nearest of ten captions.

    Args:
        model: folder, checkpoint or Hub id of a `transformers.CLIPModel`; GenEval's is OpenAI's ViT-L/14, such as
            openai/clip-vit-large-patch14 with its QuickGELU.
        colors: names to choose from, at least 1.
        background: colour around the object, or "original" for the picture itself.
        crop: whether the picture is cut to the box.
    """

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-large-patch14",
        colors: Sequence[str] = GENEVAL_COLORS,
        background: str = "#999",
        crop: bool = True,
    ):
        if not colors:
            raise ValueError("colors is empty; give at least one name.")
        self.colors, self.background, self.crop = tuple(colors), background, crop
        self.weights = str(model)
        self._clip = ClipPictures(model, batch_size=16)
        self._classifiers: dict[str, Tensor] = {}

    def read(
        self,
        picture: Image.Image,
        detections: Detections,
        labels: Collection[str] | None = None,
        min_score: float = GenEvalSettings.threshold,
    ) -> Detections:
        """The detections with colours; None for objects that were not looked at or have no pixels.

        Args:
            picture: in which they were found.
            detections: with masks, or without, then the whole box is the object.
            labels: classes to look at; all by default.
            min_score: objects below are not looked at, within [0, 1].

        Raises:
            ValueError: masks are of another size than the picture.
        """
        by_label = defaultdict(list)
        for index, (label, score) in enumerate(zip(detections.labels, detections.scores, strict=True)):
            if score >= min_score and (labels is None or label in labels):
                by_label[label].append(index)
        read: list[str | None] = [None] * len(detections)
        for label, indices in by_label.items():
            cuts = {index: self._cut(picture, detections, index) for index in indices}
            shown = {index: cut for index, cut in cuts.items() if min(cut.size) > 0}
            if shown:
                nearest = self.scores(list(shown.values()), label).argmax(dim=1).tolist()
                for index, choice in zip(shown, nearest, strict=True):
                    read[index] = self.colors[choice]
        return replace(detections, colors=tuple(read))

    def scores(self, cuts: Sequence[Image.Image], label: str) -> Float[Tensor, "count colors"]:
        """Cosine of each cut with the averaged captions of each colour."""
        if label not in self._classifiers:
            self._classifiers[label] = self._classifier(label)
        return F.normalize(self._clip.encode_pictures(cuts), dim=1) @ self._classifiers[label].T

    def _classifier(self, label: str) -> Float[Tensor, "colors dim"]:
        """Unit vectors of the templates, averaged, and made unit vectors again."""
        texts = [template.format(color=color, label=label) for color in self.colors for template in TEMPLATES]
        vectors = self._clip.encode_texts(texts).unflatten(0, (len(self.colors), len(TEMPLATES)))
        return F.normalize(vectors.mean(dim=1), dim=1)

    def _cut(self, picture: Image.Image, detections: Detections, index: int) -> Image.Image:
        picture = rgb_picture(picture)
        if detections.masks is not None:
            picture = self._cover(picture, detections.masks[index])
        return picture.crop(detections.boxes[index]) if self.crop else picture

    def _cover(self, picture: Image.Image, mask: MaskRLE) -> Image.Image:
        if (mask.width, mask.height) != picture.size:
            raise ValueError(
                f"masks are {mask.width} x {mask.height} pixels, but the picture is {picture.width} x {picture.height}."
            )
        if self.background == "original":
            return picture
        blank = Image.new("RGB", picture.size, self.background)
        return Image.composite(picture, blank, Image.fromarray(mask.decode()))
