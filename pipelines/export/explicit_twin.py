"""A network as every back end takes it: plain layers, and attention as products and softmax."""

import copy

import torch
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Float, Float16
from torch import Tensor, nn

from ...hub_models.layers.low_bit import LowBitLayer
from ...hub_models.layers.time_embedding_cache import TimeEmbeddingCache


class TimeEmbeddingTable(nn.Module):
    """In place of a `TimeEmbeddingCache`: the row of the nearest timestep, for a graph cannot refuse the others.

    Args:
        cache: whose table is shared.
    """

    def __init__(self, cache: TimeEmbeddingCache) -> None:
        super().__init__()
        self.register_buffer("timesteps", torch.tensor(cache.timesteps, dtype=torch.float32), persistent=False)
        self.register_buffer("projections", cache.projections)

    def forward(self, timesteps: Float[Tensor, " batch"]) -> Float16[Tensor, "batch all_widths"]:
        rows = (timesteps[:, None] - self.timesteps).abs().argmin(dim=1)
        return self.projections[rows]


def explicit_twin(network: nn.Module) -> nn.Module:
    """A `decoded_twin` with its attention written out."""
    twin = decoded_twin(network)
    if hasattr(twin, "set_attention_form"):
        twin.set_attention_form("explicit")
    else:
        twin.set_attn_processor(AttnProcessor())
    return twin


def decoded_twin(network: nn.Module) -> nn.Module:
    """The network with packed weights decoded and cached time embeddings in a table; the rest is shared with it."""
    weights = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, weights)
    for name, module in list(twin.named_modules()):
        if isinstance(module, LowBitLayer) and module.levels is not None:
            twin.set_submodule(name, module.dequantized())
        elif isinstance(module, TimeEmbeddingCache):
            twin.set_submodule(name, TimeEmbeddingTable(module))
    return twin


def cached_timesteps(network: nn.Module) -> list[float] | None:
    """The only timesteps that a network takes; None where it takes any."""
    caches = (module for module in network.modules() if isinstance(module, TimeEmbeddingCache))
    return next((cache.timesteps for cache in caches), None)
