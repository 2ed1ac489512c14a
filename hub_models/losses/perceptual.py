"""Distances between pictures that forgive a shifted pixel more than a missing shape, without downloaded weights.

Neither is LPIPS: its learned channel weights are not used, so numbers are not comparable with published ones.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .photometric import edge_distance

Pictures = Float[Tensor, "batch channels height width"]
FeatureNetwork = Callable[[Tensor], Sequence[Tensor]]


def pyramid_distance(prediction: Pictures, target: Pictures, levels: int = 3) -> Float[Tensor, " batch"]:
    """Mean absolute difference of pictures and of their outlines, averaged over `levels` halvings of the size, [B].

    Raises:
        ValueError: when the pictures are too small to be halved `levels - 1` times.
    """
    smallest = min(prediction.shape[2:])
    if levels < 1 or smallest < 2**levels:
        raise ValueError(f"levels is {levels}: pictures {smallest} pixels wide allow 1 to {smallest.bit_length() - 1}.")
    total = torch.zeros(len(prediction), device=prediction.device)
    for level in range(levels):
        if level > 0:
            prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        total = total + (prediction - target).abs().mean(dim=(1, 2, 3)) + edge_distance(prediction, target)
    return total / levels


class FeatureDistance(nn.Module):
    """Squared distance of channel-normalised features of two pictures, summed over a frozen network's layers.

    This is LPIPS (arXiv 1801.03924, eq. 1) with every channel weight equal.

    Args:
        network: maps pictures to feature maps [batch, channels, height, width], one a layer; it is frozen.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval() if isinstance(network, nn.Module) else network

    def forward(self, prediction: Pictures, target: Pictures) -> Float[Tensor, " batch"]:
        """The distance of each pair, [B]; gradients reach `prediction` alone."""
        with torch.no_grad():
            wanted = [F.normalize(layer, dim=1) for layer in self.network(target)]
        made = [F.normalize(layer, dim=1) for layer in self.network(prediction)]
        pairs = zip(made, wanted, strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs]).sum(dim=0)

    def train(self, mode: bool = True) -> "FeatureDistance":
        """The network stays in evaluation mode."""
        return super().train(False)
