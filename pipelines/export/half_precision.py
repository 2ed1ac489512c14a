"""Networks in half precision that still take and return float32."""

import copy

import torch
from torch import Tensor, nn


class Halved(nn.Module):
    """A copy of a network in half precision, but for what the network itself keeps in single.

    A network that keeps something in single is given its inputs so too: places must not move before they are used.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        if not self.keeps_single:
            tensors = tuple(tensor.half() if tensor.is_floating_point() else tensor for tensor in tensors)
        outputs = self.network(*tensors)
        return outputs.float() if isinstance(outputs, Tensor) else tuple(one.float() for one in outputs)

    @property
    def keeps_single(self) -> bool:
        """Whether some of its tensors are still in single precision, such as positions that must not move."""
        return any(value.dtype == torch.float32 for value in self.network.state_dict().values())
