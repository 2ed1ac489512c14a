"""Objects in pictures with AsCAN's backbone (arXiv 2411.04967): classes, colours, boxes and masks."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from ..hub_models.transformer_ascan import AsCANModel
from .inputs import check_number, check_side
from .outputs import MIN_SCORE, DetectionOutput, Detections
from .recognition.class_names import checked_names, stored_names
from .recognition.instance_decoding import decode_instances
from .recognition.picture_input import PictureInput, Region, fit_picture, picture_tensors
from .recognition.recognizer import RecognizerMixin
from .repository import RepositoryMixin

OUTPUTS = ("shape", "color", "center", "offset")


class AsCANDetectionPipeline(RepositoryMixin, RecognizerMixin, DiffusionPipeline):
    """Finds objects in pictures of any size: class, colour, box and mask of each.

    Args:
        model: with the dense outputs "shape" (no object, then each class), "color", "center" (1 channel) and "offset"
            (2 channels), in evaluation mode.
        id2label: names of the classes, number -> name; None names each class by its number.
        id2color: names of the colours, likewise.
        image_size: side of the square that the model sees, in pixels; None is the model's. Pictures are padded.

    Raises:
        ValueError: for a model without those outputs, or settings that do not fit it.
    """

    model_cpu_offload_seq = "model"

    def __init__(
        self,
        model: AsCANModel,
        id2label: dict[str, str] | dict[int, str] | None = None,
        id2color: dict[str, str] | dict[int, str] | None = None,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(model=model)
        channels = _channels(model)
        self.labels = checked_names(id2label, channels["shape"] - 1)
        """Name of each class, by its number."""
        self.colors = checked_names(id2color, channels["color"], "id2color")
        """Name of each colour, by its number."""
        self.register_to_config(
            id2label=stored_names(self.labels),
            id2color=stored_names(self.colors),
            image_size=check_side("image_size", image_size or model.config.image_size, model.size_multiple),
        )

    @torch.no_grad()
    def __call__(
        self,
        images: PictureInput | Sequence[PictureInput],
        threshold: float = 0.3,
        return_dict: bool = True,
        batch_size: int = 32,
    ) -> DetectionOutput | tuple[list[Detections]]:
        """Finds objects in pictures.

        Args:
            images: one picture or several, of any kind and size; see `picture_tensors`.
            threshold: lowest score of an object, from `MIN_SCORE` to 1.
            return_dict: False returns a tuple of the detections alone.
            batch_size: pictures that the model sees at once; it does not change the result.

        Returns:
            `DetectionOutput`, or `(detections,)`: objects of each picture, best first, in the picture's own pixels.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
            FileNotFoundError: for a path where no file is.
        """
        check_number("threshold", threshold, low=MIN_SCORE, high=1)
        detections = [found.above(threshold) for found in self.detect(images, batch_size)]
        return DetectionOutput(detections=detections) if return_dict else (detections,)

    @torch.no_grad()
    def detect(self, images: PictureInput | Sequence[PictureInput], batch_size: int = 32) -> list[Detections]:
        """Every object from `MIN_SCORE` up, picture by picture: what metrics take as a detector.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
            FileNotFoundError: for a path where no file is.
        """
        self.check_inputs(batch_size)
        pictures = picture_tensors(images, self.model.config.in_channels)
        size, found = (self.config.image_size,) * 2, []
        with self.progress_bar(total=len(pictures)) as bar:
            for part, dense, regions in self._batches(pictures, batch_size):
                sizes = [tuple(picture.shape[1:]) for picture in part]
                found += decode_instances(dense, size, self.labels, self.colors, sizes, regions)
                bar.update(len(part))
        self.maybe_free_model_hooks()
        return found

    @torch.no_grad()
    def dense_maps(
        self, images: PictureInput | Sequence[PictureInput], batch_size: int = 32
    ) -> dict[str, Float[Tensor, "batch _ h w"]]:
        """What the model predicts at each place of the padded pictures, before objects are read out of it.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
            FileNotFoundError: for a path where no file is.
        """
        self.check_inputs(batch_size)
        pictures = picture_tensors(images, self.model.config.in_channels)
        parts = [dense for _, dense, _ in self._batches(pictures, batch_size)]
        self.maybe_free_model_hooks()
        return {name: torch.cat([dense[name] for dense in parts]) for name in OUTPUTS}

    def _batches(
        self, pictures: list[Tensor], batch_size: int
    ) -> Iterator[tuple[list[Tensor], dict[str, Tensor], list[Region]]]:
        for start in range(0, len(pictures), batch_size):
            part = pictures[start : start + batch_size]
            fitted, regions = zip(*(fit_picture(picture, self.config.image_size) for picture in part), strict=True)
            batch = 2 * torch.stack([picture.cpu() for picture in fitted]) - 1
            dense = self.model(batch.to(self._execution_device, self.model.dtype)).dense
            yield part, {name: dense[name].float().cpu() for name in OUTPUTS}, list(regions)


def _channels(model: AsCANModel) -> dict[str, Any]:
    """Channels of the dense outputs, checked."""
    found = dict(model.config.dense_outputs or {})
    wrong = [name for name, wanted in {"center": 1, "offset": 2}.items() if found.get(name) != wanted]
    wrong += [name for name, least in {"shape": 2, "color": 1}.items() if found.get(name, 0) < least]
    if wrong:
        raise ValueError(
            "the model's dense_outputs must be shape (1 + classes), color (colours), center (1) and offset (2), not "
            f"{found}."
        )
    if model.config.in_channels != 3:
        raise ValueError(f"the model takes {model.config.in_channels} channels, but colours need 3.")
    return found
