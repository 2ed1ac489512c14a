"""Convolutions along time: the encoder and decoder of T2M-GPT (arXiv 2301.06052) and MoMask (arXiv 2312.00063).

Both take padding: what stands there is set to 0 before every convolution that looks at neighbours, which is what a
convolution sees beyond the end of a clip. So a clip gives the same numbers alone and padded beside longer ones.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

DILATION_GROWTH = 3


class DilatedResnetBlock1D(nn.Module):
    """x + dropout(1x1(relu(dilated 3x1(relu(x))))), without norms."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        h = self.conv1(_kept_of(F.relu(x), kept))
        return x + self.dropout(self.conv2(F.relu(h)))


class DilatedStack1D(nn.Module):
    """`depth` residual blocks whose dilations fall: 9, 3, 1 for a depth of 3."""

    def __init__(self, channels: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DilatedResnetBlock1D(channels, DILATION_GROWTH**power, dropout) for power in reversed(range(depth))
        )

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, kept)
        return x


class TemporalEncoder(nn.Module):
    """Frames to tokens: every stage halves time by a convolution of 4 taps, and thinks in residual blocks.

    Args:
        in_channels: of the frames.
        out_channels: of the tokens.
        width: channels in between.
        stages: halvings of time; a token stands for `2**stages` frames.
        depth: residual blocks of each stage.
        dropout: of each residual block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, stages: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.conv_in = nn.Conv1d(in_channels, width, 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv1d(width, width, 4, stride=2, padding=1) for _ in range(stages))
        self.stacks = nn.ModuleList(DilatedStack1D(width, depth, dropout) for _ in range(stages))
        self.conv_out = nn.Conv1d(width, out_channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "batch cin frames"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch cout tokens"]:
        """Frames of `2**stages` times as many as tokens; `padding` is True at tokens that are none."""
        frames = 2 ** len(self.downs)
        x = F.relu(self.conv_in(_kept_of(x, kept_frames(padding, frames, x.dtype))))
        for down, stack in zip(self.downs, self.stacks, strict=True):
            x = down(_kept_of(x, kept_frames(padding, frames, x.dtype)))
            frames //= 2
            x = _run(self, stack, x, kept_frames(padding, frames, x.dtype))
        kept = kept_frames(padding, 1, x.dtype)
        return _kept_of(self.conv_out(_kept_of(x, kept)), kept)


class TemporalDecoder(nn.Module):
    """Tokens to frames: every stage thinks in residual blocks, and doubles time by repetition and a convolution.

    Args:
        in_channels: of the tokens.
        out_channels: of the frames.
        width, stages, depth, dropout: as of `TemporalEncoder`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, stages: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.conv_in = nn.Conv1d(in_channels, width, 3, padding=1)
        self.stacks = nn.ModuleList(DilatedStack1D(width, depth, dropout) for _ in range(stages))
        self.ups = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(stages))
        self.conv_mid = nn.Conv1d(width, width, 3, padding=1)
        self.conv_out = nn.Conv1d(width, out_channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "batch cin tokens"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch cout frames"]:
        """`2**stages` frames for each token, 0 where `padding` is True."""
        frames = 1
        x = F.relu(self.conv_in(_kept_of(x, kept_frames(padding, frames, x.dtype))))
        for stack, up in zip(self.stacks, self.ups, strict=True):
            x = _run(self, stack, x, kept_frames(padding, frames, x.dtype))
            frames *= 2
            x = up(_kept_of(repeated(x, 2), kept_frames(padding, frames, x.dtype)))
        kept = kept_frames(padding, frames, x.dtype)
        x = F.relu(self.conv_mid(_kept_of(x, kept)))
        return _kept_of(self.conv_out(_kept_of(x, kept)), kept)


def kept_frames(
    padding: Bool[Tensor, "batch tokens"] | None, frames: int, dtype: torch.dtype
) -> Float[Tensor, "batch 1 frames"] | None:
    """1 at frames of tokens and 0 at padding, of so many frames a token."""
    return None if padding is None else repeated(~padding, frames)[:, None].to(dtype)


def repeated(x: Shaped[Tensor, "*batch frames"], times: int) -> Shaped[Tensor, "*batch times*frames"]:
    """Every last entry `times` times, written so that export needs no operator of upsampling."""
    return x[..., None].expand(*x.shape, times).flatten(-2)


def _kept_of(x: Tensor, kept: Tensor | None) -> Tensor:
    return x if kept is None else x * kept


def _run(owner: nn.Module, stack: DilatedStack1D, x: Tensor, kept: Tensor | None) -> Tensor:
    checkpointed = owner.gradient_checkpointing and torch.is_grad_enabled()
    return owner._gradient_checkpointing_func(stack, x, kept) if checkpointed else stack(x, kept)
