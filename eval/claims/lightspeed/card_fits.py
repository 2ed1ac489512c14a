"""Fits to a real light field, the Stanford tarot cards: fields that differ only in how they tell rays apart."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ....hub_models.field_lightspeed import LightSpeedField
from ....pipelines.fitting.light_field_fitting import RayViews
from ....pipelines.fitting.loop import fit
from ....pipelines.fitting.run_folder import RunFolder
from ....pipelines.fitting.slabs_lightspeed import place_slabs
from ....training.datasets.posed_captures import read_captures
from ...protocol import protocol_hash
from ...real_data import real_data
from ...scores.view_likeness import Likeness, likeness_of
from ...timing.processes import call_in_processes
from ...timing.record import Record
from .rival_networks import Grid4DField, MobileR2L, PlueckerField
from .settings import Settings
from .timed_fits import TimedField, TimedFit

CARDS = "lightfields/stanford_tarot_cards_9x9_of_17x17"
OWNER = "the Stanford Computer Graphics Laboratory"

OURS, MOBILE_R2L, WIDE_R2L, PLUECKER, GRID_4D = "lightspeed", "mobiler2l", "mobiler2l-wide", "pluecker", "grid-4d"
SEEDS = {OURS: 2, MOBILE_R2L: 2, PLUECKER: 1, GRID_4D: 1, WIDE_R2L: 1}
NETWORK_RATE, GRID_RATE = 2e-3, 2e-2

# From where to where MobileR2L's points stand, in distances of the plane of focus, and their unit: what served it best
# of a few, about as the scene lies; and what one who does not know where the scene lies may take.
POINTS, WIDE_POINTS = (0.8, 1.25, 0.125), (0.5, 2.0, 0.5)
# 2,060,480 numbers; the six planes have 2,088,960. Finer in u and v, where the views are.
GRID_4D_SHAPES, GRID_4D_CHANNELS = ((3, 3, 14, 14), (5, 5, 28, 28), (9, 9, 54, 54)), 8


@dataclass(frozen=True)
class FitCurve:
    """What was measured of a fit.

    Attributes:
        name: in `SEEDS`.
        seed: of everything random.
        parameters: of the field.
        steps: after which it was looked at.
        seconds: of one CPU that its steps took until then.
        psnr, ssim: of held-out pictures, see `likeness`.
    """

    name: str
    seed: int
    parameters: int
    steps: list[int]
    seconds: list[float]
    psnr: list[float]
    ssim: list[float]


class Cards:
    """The tarot cards from a 9 x 9 grid of cameras: views to learn from, and views that are held out.

    Raises:
        MissingData: they are not here.
    """

    def __init__(self, side: int) -> None:
        folder = real_data(f"{CARDS}/manifest.json", OWNER).parent
        self.seen, self.held_out = (read_captures(folder, side, split).posed for split in ("train", "test"))

    @cached_property
    def words(self) -> str:
        """What is shown to whom, for a claim."""
        return (
            f"the Stanford tarot cards at {self.seen.height}x{self.seen.width} pixels, {len(self.seen)} views to learn "
            f"from and {len(self.held_out)} held out"
        )


def card_fits(settings: Settings, path: Path) -> Mapping[str, list[FitCurve]]:
    """Fits by name, one a seed; the first seed of all names before the next. They are kept in the record at `path`.

    Each has a folder beside the record, where an interrupted one goes on.
    """
    plan = settings.cards
    protocol = {
        "plan": asdict(plan), "model": settings.model, "planes": list(settings.card_grids),
        "rates": [NETWORK_RATE, GRID_RATE],
        "points": list(POINTS), "grid": [[*map(list, GRID_4D_SHAPES)], GRID_4D_CHANNELS],
    }  # fmt: skip
    record = Record(path, protocol, threads=1)
    done = {(one.name, one.seed): one for one in record.read(FitCurve)}
    drafts = f"{path.stem}-{protocol_hash(record.protocol)[:8]}"  # other settings have folders of their own
    wanted = [(name, seed) for seed in range(max(SEEDS.values())) for name, seeds in SEEDS.items() if seed < seeds]
    folders = {one: path.parent / f"{drafts}-{one[0]}-{one[1]}" for one in wanted}
    jobs = [(settings, *one, folders[one]) for one in wanted if one not in done]
    for curve in call_in_processes(fit_cards, jobs, settings.processes):
        one = curve.name, curve.seed
        done[one] = curve
        record.write(done.values())
        shutil.rmtree(folders[one])
    return {name: [done[name, seed] for seed in range(seeds)] for name, seeds in SEEDS.items()}


def fit_cards(settings: Settings, name: str, seed: int, folder: Path) -> FitCurve:
    """A fit from where an earlier run left it in `folder`, with what it showed of held-out views on its way."""
    plan, cards = settings.cards, Cards(settings.cards.side)
    torch.manual_seed(seed)
    model = LightSpeedField.from_preset(settings.model, grid_resolutions=settings.card_grids)
    place_slabs(model, cards.seen, slab="grid")
    seen, held_out = (RayViews.of_pictures(posed, model.scale) for posed in (cards.seen, cards.held_out))
    field = TimedField(FIELDS[name](model, seen))
    objective = TimedFit(field, seen, NETWORK_RATE, GRID_RATE)
    fit(objective, seen.batches(seed, plan.batch), plan.settings(seed, {"field": name}), folder, progress=False)
    found = []
    for step in plan.looks:
        field.load_state_dict(load_file(RunFolder(folder).checkpoint(step) / "field.safetensors"))
        found.append((float(field.seconds), *field_likeness(field, held_out)))
    parameters = sum(value.numel() for value in field.parameters())
    return FitCurve(name, seed, parameters, plan.looks, *map(list, zip(*found, strict=True)))


# --- fields ---------------------------------------------------------------------------------------------------


def _mobile_r2l(model: LightSpeedField, points: tuple[float, float, float]) -> MobileR2L:
    slab = model.slab()
    focus = float(slab.far - slab.near)
    return MobileR2L(*(distance * focus for distance in points), **decoder_of(model))


def _pluecker(model: LightSpeedField, seen: RayViews) -> PlueckerField:
    return PlueckerField.of_rays(seen.origins, seen.directions, **decoder_of(model))


def _grid_4d(model: LightSpeedField, seen: RayViews) -> Grid4DField:
    return Grid4DField(model.slab(), GRID_4D_SHAPES, GRID_4D_CHANNELS, **decoder_of(model))


FIELDS: dict[str, Callable[[LightSpeedField, RayViews], nn.Module]] = {
    OURS: lambda model, seen: model,
    MOBILE_R2L: lambda model, seen: _mobile_r2l(model, POINTS),
    WIDE_R2L: lambda model, seen: _mobile_r2l(model, WIDE_POINTS),
    PLUECKER: _pluecker,
    GRID_4D: _grid_4d,
}
"""A field of each name with the decoder of a field whose slab is placed, for views that it will learn from."""


def decoder_of(model: LightSpeedField) -> dict[str, Any]:
    """Options of a field's decoder."""
    return {name: model.config[name] for name in ("width", "blocks", "tail", "tail_channels", "body_skip")}


@torch.no_grad()
def field_likeness(field: nn.Module, views: RayViews) -> Likeness:
    """How like pictures is what a field shows along their rays."""
    rays = zip(views.origins.split(1), views.directions.split(1), strict=True)
    return likeness_of((field(*pair)[0] for pair in rays), views.images)
