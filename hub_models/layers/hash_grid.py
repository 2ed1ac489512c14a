"""Multiresolution hash grid (Mueller et al. 2022, arXiv 2201.05989): features of any point of the unit cube."""

import ctypes
import itertools
from ctypes import Structure, c_int, c_int64, c_void_p
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .compiled_twin import compiled_twin

PRIMES = (1, 2654435761, 805459861)  # of x, y and z; tables learned with others, or in another order, mean nothing
MASK = 2**32 - 1
SPREAD_AT_START = 1e-4


class HashGrid(nn.Module):
    """Tables of feature vectors at the corners of cubic grids from coarse to fine, interpolated trilinearly.

    A level whose corners fit into `2**log2_size` rows has a row for each; finer ones share rows by a hash.

    Args:
        levels: number of grids, at least 1.
        features: numbers a row.
        log2_size: of the most rows that a level has.
        base_resolution, max_resolution: cells along a side of the coarsest and of the finest grid, between which
            resolutions grow geometrically (equations 2 and 3).
    """

    def __init__(
        self, levels: int = 16, features: int = 4, log2_size: int = 18, base_resolution: int = 16,
        max_resolution: int = 2048,
    ) -> None:  # fmt: skip
        super().__init__()
        growth = (max_resolution / base_resolution) ** (1 / max(levels - 1, 1))
        self.resolutions = [int(base_resolution * growth**level + 1e-6) for level in range(levels)]
        sizes = [min(2**log2_size, (resolution + 1) ** 3) for resolution in self.resolutions]
        self.features = features
        self.firsts = [sum(sizes[:level]) for level in range(levels + 1)]
        self.table = nn.Parameter(torch.empty(self.firsts[-1], features).uniform_(-SPREAD_AT_START, SPREAD_AT_START))

    @property
    def out_features(self) -> int:
        """Numbers that a query returns."""
        return len(self.resolutions) * self.features

    def forward(
        self, points: Float[Tensor, "points 3"], table: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "points out_features"]:
        """Features of points in [0, 1]^3, differentiable by points and table; outside, the border cells go on.

        Args:
            points: where.
            table: to look up in instead of `self.table`, such as a quantised copy.
        """
        table = self.table if table is None else table
        if torch.compiler.is_compiling():  # what is exported must consist of torch operations
            return self.look_up(points, table)
        if _library() is not None and table.device.type == "cpu" and table.dtype == points.dtype == torch.float32:
            result: Tensor = _Lookup.apply(points, table, self.resolutions, self.firsts)
            return result
        return self.look_up(points, table)

    def look_up(
        self, points: Float[Tensor, "points 3"], table: Float[Tensor, "rows features"]
    ) -> Float[Tensor, "points out_features"]:
        """`forward` in torch operations, which the compiled form is held to."""
        bits = torch.tensor(list(itertools.product((0, 1), repeat=3)), device=points.device)  # [8, 3]
        results = []
        for resolution, (first, end) in zip(self.resolutions, pairwise(self.firsts), strict=True):
            place = points * resolution
            cell = place.detach().floor().nan_to_num(0).clamp(0, resolution - 1)
            along = (place - cell)[:, None]  # [N, 1, 3]
            weights = torch.where(bits.bool(), along, 1 - along).prod(-1)  # [N, 8]
            rows = first + _rows(cell.long()[:, None] + bits, resolution, end - first)
            corners = table.index_select(0, rows.flatten()).view(*rows.shape, -1)  # [N, 8, F]
            results.append((weights[..., None] * corners).sum(1))
        return torch.cat(results, -1)


def _rows(corners: Tensor, resolution: int, size: int) -> Tensor:
    side = resolution + 1
    if side**3 <= size:
        return corners[..., 0] + side * (corners[..., 1] + side * corners[..., 2])
    x, y, z = ((corners * torch.tensor(PRIMES, device=corners.device)) & MASK).unbind(-1)
    return (x ^ y ^ z) & (size - 1)


class _Level(Structure):
    _fields_ = (("resolution", c_int64), ("first", c_int64), ("size", c_int64))


def _library() -> ctypes.CDLL | None:
    return compiled_twin(Path(__file__).with_name("hash_grid.cpp"))


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, resolutions: list[int], firsts: list[int]) -> Tensor:
        points, table = points.contiguous(), table.contiguous()
        sizes = [end - first for first, end in pairwise(firsts)]
        ctx.levels = (_Level * len(sizes))(*zip(resolutions, firsts, sizes, strict=False))
        ctx.save_for_backward(points, table)
        result = points.new_empty(len(points), len(sizes) * table.shape[1])
        _library().hash_grid_forward(*_sizes(points, table, ctx.levels), _at(points), _at(table), _at(result))
        return result

    @staticmethod
    def backward(ctx: Any, by_result: Tensor) -> tuple[Tensor | None, ...]:
        points, table = ctx.saved_tensors
        by_result, by_table = by_result.contiguous(), torch.zeros_like(table)
        by_points = torch.zeros_like(points) if ctx.needs_input_grad[0] else None
        tensors = (points, table, by_result, by_table)
        target = None if by_points is None else _at(by_points)
        _library().hash_grid_backward(*_sizes(points, table, ctx.levels), *map(_at, tensors), target)
        return by_points, by_table, None, None


def _sizes(points: Tensor, table: Tensor, levels: Any) -> tuple[Any, ...]:
    numbers = c_int(torch.get_num_threads()), c_int64(len(points)), c_int(len(levels)), c_int(table.shape[1])
    return *numbers, levels


def _at(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())
