"""How large LightSpeed's and MobileR2L's networks are, and the bytes that a field takes."""

from collections.abc import Iterator

import torch
from torch import nn

from ....hub_models.field_lightspeed import LightSpeedField
from ....hub_models.layers.light_field_decoder import Tail
from ...benchmark import Run
from ...results import Row
from ...timing.cost_rows import EXACT
from .graphs import FRONTAL
from .rival_networks import MOBILE_R2L, MobileR2L
from .settings import Settings

PUBLISHED: dict[Tail, int] = {"8x": 4_305_539, "12x": 4_298_371}
"""Of MobileR2L's public code, counted in its network."""
PRESETS = {
    "paper": "of the paper's size, divided among five slabs,",
    "paper-frontal": "of the paper's size for frontal scenes",
    "nano": "of nano size",
}
HALF_BYTES, GRID_BYTES = 2, 1
LARGEST = 17.5  # MB


def measure_parameters(settings: Settings, run: Run) -> Iterator[Row]:
    """Parameters of every preset and of MobileR2L, and the bytes of a field; exact."""
    for tail, published in PUBLISHED.items():
        yield run.row(
            f"parameters-mobiler2l-{tail}", f"MobileR2L's network at {tail} has the parameters of its public code.",
            published=published, measured=sum(map(torch.numel, mobile_r2l(tail).parameters())), unit="parameters",
            **{**EXACT, "better": "within", "target": (published, published)},
        )  # fmt: skip
    for preset, words in PRESETS.items():
        field = on_meta(preset)
        grids, others = numbers_of(field)
        size = {"size": "nano"} if preset == "nano" else {}
        tail: Tail = field.config.tail
        yield run.row(
            f"parameters-{preset}", f"A field {words} has so many parameters, {grids:,} of them in its grids.",
            measured=grids + others, unit="parameters", rival=f"MobileR2L at {tail}", rival_measured=PUBLISHED[tail],
            **{**EXACT, **size},
        )  # fmt: skip
        if preset != FRONTAL.preset:  # its graphs themselves are weighed, in `measure_bundle`
            slabs = field.config.num_sub_scenes
            slab = "a slab of " if slabs > 1 else ""
            yield run.row(
                f"bytes-{preset}", f"With grids at 8 bits and the rest in half precision {slab}a field {words} takes "
                "at most so many bytes.", measured=(HALF_BYTES * others + GRID_BYTES * grids) / slabs / 1e6, unit="MB",
                target=None if preset == "nano" else LARGEST, rival=f"MobileR2L at {tail} in half precision",
                rival_measured=HALF_BYTES * PUBLISHED[tail] / 1e6, **{**EXACT, **size},
            )  # fmt: skip


def on_meta(preset: str) -> LightSpeedField:
    """A field of a preset without memory for its weights."""
    with torch.device("meta"):
        return LightSpeedField.from_preset(preset)


def mobile_r2l(tail: Tail) -> MobileR2L:
    """MobileR2L without memory for its weights."""
    with torch.device("meta"):
        return MobileR2L(1.0, 2.0, tail=tail, **MOBILE_R2L)


def numbers_of(field: nn.Module) -> tuple[int, int]:
    """How many numbers a field has in grids, and how many elsewhere."""
    named = [("grid" in name.split("."), value.numel()) for name, value in field.named_parameters()]
    return tuple(sum(count for in_grid, count in named if in_grid == wanted) for wanted in (True, False))
