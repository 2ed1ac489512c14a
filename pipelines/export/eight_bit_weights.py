"""Networks whose weights are kept in 8 bits and computed with in float32."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gathered_grid import LARGEST_CODE, GatheredLevel


class EightBitConvolution(nn.Module):
    """A convolution of weights from -127 to 127, times a step for each channel that it makes.

    A runtime that folds constants multiplies them once, when it loads the graph.

    Args:
        convolution: which is rounded; transposed ones have one group.
    """

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.transposed = isinstance(convolution, nn.ConvTranspose2d)
        self.options = {name: getattr(convolution, name) for name in ("stride", "padding", "dilation", "groups")}
        if self.transposed:
            assert convolution.groups == 1, "the channels of several groups share an axis of the weights"
            self.options["output_padding"] = convolution.output_padding
        weight = convolution.weight.detach()
        others = [axis for axis in range(weight.ndim) if axis != (1 if self.transposed else 0)]
        steps = weight.abs().amax(others, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / LARGEST_CODE
        self.register_buffer("codes", (weight / steps).round().to(torch.int8))
        self.register_buffer("steps", steps)
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        return convolve(x, self.codes.to(x.dtype) * self.steps, self.bias, **self.options)


def eight_bit_grids(network: nn.Module) -> nn.Module:
    """The network with its gathered grids in 8 bits; the rest is shared with it."""
    return _rounded(network, {GatheredLevel: GatheredLevel.in_eight_bits})


def eight_bit_weights(network: nn.Module) -> nn.Module:
    """The network with its gathered grids and convolutions in 8 bits; the rest is shared with it."""
    kinds = dict.fromkeys((nn.Conv2d, nn.ConvTranspose2d), EightBitConvolution)
    return _rounded(network, {GatheredLevel: GatheredLevel.in_eight_bits, **kinds})


def _rounded(network: nn.Module, kinds: dict[type[nn.Module], Callable[..., nn.Module]]) -> nn.Module:
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    for name, module in list(twin.named_modules()):
        if type(module) in kinds:
            twin.set_submodule(name, kinds[type(module)](module))
    return twin
