"""Learning what words say of motion: a text tower and a motion tower that meet, as CLIP's do (arXiv 2103.00020)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .adamw import adamw


class MotionTower(nn.Module):
    """Motion as one vector: halvings of time by convolutions, then the mean over what is no padding.

    Args:
        features: numbers of a frame.
        width: channels.
        projection: of the vector.
    """

    def __init__(self, features: int, width: int, projection: int) -> None:
        super().__init__()
        sizes = (features, width, width, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, 4, 2, 1) for a, b in zip(sizes, sizes[1:], strict=False)
        )
        self.out = nn.Linear(width, projection)

    def forward(self, motion: Float[Tensor, "batch frames features"], lengths: Tensor) -> Float[Tensor, "batch width"]:
        """Of normalised motion, 0 behind the end of each clip; lengths in frames."""
        x = motion.transpose(1, 2)
        for layer in self.layers:
            x = F.gelu(layer(x))
        inside = torch.arange(x.shape[2], device=x.device) < (lengths[:, None] / 2 ** len(self.layers)).ceil()
        mean = (x * inside[:, None]).sum(2) / inside.sum(1, keepdim=True)
        return self.out(mean)


class TextMotionTowers(nn.Module):
    """Both towers and their temperature.

    Args:
        text: `transformers.CLIPTextModelWithProjection`.
        motion: a `MotionTower`.
    """

    def __init__(self, text: nn.Module, motion: MotionTower) -> None:
        super().__init__()
        self.text, self.motion = text, motion
        self.logit_scale = nn.Parameter(torch.tensor(2.66))  # of CLIP, log(1 / 0.07)

    def forward(self, ids: Tensor, motion: Tensor, lengths: Tensor) -> Float[Tensor, "batch batch"]:
        """Logits of each motion (row) for each text."""
        texts = F.normalize(self.text(ids).text_embeds, dim=-1)
        return F.normalize(self.motion(motion, lengths), dim=-1) @ texts.T * self.logit_scale.clamp(max=4.6).exp()


class TextMotion:
    """An objective (see `pipelines.fitting.loop.Objective`): each motion finds its text and each text its motion.

    Texts that are the same word for word count as one.

    Args:
        towers: what learns.
        paired: makes token ids [batch, tokens], normalised motion [batch, frames, 263] and lengths of a batch.
        learning_rate: of AdamW.
    """

    def __init__(
        self,
        towers: TextMotionTowers,
        paired: Callable[[Any, torch.Generator], tuple[Tensor, Tensor, Tensor]],
        learning_rate: float,
    ) -> None:
        self.parts: dict[str, nn.Module] = {"towers": towers}
        self.paired, self.learning_rate = paired, learning_rate

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, weight_decay=0.05)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        ids, motion, lengths = self.paired(batch, generator)
        logits = self.parts[part](ids, motion, lengths).float()
        same = (ids[:, None] == ids[None]).all(-1).float()
        wanted = same / same.sum(1, keepdim=True)  # symmetric up to its rows' sums, and equal texts have equal sums
        right = same.gather(1, logits.argmax(1, keepdim=True)).mean()
        return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2, {"right": right.item()}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None
