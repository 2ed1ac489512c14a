"""Separable convolutions with expanded intermediate channels (as in SnapGen, arXiv 2412.09619)."""

from typing import Literal, get_args

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ExpansionMode = Literal["per_conv", "block_out", "block_in"]


class SeparableConv2d(nn.Module):
    """Depthwise 3x3 with padding 1, then pointwise 1x1: `in_channels -> out_channels`.

    With `stride` 2 height and width are halved. With `hidden_channels` the pointwise part is expanded,
    `in -> hidden -> out`, without an activation between, so the two fold into one at inference.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        pw_bias: bool = False,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
        )
        self.expand = None if hidden_channels is None else nn.Conv2d(in_channels, hidden_channels, 1, bias=pw_bias)
        self.pointwise = nn.Conv2d(hidden_channels or in_channels, out_channels, 1, bias=pw_bias)

    def forward(self, x: Float[Tensor, "batch cin height width"]) -> Float[Tensor, "batch cout height_out width_out"]:
        x = self.depthwise(x)
        if self.expand is not None:
            x = self.expand(x)
        return self.pointwise(x)


def block_widths(in_channels: int, out_channels: int, mode: ExpansionMode, expansion: int) -> tuple[int, int | None]:
    """Width between the two convolutions of a block, and the hidden width inside each convolution (or None).

    The paper says "expansion ratio 2 of intermediate channels"; three readings fit its published numbers.
    """
    if mode not in get_args(ExpansionMode):
        raise ValueError(f"expansion_mode must be one of {', '.join(get_args(ExpansionMode))}, not {mode!r}.")
    if mode == "per_conv":
        return out_channels, expansion * out_channels if expansion > 1 else None
    return expansion * (out_channels if mode == "block_out" else in_channels), None


class SeparableResnetBlock2D(nn.Module):
    """Residual block of two separable convolutions, optionally conditioned on a time embedding.

    norm -> SiLU -> conv -> (+ projected time embedding) -> norm -> SiLU -> conv -> + shortcut.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        temb_channels: width of the time embedding; None for a block without one.
        mode: where `expansion` widens the block: inside each convolution to `expansion * out` ("per_conv"),
            or between the two to `expansion * out` ("block_out", as DreamLite) or `expansion * in` ("block_in").
        expansion: ratio of the widened channels, at least 1.
        pw_bias: pointwise convolutions have a bias.
        groups: groups of both group norms.
        eps: added to the variance in both group norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int | None = None,
        mode: ExpansionMode = "block_out",
        expansion: int = 2,
        pw_bias: bool = False,
        groups: int = 32,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        width, hidden = block_widths(in_channels, out_channels, mode, expansion)
        hidden_out = hidden if mode == "per_conv" else None
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=eps)
        self.conv1 = SeparableConv2d(in_channels, width, hidden, pw_bias)
        self.time_emb_proj = None if temb_channels is None else nn.Linear(temb_channels, width)
        self.norm2 = nn.GroupNorm(groups, width, eps=eps)
        self.conv2 = SeparableConv2d(width, out_channels, hidden_out, pw_bias)
        self.conv_shortcut = (
            None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(
        self, x: Float[Tensor, "batch cin height width"], temb: Float[Tensor, "batch temb"] | None = None
    ) -> Float[Tensor, "batch cout height width"]:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))
