"""Learning to keep motion in codes: what the tokenizer of MoMask (arXiv 2312.00063) is trained by."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pipelines.motion.motion_features import PLACES

PLACES_WEIGHT, COMMITMENT_WEIGHT = 0.5, 0.02
BETAS = (0.9, 0.99)


class MotionReconstruction:
    """An objective (see `pipelines.fitting.loop.Objective`): windows of motion come out of the codes as they went in.

    Args:
        autoencoder: what learns.
        windows: normalised motion [batch, frames, 263] of a batch.
        learning_rate: of AdamW, without decay.
    """

    def __init__(
        self, autoencoder: nn.Module, windows: Callable[[Any, torch.Generator], Tensor], learning_rate: float
    ) -> None:
        self.parts: dict[str, nn.Module] = {"autoencoder": autoencoder}
        self.windows, self.learning_rate = windows, learning_rate

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parts[part].parameters(), self.learning_rate, BETAS, weight_decay=0.0)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        autoencoder = self.parts[part]
        motion = self.windows(batch, generator).to(next(autoencoder.parameters()).device)
        made, ids, commitment = autoencoder(motion, generator, return_dict=False)
        whole = F.smooth_l1_loss(made.float(), motion)
        places = F.smooth_l1_loss(made.float()[..., PLACES], motion[..., PLACES])
        used = ids[..., 0].unique().numel()
        logged = {"features": whole.item(), "places": places.item(), "commitment": commitment.item(), "codes": used}
        return whole + PLACES_WEIGHT * places + COMMITMENT_WEIGHT * commitment, logged

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None
