"""Ellipses drawn over each other from near to far, tile by tile, with memory that no picture size exceeds."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .gaussian_projection import MIN_ALPHA, Ellipses

TILE = 8  # pixels a side
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4  # a pixel ends before the ellipse that would leave it less
CHUNK = 2**18  # ellipse-pixel pairs at once: more do not fit into a processor's cache

Planes = Float[Tensor, "5 height width"]
Columns = Float[Tensor, "ellipses 10"]  # mean x y, conic a b c, opacity, red green blue, depth


def composite(ellipses: Ellipses, width: int, height: int) -> Planes:
    """Red, green and blue without background, the sum of depth times weight, and alpha.

    A pixel centre p sees alpha_i = min(MAX_ALPHA, opacity_i exp(-q_i(p) / 2)) of ellipse i, in the order of depth;
    below MIN_ALPHA it sees none of it. Its weight is w_i = alpha_i T_i with T_1 = 1 and T_(i+1) = T_i (1 - alpha_i).
    """
    columns = [ellipses.means, ellipses.conics, ellipses.opacities[:, None], ellipses.colors, ellipses.depths[:, None]]
    with torch.no_grad():
        lists = _list_tiles(ellipses, width, height)
    planes: Planes = _Composite.apply(torch.cat(columns, 1), lists, width, height)
    return planes


@dataclass(frozen=True)
class _TileLists:
    """Tile t of `columns` a row holds the ellipses members[starts[t]:starts[t + 1]], from near to far."""

    members: Int[Tensor, " meetings"]
    starts: Int[Tensor, " tiles_and_one"]
    columns: int


def _list_tiles(ellipses: Ellipses, width: int, height: int) -> _TileLists:
    columns, rows = -(-width // TILE), -(-height // TILE)
    device = ellipses.means.device
    limits = torch.tensor([columns, rows], device=device)
    order = torch.sort(ellipses.depths, stable=True).indices
    means, extents = ellipses.means[order], ellipses.extents[order]
    first = ((means - extents) / TILE).floor().long().clamp(min=0).minimum(limits)
    last = ((means + extents) / TILE + 1).floor().long().clamp(min=0).minimum(limits)
    across = (last - first)[:, 0]
    counts = across * (last - first)[:, 1]
    owner = torch.repeat_interleave(counts)  # place in `order` of each meeting of an ellipse and a tile
    within = torch.arange(len(owner), device=device) - (counts.cumsum(0) - counts)[owner]
    down = within // across[owner]
    tile = (first[owner, 1] + down) * columns + first[owner, 0] + within - down * across[owner]
    tile, place = torch.sort(tile, stable=True)
    starts = torch.searchsorted(tile, torch.arange(columns * rows + 1, device=device))
    return _TileLists(order[owner[place]], starts, columns)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, columns: Columns, lists: _TileLists, width: int, height: int) -> Tensor:
        tiles = len(lists.starts) - 1
        planes = columns.new_zeros(tiles, 5, TILE * TILE)
        for batch in _batches(lists):
            for round_ in _walk(columns, lists, batch):
                weights = round_.weights.flatten(2)  # [B, K, P]
                planes[batch[round_.rows], :4] += round_.splats[..., 6:10].mT @ weights
                planes[batch[round_.rows], 4] += weights.sum(1)
        ctx.save_for_backward(columns, planes)
        ctx.lists = lists
        ctx.size = width, height
        return _to_picture(planes, lists.columns, width, height)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """With s_i the gradient of the loss by w_i,

            dL/dalpha_i = T_i s_i - (sum over j > i of w_j s_j) / (1 - alpha_i),

        where the sum is that of the whole pixel, known from planes and gradients, less what lies in front: one walk
        from near to far suffices.
        """
        columns, planes = ctx.saved_tensors
        lists: _TileLists = ctx.lists
        wanted = _to_tiles(gradient, lists.columns)  # [tiles, 5, P]
        behind = (wanted * planes).sum(1)  # [tiles, P]
        result = torch.zeros_like(columns)
        for batch in _batches(lists):
            for round_ in _walk(columns, lists, batch):
                tiles = batch[round_.rows]
                by_pixel, w = wanted[tiles], round_.weights.flatten(2)
                s = round_.splats[..., 6:10] @ by_pixel[:, :4] + by_pixel[:, None, 4]  # [B, K, P]
                in_front = (w * s).cumsum(1)
                rest = behind[tiles][:, None] - in_front
                behind[tiles] = rest[:, -1]
                by_alpha = round_.before.flatten(2) * s - rest / (1 - round_.alphas.flatten(2))
                by_columns = torch.cat([_through_alpha(round_, by_alpha), w @ by_pixel[:, :4].mT], -1)
                by_columns = by_columns.masked_fill(~round_.valid[..., None], 0)
                result.index_add_(0, round_.members.flatten(), by_columns.flatten(0, 1))
        return result, None, None, None


@dataclass(frozen=True)
class _Round:
    """The next K ellipses of B tiles; arrays of pixels are [B, K, TILE, TILE]."""

    rows: Tensor  # [B] which tiles of the batch
    members: Tensor  # [B, K]
    valid: Tensor  # [B, K]
    splats: Tensor  # [B, K, 10]
    dx: Tensor  # [B, K, TILE] from the centre to each column
    dy: Tensor  # [B, K, TILE] and to each row
    falloff: Tensor  # exp(-q / 2)
    alphas: Tensor
    before: Tensor  # transmittance in front of the ellipse
    adds: Tensor  # whether the pixel takes it
    weights: Tensor


def _batches(lists: _TileLists) -> Iterator[Tensor]:
    """Tiles with lists of similar length."""
    lengths = lists.starts[1:] - lists.starts[:-1]
    busy = (lengths > 0).nonzero()[:, 0]
    busy = busy[torch.argsort(lengths[busy], stable=True)]
    yield from busy.split(CHUNK // TILE**2 // 8)


def _walk(columns: Columns, lists: _TileLists, batch: Tensor) -> Iterator[_Round]:
    """Rounds of the ellipses of a batch of tiles, from near to far, until all pixels have ended."""
    starts, ends = lists.starts[batch], lists.starts[batch + 1]
    left, top = (batch % lists.columns * TILE, batch.div(lists.columns, rounding_mode="floor") * TILE)
    centres = torch.arange(TILE, device=batch.device) + 0.5
    transmittance = columns.new_ones(len(batch), TILE, TILE)
    live = torch.ones_like(transmittance, dtype=torch.bool)
    rows, done = torch.arange(len(batch), device=batch.device), 0
    while len(rows):
        longest = int((ends[rows] - starts[rows]).max()) - done
        size = max(1, min(longest, CHUNK // TILE**2 // len(rows)))
        place = starts[rows, None] + done + torch.arange(size, device=batch.device)  # [B, K]
        valid = place < ends[rows, None]
        members = lists.members[place.clamp(max=len(lists.members) - 1)]
        splats = columns[members]
        dx = left[rows, None, None] + centres - splats[..., 0, None]
        dy = top[rows, None, None] + centres - splats[..., 1, None]
        a, b, c, opacity = splats[..., 2:6, None].unbind(2)  # each [B, K, 1]
        power = (b * dy)[..., None] * dx[..., None, :]
        power += (0.5 * a * dx * dx)[..., None, :]
        power += (0.5 * c * dy * dy)[..., None]
        falloff = power.neg_().exp_()
        alphas = (opacity[..., None] * falloff).clamp_max_(MAX_ALPHA)
        seen = (alphas >= MIN_ALPHA) & valid[..., None, None]
        passing = torch.where(seen, 1 - alphas, 1.0)
        after = passing.cumprod(1).mul_(transmittance[rows, None])
        adds = seen & (after > MIN_TRANSMITTANCE) & live[rows, None]
        before = torch.cat([transmittance[rows, None], after[:, :-1]], 1)
        yield _Round(rows, members, valid, splats, dx, dy, falloff, alphas, before, adds, alphas * before * adds)
        live[rows] &= after[:, -1] > MIN_TRANSMITTANCE
        transmittance[rows] = after[:, -1]
        done += size
        rows = rows[(ends[rows] - starts[rows] > done) & live[rows].flatten(1).any(1)]


def _through_alpha(round_: _Round, by_alpha: Tensor) -> Tensor:
    """Gradients by mean, conic and opacity [B, K, 6] from those by alpha [B, K, P]."""
    dx, dy, (a, b, c, opacity) = round_.dx, round_.dy, round_.splats[..., 2:6, None].unbind(2)
    moves = round_.adds & (opacity[..., None] * round_.falloff <= MAX_ALPHA)  # a clamped alpha moves with nothing
    by_falloff = by_alpha.view_as(round_.falloff) * round_.falloff * moves
    by_opacity = by_falloff.sum((2, 3))
    by_power = by_falloff * opacity[..., None]
    along_x, along_y = by_power.sum(2), by_power.sum(3)  # [B, K, TILE]
    x, y = (along_x * dx).sum(-1), (along_y * dy).sum(-1)
    xy = ((by_power @ dx[..., None])[..., 0] * dy).sum(-1)
    a, b, c = a[..., 0], b[..., 0], c[..., 0]
    columns = (
        a * x + b * y,
        b * x + c * y,
        -0.5 * (along_x * dx * dx).sum(-1),
        -xy,
        -0.5 * (along_y * dy * dy).sum(-1),
        by_opacity,
    )
    return torch.stack(columns, -1)


def _to_picture(tiles: Tensor, columns: int, width: int, height: int) -> Tensor:
    whole = tiles.view(-1, columns, 5, TILE, TILE).permute(2, 0, 3, 1, 4).reshape(5, -1, columns * TILE)
    return whole[:, :height, :width].contiguous()


def _to_tiles(picture: Tensor, columns: int) -> Tensor:
    height, width = picture.shape[1:]
    padded = torch.nn.functional.pad(picture, (0, columns * TILE - width, 0, -height % TILE))
    return padded.view(5, -1, TILE, columns, TILE).permute(1, 3, 0, 2, 4).reshape(-1, 5, TILE * TILE)
