"""A network as the work of a contender: eager, compiled or as a graph, with weights that cost nothing to have."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from .contender_process import Work
from .onnx_session import onnx_call

Mode = Literal["eager", "compiled", "onnx"]
WORDS: dict[Mode, str] = {
    "eager": "float32, eager on the CPU",
    "compiled": "float32, torch.compile on the CPU",
    "onnx": "float32 in ONNX Runtime on the CPU",
}


def network_work(network: nn.Module, inputs: Tensor | Mapping[str, Any], mode: Mode) -> Work:
    """A call of a network in float32, without gradients.

    Args:
        network: in evaluation mode.
        inputs: its only argument, or with "eager" and "compiled" its arguments by name.
        mode: "eager", "compiled" (torch.compile) or "onnx" (ONNX Runtime). In torch, weights and a single argument
            lie in channels-last memory, where that helps a network.

    Raises:
        ValueError: another mode.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}.")
    if mode == "onnx":
        return Work(*onnx_call(network, inputs))
    network = network.to(memory_format=torch.channels_last)
    if mode == "compiled":
        network = torch.compile(network)
    if isinstance(inputs, Mapping):
        return Work(torch.inference_mode()(lambda: network(**inputs)))
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    return Work(torch.inference_mode()(lambda: network(inputs)))


def with_random_weights(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose weights keep the scale of activations, made in the memory of the weights alone.

    One block of random numbers fills all of them, since quality is not what is measured: a weight of n inputs gets
    the deviation n^-1/2, a scale of a norm 1 and a bias 0.
    """
    with torch.device("meta"):
        module = build()
    assert not list(module.buffers()), "a buffer would lose its values on the meta device"
    module = module.to_empty(device="cpu").eval().requires_grad_(False)
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(seed))
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            parameter.data.fill_(float(name.endswith("weight")))
            continue
        flat, deviation = parameter.data.view(-1), parameter[0].numel() ** -0.5
        for start in range(0, flat.numel(), block.numel()):
            part = flat[start : start + block.numel()]
            torch.mul(block[: part.numel()], deviation, out=part)
    return module
