"""Networks in half precision that still take and return float32."""

import copy

import torch
from torch import Tensor, nn


class Halved(nn.Module):
    """A copy of a network in half precision, but for what the network itself keeps in single."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self.network(*(tensor.half() if tensor.is_floating_point() else tensor for tensor in tensors))
        return outputs.float() if isinstance(outputs, Tensor) else tuple(one.float() for one in outputs)

    @property
    def keeps_single(self) -> bool:
        """Whether some weights are still in single precision, such as positions that must not move."""
        return any(value.dtype == torch.float32 for value in self.network.parameters())
