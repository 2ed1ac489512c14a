"""Learning one space for motions and texts, in which each text finds its motion by distance."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .adamw import adamw


@dataclass(frozen=True)
class CaptionedMotions:
    """Motions with what is said of them, padded to one size.

    Attributes:
        features: normalised features of frames.
        lengths: frames of each clip.
        words: numbers of the words of each caption.
        word_counts: of each caption.
        groups: number of what each caption says; captions of one group are right for each other's motions.
    """

    features: Float[Tensor, "clips frames features"]
    lengths: Int[Tensor, " clips"]
    words: Int[Tensor, "clips words"]
    word_counts: Int[Tensor, " clips"]
    groups: Int[Tensor, " clips"]

    def __len__(self) -> int:
        return len(self.features)


def matching_loss(logits: Float[Tensor, "batch batch"], groups: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """CLIP's symmetric cross-entropy (arXiv 2103.00020, figure 3), where items of one group are all right answers.

    Args:
        logits: how well row i of one kind fits row j of the other; pairs stand on the diagonal.
        groups: number of what each pair is about.
    """
    same = (groups[:, None] == groups[None]).to(logits.dtype)
    target = same / same.sum(dim=1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


class Matching:
    """An objective (see `pipelines.fitting.loop.Objective`): texts find their motions; batches are indices.

    Logits are negative Euclidean distances, which R-precision ranks and the matching score averages; a temperature is
    not needed, as embeddings have no fixed length. Guo et al. compare each text with its own motion and with one other,
    by a loss with a margin, and take the movement encoder of a motion autoencoder, frozen; this compares each text with
    all motions of a batch, and learns all three networks.

    Args:
        evaluator: called with features, lengths, words and word counts; its output has `motion` and `text`.
        data: what it learns from.
        learning_rate: peak.
        weight_decay: of AdamW.
    """

    def __init__(self, evaluator: nn.Module, data: CaptionedMotions, learning_rate: float, weight_decay: float = 0.01):
        self.parts: dict[str, nn.Module] = {"evaluator": evaluator}
        self.data, self.learning_rate, self.weight_decay = data, learning_rate, weight_decay

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return adamw(self.parts[part], self.learning_rate, self.weight_decay)

    def loss(
        self, part: str, batch: Int[Tensor, " batch"], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        data, device, batch = self.data, batch.device, batch.cpu()
        given = (data.features, data.lengths, data.words, data.word_counts, data.groups)
        features, lengths, words, word_counts, groups = (values[batch].to(device) for values in given)
        said = self.parts[part](features, lengths, words, word_counts)
        distances = torch.cdist(
            said.text.float(), said.motion.float(), compute_mode="donot_use_mm_for_euclid_dist"
        )  # [texts, motions]
        found = groups[distances.argmin(dim=1)] == groups
        metrics = {"found": found.float().mean().item(), "distance": distances.diagonal().mean().item()}
        return matching_loss(-distances, groups), metrics

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None
