"""Learning classes: cross-entropy with label smoothing on mixed, moved pictures."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...hub_models.transformer_ascan import AsCANModel
from ..datasets.labelled_images import LabelledImages
from .adamw import adamw
from .mixing import mix


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings:
    """How classes are learned.

    Attributes:
        learning_rate, weight_decay: of AdamW.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).
        mixup, cutmix: see `training.objectives.mixing.mix`.
        turn, zoom, shift: largest rotation in degrees, change of scale, and shift in shares of the side.
        mirror: pictures are mirrored at random.
    """

    learning_rate: float
    weight_decay: float
    label_smoothing: float
    mixup: float
    cutmix: float
    turn: float
    zoom: float
    shift: float
    mirror: bool


class Classification:
    """An objective (see `pipelines.fitting.loop.Objective`): name the class of a picture.

    Batches are indices into `data`, or (pictures, labels) where `data` is None.
    """

    def __init__(self, model: AsCANModel, settings: ClassificationSettings, data: LabelledImages | None = None):
        self.parts: dict[str, nn.Module] = {"model": model}
        self.classes = model.config.num_classes
        self.settings, self.data = settings, data

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.settings.learning_rate, self.settings.weight_decay)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        given, device = self.settings, next(self.parts[part].parameters()).device
        pictures, labels = batch if self.data is None else (self.data.pictures[batch], self.data.labels[batch])
        pictures = moved_about(pictures.cpu(), generator, given.turn, given.zoom, given.shift, given.mirror)
        pictures, shares = mix(pictures, labels.cpu(), self.classes, generator, given.mixup, given.cutmix)
        pictures = pictures.to(device).contiguous(memory_format=torch.channels_last)
        logits = self.parts[part](pictures).logits.float()
        loss = F.cross_entropy(logits, shares.to(device), label_smoothing=given.label_smoothing)
        right = (logits.argmax(1).cpu() == shares.argmax(1)).float().mean()
        return loss, {"accuracy": float(right)}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None


def moved_about(
    pictures: Float[Tensor, "batch channels height width"],
    generator: torch.Generator,
    turn: float,
    zoom: float,
    shift: float,
    mirror: bool,
) -> Float[Tensor, "batch channels height width"]:
    """Each picture turned, scaled, shifted and mirrored at random about its centre; the border is repeated outwards.

    Args:
        turn: largest rotation, degrees.
        zoom: largest change of scale, 0.1 is 0.9 to 1.1.
        shift: largest shift along each axis, in shares of the side.
        mirror: left and right change places in half of the pictures.
    """
    if not (turn or zoom or shift or mirror):
        return pictures
    count = len(pictures)
    angle, scale, right, down, side = (2 * torch.rand(5, count, generator=generator) - 1).unbind()
    angle, scale = torch.deg2rad(turn * angle), 1 + zoom * scale
    flip = torch.where((side > 0) & mirror, -1.0, 1.0)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    matrix = torch.stack([flip * cos, -sin, 2 * shift * right, flip * sin, cos, 2 * shift * down], 1).view(count, 2, 3)
    with torch.autocast("cpu", enabled=False):
        grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def accuracy(model: AsCANModel, data: LabelledImages, batch_size: int = 256) -> float:
    """Share of pictures whose class has the highest logit."""
    model.eval()
    right = 0
    for part in torch.arange(len(data)).split(batch_size):
        right += int((model(data.pictures[part]).logits.argmax(1) == data.labels[part]).sum())
    return right / len(data)
