"""Learning to find codes that are hidden: the first layer (masked), and those that refine it (residual) (MoMask)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...pipelines.sampling.masked_decoding import least_certain

BETAS, WEIGHT_DECAY = (0.9, 0.99), 1e-5
WRONG, MASKED = 0.1, 0.88  # share of hidden tokens that become others; and of the rest, that become the mask


@dataclass(frozen=True)
class CodedMotion:
    """One batch.

    Attributes:
        ids: codes of all layers [batch, tokens, layers]; -1 at padding.
        padding: True at tokens behind the end [batch, tokens].
        text: embeddings of captions, zeros where they are dropped [batch, width].
    """

    ids: Int[Tensor, "batch tokens layers"]
    padding: Bool[Tensor, "batch tokens"]
    text: Float[Tensor, "batch width"]


Coded = Callable[[Any, torch.Generator], CodedMotion]


def hide(padding: Bool[Tensor, "batch tokens"], generator: torch.Generator) -> Bool[Tensor, "batch tokens"]:
    """Tokens to hide: round(cos(pi u / 2) n) of each sample's n, at least one, anywhere."""
    counts = (~padding).sum(1)
    share = torch.cos(math.pi / 2 * torch.rand(len(padding), generator=generator))
    scores = torch.rand(padding.shape, generator=generator)
    return least_certain(scores, (share * counts).round().clamp(min=1).long(), padding)


def corrupted(
    ids: Int[Tensor, "batch tokens"], hidden: Bool[Tensor, "batch tokens"], codes: int, generator: torch.Generator
) -> Int[Tensor, "batch tokens"]:
    """Hidden tokens become another code (10 %), the mask, id `codes` (79.2 %), or stay (10.8 %)."""
    chance = torch.rand(ids.shape, generator=generator)
    others = torch.randint(codes, ids.shape, generator=generator)
    masked = torch.rand(ids.shape, generator=generator) < MASKED
    ids = torch.where(hidden & (chance < WRONG), others, ids)
    return torch.where(hidden & (chance >= WRONG) & masked, codes, ids)


class MaskedTokens:
    """An objective (see `pipelines.fitting.loop.Objective`): from some codes of the first layer, find all.

    Args:
        transformer: what learns; called as `ControlMMTransformer`.
        coded: makes `CodedMotion` of a batch.
        learning_rate: of AdamW.
        noise: standard deviation of what is added to one-hot tokens before they are embedded, so that soft tokens are
            nothing new to it; 0 embeds ids.
        everywhere: whether the loss counts codes that were not hidden, too.
    """

    def __init__(
        self, transformer: nn.Module, coded: Coded, learning_rate: float, noise: float = 0.1, everywhere: bool = True
    ) -> None:
        self.parts: dict[str, nn.Module] = {"transformer": transformer}
        self.coded, self.learning_rate, self.noise, self.everywhere = coded, learning_rate, noise, everywhere
        self.codes, self.embedding = transformer.config.num_codes, transformer.token_embedding

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parts[part].parameters(), self.learning_rate, BETAS, weight_decay=WEIGHT_DECAY)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        given, weight = self.coded(batch, generator), self.embedding.weight
        hidden = hide(given.padding, generator)
        ids = given.ids[..., 0].masked_fill(given.padding, 0)
        shown = corrupted(ids, hidden, self.codes, generator).masked_fill(given.padding, self.codes + 1)
        if self.noise:
            soft = F.one_hot(shown, self.codes + 2).float()
            soft = soft + self.noise * torch.randn(soft.shape, generator=generator)
            shown = soft.to(weight) @ weight
        text, padding, hidden, ids = (x.to(weight.device) for x in (given.text, given.padding, hidden, ids))
        logits = self.parts[part](shown.to(weight.device), text, padding)
        counted = ~padding if self.everywhere else hidden
        right = (logits.argmax(-1) == ids)[hidden].float().mean()
        return F.cross_entropy(logits.float()[counted], ids[counted]), {"right": right.item()}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None


class ResidualTokens:
    """An objective (see `pipelines.fitting.loop.Objective`): from the codes of layers 0 to j - 1, find those of j.

    Args:
        transformer: what learns; called as `ControlMMResidualTransformer`.
        coded: makes `CodedMotion` of a batch.
        learning_rate: of AdamW.
    """

    def __init__(self, transformer: nn.Module, coded: Coded, learning_rate: float) -> None:
        self.parts: dict[str, nn.Module] = {"transformer": transformer}
        self.coded, self.learning_rate = coded, learning_rate
        self.layers = transformer.config.num_quantizers

    def optimizer(self, part: str) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parts[part].parameters(), self.learning_rate, BETAS, weight_decay=WEIGHT_DECAY)

    def loss(self, part: str, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        given, device = self.coded(batch, generator), next(self.parts[part].parameters()).device
        share = 1 - torch.cos(math.pi / 2 * torch.rand(len(given.ids), generator=generator))
        layer = (share * (self.layers - 2)).round().long() + 1
        layer, ids, text, padding = (x.to(device) for x in (layer, given.ids, given.text, given.padding))
        wanted = ids.gather(2, layer[:, None, None].expand(*padding.shape, 1))[..., 0]
        logits = self.parts[part](ids.clamp(min=0), layer, text, padding)
        counted = ~padding
        right = (logits.argmax(-1) == wanted)[counted].float().mean()
        return F.cross_entropy(logits.float()[counted], wanted[counted]), {"right": right.item()}

    def preview(self, modules: dict[str, nn.Module]) -> None:
        return None
