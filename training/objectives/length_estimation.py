"""Learning how long a motion is, from what is said of it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adamw import adamw


class LengthEstimation:
    """An objective (see `pipelines.fitting.loop.Objective`): an embedding's number of tokens, as one of classes.

    Args:
        estimator: what learns; logits of classes of an embedding.
        told: makes embeddings [batch, width] and numbers of tokens [batch] of a batch.
        learning_rate: of AdamW.
    """

    def __init__(
        self,
        estimator: nn.Module,
        told: Callable[[Any, torch.Generator], tuple[Tensor, Tensor]],
        learning_rate: float,
    ) -> None:
        self.parts: dict[str, nn.Module] = {"estimator": estimator}
        self.told, self.learning_rate = told, learning_rate

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, weight_decay=0.05)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        estimator = self.parts[part]
        text, tokens = (x.to(next(estimator.parameters()).device) for x in self.told(batch, generator))
        logits = estimator(text).float()
        away = (logits.argmax(-1) - tokens).abs().float().mean()
        return F.cross_entropy(logits, tokens), {"tokens_off": away.item()}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None
