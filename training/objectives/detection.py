"""Learning to see objects: class, colour, centre and offset of every pixel, from pictures clean and spoilt."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...pipelines.recognition.instance_decoding import OFFSET_UNIT
from ..datasets.instance_images import DenseTargets, InstanceImages
from ..datasets.pocketworld.scene import COLORS, SHAPES
from .adamw import adamw
from .degradation import degrade

DETECTION_OUTPUTS = {"shape": 1 + len(SHAPES), "color": len(COLORS), "center": 1, "offset": 2}
CENTER_WEIGHT, OFFSET_WEIGHT, COLOR_WEIGHT = 4.0, 0.5, 0.5


class DetectionObjective:
    """An objective (see `pipelines.fitting.loop.Objective`): a dense head that tells objects apart.

    Class by cross-entropy, colour by cross-entropy on objects, the centres' heat map by cross-entropy with soft
    targets, offsets by their absolute error on objects (Panoptic-DeepLab, arXiv 1911.10194, section 3, with another
    centre loss).

    Args:
        model: with `DETECTION_OUTPUTS`.
        data: pictures and what they show.
        learning_rate, weight_decay: of AdamW.
        spoilt: share of pictures that are degraded.
    """

    def __init__(
        self, model: nn.Module, data: InstanceImages, learning_rate: float, weight_decay: float, spoilt: float
    ):
        self.parts: dict[str, nn.Module] = {"model": model}
        self.data, self.learning_rate, self.weight_decay, self.spoilt = data, learning_rate, weight_decay, spoilt

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, self.weight_decay)

    def loss(
        self, part: str, batch: Int[Tensor, " batch"], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        pictures, instances = self.data.images(batch), self.data.instances[batch]
        mirrored = torch.rand(len(batch), generator=generator) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
        instances = torch.where(mirrored[:, None, None], instances.flip(-1), instances)
        targets = InstanceImages(pictures, instances, self.data.shapes[batch], self.data.colors[batch]).targets(
            torch.arange(len(batch))
        )
        some = torch.rand(len(batch), generator=generator) < self.spoilt
        if some.any():
            pictures[some] = degrade(pictures[some], generator)
        device = next(self.parts[part].parameters()).device
        pixels = (2 * pictures - 1).to(device).contiguous(memory_format=torch.channels_last)
        dense = self.parts[part](pixels).dense
        losses = detection_losses(dense, moved(targets, device))
        return sum(losses.values()), {name: float(value.detach()) for name, value in losses.items()}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None


def moved(targets: DenseTargets, device: torch.device) -> DenseTargets:
    return DenseTargets(*(getattr(targets, name).to(device) for name in DenseTargets.__dataclass_fields__))


def detection_losses(dense: dict[str, Float[Tensor, "batch _ h w"]], targets: DenseTargets) -> dict[str, Tensor]:
    """The four losses, each a mean over pixels, weighted; predictions are interpolated to the targets' resolution."""
    size = targets.shape.shape[1:]
    full = {
        name: F.interpolate(value.float(), size, mode="bilinear", align_corners=False) for name, value in dense.items()
    }
    foreground = targets.foreground
    on_objects = foreground / foreground.sum().clamp_min(1)
    color = F.cross_entropy(full["color"], targets.color, reduction="none")
    offset = (full["offset"] - targets.offset / OFFSET_UNIT).abs().mean(1)
    return {
        "shape": F.cross_entropy(full["shape"], targets.shape),
        "color": COLOR_WEIGHT * (color * on_objects).sum(),
        "center": CENTER_WEIGHT * F.binary_cross_entropy_with_logits(full["center"][:, 0], targets.center),
        "offset": OFFSET_WEIGHT * (offset * on_objects).sum(),
    }
