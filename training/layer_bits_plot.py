"""The picture of a network's bits: a bar for each layer, as wide as its weights are many, as high as their bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path

from ..pipelines.files import whole_file
from .plot import import_figure

COLORS = ("#b5c9e8", "#7fa6d6", "#4a7fbf", "#2e5a97", "#edae49", "#e07b39", "#d1495b", "#7d1d3f")
"""Of 1 to 8 bits."""
NAMED_SHARE = 0.03
"""Blocks with less of the figure's width go without a name of their own."""
LATE = ("mid_block", "up_blocks", "conv_norm_out", "conv_out")
"""Parts of a UNet in the order in which it computes, after all others; it lists its up blocks before the middle one."""


@dataclass(frozen=True)
class LayerBits:
    """A layer of a network.

    Attributes:
        name: with dots, as `named_modules` has it.
        bits: of a weight, 1 to 8.
        weights: how many there are.
    """

    name: str
    bits: int
    weights: int


def draw_layer_bits(path: str | Path, title: str, layers: Sequence[LayerBits]) -> Path:
    """Draw the bits of a network's layers into a PNG: above by share of the weights, below layer by layer.

    By share of the weights a small layer cannot be seen, layer by layer a large one is as narrow as any other.

    Args:
        path: of the PNG, which appears whole or not at all; its folder is made.
        title: above both rows.
        layers: at least one, in the order of `named_modules`.

    Returns:
        `path`.

    Raises:
        ValueError: no layers, a layer without weights, or bits outside 1 to 8.
        ModuleNotFoundError: matplotlib is missing.
        OSError: the picture cannot be written.
    """
    if not layers:
        raise ValueError("layers must be at least one, not none.")
    for layer in layers:
        if layer.bits not in range(1, 9) or layer.weights < 1:
            found = f"{layer.weights} weights of {layer.bits} bits"
            raise ValueError(f"{layer.name} must have at least 1 weight of 1 to 8 bits, not {found}.")
    layers = sorted(layers, key=_place)
    figure = import_figure()(figsize=(11, 6.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    by_weights, by_layer = figure.subplots(2, 1)
    _draw_row(by_weights, layers, [layer.weights for layer in layers], "share of the weights")
    _draw_row(by_layer, layers, [1] * len(layers), "layer by layer")
    figure.legend(handles=_legend(layers), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    with whole_file(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
    return Path(path)


def block_of(name: str) -> str:
    """The block of a layer: the list of blocks with its number, else the first part of its name.

    "down_blocks.0.resnets.1.conv1" is of "down_blocks.0", "mid_block.attentions.0.proj_in" of "mid_block".
    """
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return f"{first}.{number}" if number.isdigit() else first


def _place(layer: LayerBits) -> int:
    part = layer.name.partition(".")[0]
    return LATE.index(part) + 1 if part in LATE else 0


def _draw_row(axes, layers: Sequence[LayerBits], widths: Sequence[int], what: str) -> None:
    total, ends = sum(widths), list(accumulate(widths))
    lefts = [(end - width) / total for end, width in zip(ends, widths, strict=True)]
    axes.bar(
        lefts, [layer.bits for layer in layers], [width / total for width in widths], align="edge",
        color=[COLORS[layer.bits - 1] for layer in layers],
    )  # fmt: skip
    _name_blocks(axes, layers, lefts)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 8.5)
    axes.set_yticks(range(9))
    axes.set_ylabel("bits a weight", fontsize=9)
    axes.set_title(f"Width: {what}", fontsize=10, loc="left")
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _name_blocks(axes, layers: Sequence[LayerBits], lefts: Sequence[float]) -> None:
    """A line before each block, and its name below unless it is too narrow for one."""
    blocks = groupby(zip(layers, lefts, strict=True), lambda one: block_of(one[0].name))
    starts = [(block, next(places)[1]) for block, places in blocks]
    edges = [left for _, left in starts] + [1.0]
    middles, names = [], []
    for (block, _), left, right in zip(starts, edges[:-1], edges[1:], strict=True):
        axes.axvline(left, color="#8d99ae", linewidth=0.6, zorder=0)
        if right - left >= NAMED_SHARE:
            middles.append((left + right) / 2)
            names.append(block.replace("_blocks", "").replace("_block", "").replace(".", " "))
    axes.set_xticks(middles, names)
    axes.tick_params(axis="x", length=0)


def _legend(layers: Sequence[LayerBits]) -> list:
    """A patch for each number of bits that occurs, with the share of the weights that take it."""
    from matplotlib.patches import Patch

    total = sum(layer.weights for layer in layers)
    entries = []
    for bits in sorted({layer.bits for layer in layers}):
        own = [layer.weights for layer in layers if layer.bits == bits]
        label = f"{bits} bit{'' if bits == 1 else 's'}: {len(own)} layers, {_share(sum(own) / total)}"
        entries.append(Patch(color=COLORS[bits - 1], label=label))
    return entries


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.0005 else "under 0.1%"
