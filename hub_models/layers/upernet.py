"""UPerNet's head: one dense map of all resolutions (arXiv 1807.10221, sections 3.1 and 3.2)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .mbconv import ConvNorm, conv_norm
from .separable_conv import SeparableConv2d


class PyramidPooling(nn.Module):
    """The lowest map beside its own means over `scales` x `scales` parts, joined to `width` channels."""

    def __init__(
        self, channels: int, width: int, scales: Sequence[int], norm: ConvNorm = "batch", separable: bool = False
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.parts = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in self.scales)
        self.join = DenseConv(channels + width * len(self.scales), width, norm, separable)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch width h w"]:
        parts = [
            F.gelu(conv(F.adaptive_avg_pool2d(x, scale))) for conv, scale in zip(self.parts, self.scales, strict=True)
        ]
        return self.join(torch.cat([x, *(resized(part, x.shape[2:]) for part in parts)], dim=1))


class DenseConv(nn.Sequential):
    """3x3 convolution, norm and GELU."""

    def __init__(self, in_channels: int, out_channels: int, norm: ConvNorm, separable: bool) -> None:
        dense = (
            SeparableConv2d(in_channels, out_channels)
            if separable
            else nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        )
        super().__init__(dense, conv_norm(norm, out_channels), nn.GELU())


class UPerNetHead(nn.Module):
    """Pyramid pooling on the lowest map, a feature pyramid upwards, all levels fused at the highest resolution.

    Args:
        in_channels: of the feature maps, from the highest resolution to the lowest.
        width: channels inside.
        outputs: name -> channels of what is predicted at each pixel of the highest map.
        pool_scales: of the pyramid pooling.
        separable: 3x3 convolutions are separable, for small devices.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        width: int,
        outputs: Mapping[str, int],
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm: ConvNorm = "batch",
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid_pooling = PyramidPooling(in_channels[-1], width, pool_scales, norm, separable)
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels[:-1])
        self.smooth = nn.ModuleList(DenseConv(width, width, norm, separable) for _ in in_channels[:-1])
        self.fuse = DenseConv(width * len(in_channels), width, norm, separable)
        self.outputs = nn.ModuleDict({name: nn.Conv2d(width, channels, 1) for name, channels in outputs.items()})

    def forward(self, maps: Sequence[Float[Tensor, "batch _ _ _"]]) -> dict[str, Float[Tensor, "batch _ h w"]]:
        levels = [self.pyramid_pooling(maps[-1])]
        for x, lateral in zip(reversed(maps[:-1]), reversed(self.laterals), strict=True):
            levels.insert(0, lateral(x) + resized(levels[0], x.shape[2:]))
        smoothed = [conv(level) for conv, level in zip(self.smooth, levels[:-1], strict=True)] + levels[-1:]
        size = smoothed[0].shape[2:]
        fused = self.fuse(torch.cat([resized(level, size) for level in smoothed], dim=1))
        return {name: conv(fused) for name, conv in self.outputs.items()}


def resized(x: Float[Tensor, "batch c _ _"], size: tuple[int, int]) -> Float[Tensor, "batch c h w"]:
    """`x` interpolated to `size` (rows, columns)."""
    return x if x.shape[2:] == size else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
