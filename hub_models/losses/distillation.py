"""Distillation of a network into another of the same blocks: what they make, and what their blocks make on the way."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BLOCKS = ("down_blocks", "up_blocks")


class BlockFeatures:
    """The outputs of a UNet's down and up blocks in its next forward passes, while this is entered.

    Args:
        unet: of diffusers' form, with module lists `down_blocks` and `up_blocks`, perhaps wrapped.
    """

    def __init__(self, unet: nn.Module):
        bare = getattr(unet, "module", unet)
        self._blocks = [block for name in BLOCKS for block in getattr(bare, name)]
        self._hooks: list[Any] = []
        self._found: list[Tensor] = []

    def __enter__(self) -> Self:
        self._hooks = [block.register_forward_hook(self._keep) for block in self._blocks]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()

    def of(self, forward: Callable[[], Any]) -> tuple[Any, list[Tensor]]:
        """What `forward()` returns, and the features of each block on the way, from the first down to the last up."""
        self._found = []
        made = forward()
        return made, self._found

    def _keep(self, block: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._found.append(output[0] if isinstance(output, tuple) else output)  # down blocks give skip connections too


def feature_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Sum over blocks of the mean squared difference of their features (BK-SDM, arXiv 2305.15798, equation 3).

    Raises:
        ValueError: the networks have other blocks.
    """
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher must have equally many blocks, not {len(student)} and {len(teacher)}.")
    distances = [F.mse_loss(own.float(), held.float()) for own, held in zip(student, teacher, strict=True)]
    return sum(distances[1:], distances[0])
