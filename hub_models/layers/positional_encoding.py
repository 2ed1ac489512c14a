"""Where tokens stand: rotary embedding over two axes, and sines and cosines of one."""

import torch
from jaxtyping import Float
from torch import Tensor

ROPE_THETA = 10000.0  # RoFormer, arXiv 2104.09864, section 3.2.2
SINUSOIDAL_THETA = 10000.0  # Attention Is All You Need, arXiv 1706.03762, section 3.5


def rotary_table(
    height: int, width: int, head_dim: int, device: torch.device | None = None, theta: float = ROPE_THETA
) -> tuple[Float[Tensor, "tokens 1 head_dim"], Float[Tensor, "tokens 1 head_dim"]]:
    """Cosines and sines for the tokens of a `height x width` grid in row-major order, in float32.

    The first half of a head's channels turns with the row, the second half with the column; within each half,
    channel i is paired with channel i + half / 2.

    Raises:
        ValueError: when `head_dim` is no multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"head_dim must be a multiple of 4 for 2-D rotary embedding, not {head_dim}.")
    pairs = head_dim // 4
    speeds = theta ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    rows = torch.arange(height, device=device, dtype=torch.float32)[:, None] * speeds  # [height, pairs]
    columns = torch.arange(width, device=device, dtype=torch.float32)[:, None] * speeds  # [width, pairs]
    rows = rows[:, None].expand(height, width, pairs)
    columns = columns[None].expand(height, width, pairs)
    angles = torch.cat([rows, rows, columns, columns], dim=-1).reshape(height * width, 1, head_dim)
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "batch tokens heads head_dim"], table: tuple[Tensor, Tensor]
) -> Float[Tensor, "batch tokens heads head_dim"]:
    """Turns each head's channel pairs by the angles of `rotary_table`, in the dtype of `x`."""
    cos, sin = (part.to(x.dtype) for part in table)
    a, b, c, d = x.chunk(4, dim=-1)
    return x * cos + torch.cat([-b, a, -d, c], dim=-1) * sin


def sinusoidal_table(tokens: int, dim: int, device: torch.device | None = None) -> Float[Tensor, "tokens dim"]:
    """Sines (even channels) and cosines (odd ones) of a token's place, slower from pair to pair, in float32.

    Raises:
        ValueError: when `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"dim must be even for sines beside cosines, not {dim}.")
    speeds = SINUSOIDAL_THETA ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angles = torch.arange(tokens, device=device, dtype=torch.float32)[:, None] * speeds
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
