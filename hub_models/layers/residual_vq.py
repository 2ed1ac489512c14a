"""Residual vector quantisation: each codebook says what the ones before it left over (RVQ, arXiv 2107.03312)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

NO_CODE = -1
"""Stands for no code of a layer; it adds nothing."""


@dataclass
class ResidualCodes:
    """What `ResidualVQ` makes of vectors.

    Attributes:
        vectors: sums of the codes chosen, [batch, tokens, width]; gradients pass straight through.
        ids: the codes chosen, [batch, tokens, layers]; `NO_CODE` in layers that quantise dropout left out.
        commitment: mean over layers of the squared distance between what a layer was given and its code; its gradient
            draws the vectors to the codes.
    """

    vectors: Tensor
    ids: Tensor
    commitment: Tensor


class ResidualVQ(nn.Module):
    """A stack of codebooks that follow the vectors they stand for by moving averages; they are buffers.

    A code is always the mean of what it stood for, `counts` says of how many vectors a batch; a layer that has not seen
    a batch yet has counts of 0 and takes its codes from the first.

    Args:
        num_layers: codebooks.
        num_codes: codes of each.
        width: channels of a vector.
        decay: mu, how much of a moving average a training step keeps.
        reset_below: a code that stood for fewer vectors than this a batch becomes a random vector of the batch.
        temperature: of the Gumbel noise that perturbs the choice of codes in training; 0 for none.
        dropout: chance that a training step keeps only the first layers, 1 up to all of them, evenly.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        num_layers: int,
        num_codes: int,
        width: int,
        decay: float = 0.99,
        reset_below: float = 1.0,
        temperature: float = 0.5,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, not {decay}.")
        if not 0 < reset_below <= 1:
            raise ValueError(
                f"reset_below must be above 0 and at most 1, which new codes begin with, not {reset_below}."
            )
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, not {temperature}.")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a chance from 0 to 1, not {dropout}.")
        self.decay = decay
        self.reset_below = reset_below
        self.temperature = temperature
        self.dropout = dropout
        self.register_buffer("codebooks", torch.randn(num_layers, num_codes, width))
        self.register_buffer("counts", torch.zeros(num_layers, num_codes))

    def forward(
        self, z: Float[Tensor, "batch tokens width"], generator: torch.Generator | None = None
    ) -> ResidualCodes:
        """Quantises vectors; in training the codebooks learn from them as well.

        Args:
            z: vectors.
            generator: of everything random in training; one of the CPU means the same numbers on every device.
        """
        residual, total = z, torch.zeros_like(z)
        ids = torch.full((*z.shape[:2], len(self.codebooks)), NO_CODE, device=z.device)
        distances = []
        for layer in range(self._layers_kept(generator, z.device)):
            chosen, codes = self._choose(layer, residual.detach(), generator)
            codes = codes.to(z.dtype)
            ids[..., layer] = chosen
            distances.append((residual - codes).square().mean())
            total = total + codes + (residual - residual.detach())  # the value of a code, the gradient of what it is of
            residual = residual - codes
        return ResidualCodes(total, ids, torch.stack(distances).mean())

    def embed(self, ids: Int[Tensor, "batch tokens layers"]) -> Float[Tensor, "batch tokens width"]:
        """Sums of codes; `ids` may stop after the first layers, and `NO_CODE` adds nothing."""
        layers = enumerate(ids.unbind(-1))
        return sum(F.embedding(one.clamp_min(0), self.codebooks[i]) * (one != NO_CODE)[..., None] for i, one in layers)

    def expect(
        self, probabilities: Float[Tensor, "batch tokens codes"], layer: int = 0
    ) -> Float[Tensor, "batch tokens width"]:
        """Expected code of one layer, differentiable in the probabilities."""
        return probabilities @ self.codebooks[layer].to(probabilities.dtype)

    @torch.no_grad()
    def encode(self, z: Float[Tensor, "batch tokens width"]) -> Int[Tensor, "batch tokens layers"]:
        """The nearest codes, layer by layer, as outside of training; the codebooks stay as they are."""
        ids = []
        for layer, book in enumerate(self.codebooks):
            ids.append(self._nearness(layer, z.float()).argmax(-1))
            z = z - book[ids[-1]]
        return torch.stack(ids, -1)

    @torch.no_grad()
    def _choose(self, layer: int, z: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The codes of a layer as ids [batch, tokens] and as vectors; in training the layer learns from them."""
        z = z.float()
        if self.training and not self.counts[layer].any():
            self.codebooks[layer] = self._some_of(z.flatten(0, 1), generator)
            self.counts[layer] = 1
        nearness = self._nearness(layer, z)
        if self.training and self.temperature > 0:
            nearness = nearness / self.temperature + _gumbel(nearness.shape, generator, z.device)
        chosen = nearness.argmax(-1)
        codes = self.codebooks[layer][chosen]
        if self.training:
            self._learn(layer, z.flatten(0, 1), chosen.flatten(), generator)
        return chosen, codes

    def _nearness(self, layer: int, z: Tensor) -> Tensor:
        """-|z - c|^2 without |z|^2, which is the same for each code; half precision would take near codes for equal."""
        book = self.codebooks[layer].float()
        with torch.autocast(z.device.type, enabled=False):
            return 2 * z @ book.T - book.square().sum(-1)  # [batch, tokens, codes]

    def _learn(self, layer: int, vectors: Tensor, chosen: Tensor, generator: torch.Generator | None) -> None:
        """Moves each code's averages towards this batch; codes hardly chosen become some of its vectors."""
        book, counts = self.codebooks[layer].float(), self.counts[layer].float()
        new = F.one_hot(chosen, len(book)).float()  # [vectors, codes]: sums by a product are the same in each run
        with torch.autocast(vectors.device.type, enabled=False):
            sums = torch.lerp(new.T @ vectors, counts[:, None] * book, self.decay)
        counts = torch.lerp(new.sum(0), counts, self.decay)
        alive = counts >= self.reset_below
        fresh = self._some_of(vectors, generator)
        self.codebooks[layer] = torch.where(alive[:, None], sums / counts[:, None], fresh)
        self.counts[layer] = torch.where(alive, counts, 1)

    def _some_of(self, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        """A random vector for each code, none twice; where there are fewer, copies with a little noise."""
        num_codes, width = self.codebooks.shape[1:]
        if len(vectors) < num_codes:
            vectors = vectors.repeat(-(-num_codes // len(vectors)), 1)
            noise = torch.randn(vectors.shape, generator=generator, device=_place(generator, vectors.device))
            vectors = vectors + noise.to(vectors) * (0.01 / width**0.5)
        order = torch.randperm(len(vectors), generator=generator, device=_place(generator, vectors.device))
        return vectors[order[:num_codes].to(vectors.device)]

    def _layers_kept(self, generator: torch.Generator | None, device: torch.device) -> int:
        layers = len(self.codebooks)
        if not self.training or self.dropout == 0:
            return layers
        place = _place(generator, device)
        dropped = torch.rand((), generator=generator, device=place) < self.dropout
        kept = torch.randint(1, layers + 1, (), generator=generator, device=place)
        return int(kept) if dropped else layers


def _place(generator: torch.Generator | None, device: torch.device) -> torch.device:
    """Where numbers are drawn: a generator's own device, so that its seed means one thing."""
    return device if generator is None else generator.device


def _gumbel(shape: torch.Size, generator: torch.Generator | None, device: torch.device) -> Tensor:
    uniform = torch.rand(shape, generator=generator, device=_place(generator, device)).to(device)
    return -(-uniform.clamp_min(1e-20).log()).log()
