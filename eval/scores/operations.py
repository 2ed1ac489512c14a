"""What a network costs whatever the machine: its parameters and its operations."""

from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Parameters of a module, also of one on the meta device."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_operations(module: nn.Module, *inputs: Any, **named_inputs: Any) -> int:
    """Operations of one call, by torch's counter; a multiplication with its addition makes two.

    Convolutions, matrix products and attention count; norms, activations and the like do not. On the meta device
    nothing is computed, so that a network of any size can be counted.
    """
    with FlopCounterMode(display=False) as counter:
        module(*inputs, **named_inputs)
    return counter.get_total_flops()
