"""The network of MobileR2L (arXiv 2212.08057) from features of rays to a picture, which LightSpeed takes over."""

from collections.abc import Sequence
from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

Tail = Literal["8x", "12x"]
STRIDES: dict[Tail, tuple[int, int, int]] = {"8x": (2, 2, 2), "12x": (2, 2, 3)}
# A kernel's middle is the middle of the stride x stride pixels that a cell becomes: nothing moves by half a pixel.
KERNELS = {2: {"kernel_size": 4, "stride": 2, "padding": 1}, 3: {"kernel_size": 3, "stride": 3, "padding": 0}}
TAIL_BLOCKS = 2


class PointwiseResidualBlock(nn.Module):
    """1x1 convolution, batch norm, GELU, 1x1 convolution, batch norm, + shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.GELU(), nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c height width"]:
        return x + self.branch(x)


class LightFieldDecoder(nn.Module):
    """Each ray by itself through residual blocks, then transposed convolutions that make many pixels of one ray.

    Args:
        in_channels: numbers of a ray.
        width: channels of the body.
        blocks: residual blocks of the body; of D layers, which papers count, (D - 2) // 2.
        tail: how many times larger than the bundle of rays the picture is.
        tail_channels: behind each of the three enlargements.
        body_skip: a shortcut around the whole body.

    Raises:
        ValueError: another tail, or other than three channels behind enlargements.
    """

    def __init__(
        self,
        in_channels: int,
        width: int = 256,
        blocks: int = 14,
        tail: Tail = "8x",
        tail_channels: Sequence[int] = (64, 64, 16),
        body_skip: bool = True,
    ) -> None:
        super().__init__()
        if tail not in get_args(Tail):
            raise ValueError(f"tail must be one of {', '.join(get_args(Tail))}, not {tail!r}.")
        if len(tail_channels) != len(STRIDES[tail]):
            raise ValueError(f"tail_channels must be three numbers, not {tuple(tail_channels)}.")
        self.gradient_checkpointing = False
        self.scale = prod(STRIDES[tail])
        self.body_skip = body_skip
        self.head = nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.GELU())
        self.body = nn.ModuleList(PointwiseResidualBlock(width) for _ in range(blocks))
        stages = zip((width, *tail_channels[:-1]), tail_channels, STRIDES[tail], strict=True)
        self.tail = nn.ModuleList(_enlargement(*stage) for stage in stages)
        self.to_rgb = nn.Sequential(nn.Conv2d(tail_channels[-1], 3, 1), nn.Sigmoid())

    def forward(
        self, features: Float[Tensor, "batch cin height width"]
    ) -> Float[Tensor, "batch 3 scale*height scale*width"]:
        """Colours in [0, 1]. Row i of rays becomes rows scale * i to scale * (i + 1) - 1, whose middle it is at."""
        first = x = self.head(features)
        for block in self.body:
            x = self._run(block, x)
        if self.body_skip:
            x = x + first
        for stage in self.tail:
            x = self._run(stage, x)
        return self.to_rgb(x)

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        """Checkpointed batch norms count each batch twice in their running statistics, which changes no gradient."""
        checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
        return self._gradient_checkpointing_func(part, x) if checkpointed else part(x)


def _enlargement(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    blocks = (PointwiseResidualBlock(out_channels) for _ in range(TAIL_BLOCKS))
    return nn.Sequential(nn.ConvTranspose2d(in_channels, out_channels, **KERNELS[stride]), *blocks)
