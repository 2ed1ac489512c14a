"""Classes of pictures with AsCAN's backbone (arXiv 2411.04967)."""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from ..hub_models.transformer_ascan import AsCANModel
from .inputs import check_choice, check_count, check_side
from .outputs import ImageClassificationOutput
from .recognition.class_names import checked_names, stored_names
from .recognition.picture_input import PictureInput, ResizeMode, fit_picture, picture_tensors
from .recognition.recognizer import RecognizerMixin
from .repository import RepositoryMixin


class AsCANImageClassificationPipeline(RepositoryMixin, RecognizerMixin, DiffusionPipeline):
    """Names the classes of pictures of any size; grey ones, where the model takes one channel.

    Args:
        model: with a classifier, in evaluation mode.
        id2label: names of the classes, number -> name; None names each class by its number.
        image_size: side of the square that the model sees, in pixels; None is the model's.
        resize_mode: how pictures become square: "stretch", or "pad" with the pixels at the edge.

    Raises:
        ValueError: for a model without a classifier, or settings that do not fit it.
    """

    model_cpu_offload_seq = "model"

    def __init__(
        self,
        model: AsCANModel,
        id2label: dict[str, str] | dict[int, str] | None = None,
        image_size: int | None = None,
        resize_mode: str = "stretch",
    ) -> None:
        super().__init__()
        self.register_modules(model=model)
        config = model.config
        if not config.num_classes:
            raise ValueError("the model has no classifier: num_classes is None.")
        if config.in_channels not in (1, 3):
            raise ValueError(f"the model takes {config.in_channels} channels, but pictures have 1 or 3.")
        self.labels = checked_names(id2label, config.num_classes)
        """Name of each class, by its number."""
        self.register_to_config(
            id2label=stored_names(self.labels),
            image_size=check_side("image_size", image_size or config.image_size, model.size_multiple),
            resize_mode=check_choice("resize_mode", resize_mode, get_args(ResizeMode)),
        )

    @torch.no_grad()
    def __call__(
        self,
        images: PictureInput | Sequence[PictureInput],
        top_k: int = 5,
        return_dict: bool = True,
        batch_size: int = 32,
    ) -> ImageClassificationOutput | tuple[Any, ...]:
        """Names the likeliest classes of pictures.

        Args:
            images: one picture or several, of any kind and size; see `picture_tensors`.
            top_k: classes for each picture, best first; all where the model has fewer.
            return_dict: False returns a tuple (labels, scores, logits).
            batch_size: pictures that the model sees at once; it does not change the result.

        Returns:
            `ImageClassificationOutput`, or the tuple.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
            FileNotFoundError: for a path where no file is.
        """
        check_count("top_k", top_k)
        self.check_inputs(batch_size)
        pictures = picture_tensors(images, self.model.config.in_channels)
        logits = []
        with self.progress_bar(total=len(pictures)) as bar:
            for start in range(0, len(pictures), batch_size):
                logits.append(self._logits(pictures[start : start + batch_size]))
                bar.update(len(logits[-1]))
        logits = torch.cat(logits)
        best = logits.softmax(1).topk(min(top_k, len(self.labels)), dim=1)
        labels = [tuple(self.labels[number] for number in row) for row in best.indices.tolist()]
        scores = [tuple(row) for row in best.values.tolist()]
        self.maybe_free_model_hooks()
        if not return_dict:
            return labels, scores, logits
        return ImageClassificationOutput(labels=labels, scores=scores, logits=logits)

    def _logits(self, pictures: list[Tensor]) -> Float[Tensor, "batch classes"]:
        size, mode = self.config.image_size, self.config.resize_mode
        batch = torch.stack([fit_picture(picture, size, mode)[0].cpu() for picture in pictures])
        return self.model((2 * batch - 1).to(self._execution_device, self.model.dtype)).logits.float().cpu()
