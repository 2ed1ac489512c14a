"""Learning what each pixel shows: a semantic head by cross-entropy, as on ADE20K."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..datasets.rows import UNKNOWN
from .adamw import adamw

OUTPUT = "semantic"

Pictures = Float[Tensor, "batch 3 height width"]
Labels = Int[Tensor, "batch height width"]


class Segmentation:
    """An objective (see `pipelines.fitting.loop.Objective`): name the class of each pixel.

    Args:
        model: with a dense output `semantic`.
        read: makes (pictures in [-1, 1], labels) of a batch; labels of `UNKNOWN` are left out.
        learning_rate, weight_decay: of AdamW.
    """

    def __init__(
        self,
        model: nn.Module,
        read: Callable[[Any], tuple[Pictures, Labels]],
        learning_rate: float,
        weight_decay: float,
    ):
        self.parts: dict[str, nn.Module] = {"model": model}
        self.read, self.learning_rate, self.weight_decay = read, learning_rate, weight_decay

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, self.weight_decay)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pictures, labels = self.read(batch)
        mirrored = torch.rand(len(labels), generator=generator) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
        labels = torch.where(mirrored[:, None, None], labels.flip(-1), labels)
        device = next(self.parts[part].parameters()).device
        logits = semantic_logits(self.parts[part], pictures.to(device))
        labels = labels.to(device)
        counted = labels != UNKNOWN
        loss = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum") / counted.sum().clamp_min(1)
        right = (logits.argmax(1) == labels)[counted].float().mean()
        return loss, {"pixel_accuracy": float(right)}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None


def semantic_logits(model: nn.Module, pictures: Pictures) -> Float[Tensor, "batch classes height width"]:
    """Logits of each pixel's class, interpolated to the pictures' size."""
    dense = model(pictures.contiguous(memory_format=torch.channels_last)).dense[OUTPUT]
    return F.interpolate(dense.float(), pictures.shape[2:], mode="bilinear", align_corners=False)
