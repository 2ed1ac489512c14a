"""Inverted residual blocks with squeeze-excitation: MobileNetV2's MBConv and EfficientNetV2's fused form."""

from typing import Literal, get_args

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .stochastic_depth import StochasticDepth

ConvNorm = Literal["batch", "group"]
ConvBlock = Literal["mbconv", "fused_mbconv"]
GROUPS = 32


def conv_norm(kind: ConvNorm, channels: int) -> nn.Module:
    """Batch norm, or group norm in 32 groups (fewer where 32 do not divide the channels)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        groups = next(groups for groups in range(min(GROUPS, channels), 0, -1) if channels % groups == 0)
        return nn.GroupNorm(groups, channels)
    raise ValueError(f"conv_norm must be one of {', '.join(get_args(ConvNorm))}, not {kind!r}.")


class SqueezeExcitation(nn.Module):
    """Scales each channel by what the mean of all channels says (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c height width"]:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.excite(F.gelu(self.squeeze(mean))).sigmoid()


class MBConv(nn.Module):
    """norm -> expand 1x1 -> norm, GELU -> depthwise 3x3 -> norm, GELU -> squeeze-excitation -> project 1x1, + shortcut.

    The pre-norm form of CoAtNet (arXiv 2106.04803). The fused form joins the first two convolutions in one dense 3x3.
    The shortcut is pooled where the block has a stride, and goes through a 1x1 where the width changes.

    Args:
        in_channels, out_channels: widths outside.
        stride: 1 or 2.
        expansion: width inside, of the output.
        se_ratio: width of the squeeze-excitation, of the output; 0 leaves it out.
        norm: "batch", or "group" where batches are noisy, as in diffusion.
        form: "mbconv" or "fused_mbconv".
        emb_channels: width of an embedding that scales and shifts the last norm; None for a block without one.
        drop_path: chance that the block's branch is dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expansion: int = 4,
        se_ratio: float = 0.25,
        norm: ConvNorm = "batch",
        form: ConvBlock = "mbconv",
        emb_channels: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if form not in get_args(ConvBlock):
            raise ValueError(f"conv_block must be one of {', '.join(get_args(ConvBlock))}, not {form!r}.")
        hidden, fused = expansion * out_channels, form == "fused_mbconv"
        self.norm_in = conv_norm(norm, in_channels)
        kernel = {"kernel_size": 3, "padding": 1, "stride": stride} if fused else {"kernel_size": 1}
        self.expand = nn.Conv2d(in_channels, hidden, bias=False, **kernel)
        self.norm_expand = None if fused else conv_norm(norm, hidden)
        self.depthwise = (
            None if fused else nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        )
        self.norm_hidden = conv_norm(norm, hidden)
        self.modulation = None if emb_channels is None else nn.Linear(emb_channels, 2 * hidden)
        self.squeeze_excitation = SqueezeExcitation(hidden, int(se_ratio * out_channels)) if se_ratio else None
        self.project = nn.Conv2d(hidden, out_channels, 1)
        self.drop_path = StochasticDepth(drop_path)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else None
        self.shortcut = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "batch cin height width"], emb: Float[Tensor, "batch emb"] | None = None
    ) -> Float[Tensor, "batch cout height_out width_out"]:
        h = self.expand(self.norm_in(x))
        if self.depthwise is not None:
            h = self.depthwise(F.gelu(self.norm_expand(h)))
        h = self.norm_hidden(h)
        if self.modulation is not None:
            scale, shift = self.modulation(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        h = F.gelu(h)
        if self.squeeze_excitation is not None:
            h = self.squeeze_excitation(h)
        x = x if self.pool is None else self.pool(x)
        x = x if self.shortcut is None else self.shortcut(x)
        return x + self.drop_path(self.project(h))
