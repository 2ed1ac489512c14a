"""What AsCAN costs at its full sizes: parameters and operations against remembered budgets, seconds against peers.

The paper's tables are not at hand: budgets are remembered, not published, and every claim says so.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch

from ....hub_models.transformer_ascan import AsCANModel
from ....hub_models.unet_ascan import AsCANUNet2DModel
from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.bars import draw_costs
from ...figures.lines import Line, draw_lines
from ...results import Row, band
from ...scores.operations import count_operations, count_parameters
from ...timing.contest import Contender
from ...timing.cost_rows import EXACT, CostClaim, cost_rows, measure_costs, seconds_panel
from ...timing.network_work import WORDS, Mode
from .contenders import CLASSIFIERS, OURS, PIXELS, new_classifier, new_coatnet, new_dit
from .settings import Settings

BUILDERS = f"{__package__}.contenders"
PARAMETER_TOLERANCE, OPERATION_TOLERANCE = 0.03, 0.05  # of remembered budgets, in both directions
DIT_SHARE = 0.55  # "about half"


class Budget(NamedTuple):
    """Million parameters, and billion multiplications with addition (GMACs) for a picture of 224 pixels a side."""

    parameters: float
    operations: float


REMEMBERED = {"tiny": Budget(55, 7.7), "base": Budget(98, 16.7), "large": Budget(173, 30.7)}
COATNETS = {"CoAtNet-1": Budget(42, 8.4), "CoAtNet-2": Budget(75, 15.7)}
DIT_GMACS = 118.6  # of a step, as DiT's authors count (arXiv 2212.09748, table 1)


# --- exact ----------------------------------------------------------------------------------------------------


def measure_parameters(settings: Settings, run: Run) -> Iterator[Row]:
    """Parameter counts on the meta device; exact, so without interval and hardware."""
    for preset, budget in REMEMBERED.items():
        with torch.device("meta"):
            ours = count_parameters(AsCANModel.from_preset(preset)) / 1e6
        claim = (
            f"The classifier {preset} has {budget.parameters:g} M parameters, within 3 %: remembered, not published."
        )
        yield _against_budget(run, preset, claim, ours, budget.parameters, PARAMETER_TOLERANCE)
    for name, budget in COATNETS.items():
        with torch.device("meta"):
            ours = count_parameters(new_coatnet(name)) / 1e6
        claim = (
            f"{name} as strings of the same grammar has {budget.parameters:g} M parameters, within 3 %: CoAtNet's own "
            "number, remembered, which checks the C and T blocks."
        )
        yield _against_budget(run, name.lower(), claim, ours, budget.parameters, PARAMETER_TOLERANCE)


def measure_operations(settings: Settings, run: Run) -> Iterator[Row]:
    """GMACs of a picture or of a denoising step, on the meta device; exact."""
    for preset, budget in REMEMBERED.items():
        with torch.device("meta"):
            ours = gmacs_of(AsCANModel.from_preset(preset).eval())
        claim = (
            f"The classifier {preset} needs {budget.operations:g} GMACs for a picture of {PIXELS}x{PIXELS} pixels, "
            "within 5 %: remembered, not published."
        )
        yield _against_budget(run, preset, claim, ours, budget.operations, OPERATION_TOLERANCE)
    ours, dit = generator_gmacs(), dit_gmacs()
    yield run.row(
        "operations-imagenet256",
        f"A step of the ImageNet 256 generator needs about half of DiT-XL/2's operations, at most {DIT_SHARE}.",
        measured=ours, unit="GMACs", target=DIT_SHARE * DIT_GMACS,
        rival="DiT-XL/2 of diffusers, counted alike", rival_measured=dit, **EXACT,
    )  # fmt: skip


def _against_budget(run: Run, name: str, claim: str, ours: float, budget: float, tolerance: float) -> Row:
    unit = {"parameters": "million parameters", "operations": "GMACs"}[run.measurement]
    return run.row(
        f"{run.measurement}-{name}", claim, measured=ours, unit=unit, target=band(budget, tolerance),
        rival="the remembered number", rival_measured=budget, **{**EXACT, "better": "within"},
    )  # fmt: skip


@cache
def classifier_gmacs(name: str, pixels: int) -> float:
    """GMACs of one picture by `OURS` or a rival of `CLASSIFIERS` that was made for pictures of this size."""
    with torch.device("meta"):
        return gmacs_of(new_classifier(name, pixels), pixels)


def gmacs_of(network: torch.nn.Module, pixels: int = PIXELS) -> float:
    """GMACs of one picture, on torch's current device."""
    return count_operations(network, torch.randn(1, 3, pixels, pixels)) / 2e9


def generator_gmacs() -> float:
    """GMACs of a step of the preset imagenet256 at 32 x 32 latents."""
    with torch.device("meta"):
        unet, label = AsCANUNet2DModel.from_preset("imagenet256").eval(), torch.zeros(1, dtype=torch.long)
        return count_operations(unet, torch.randn(1, 4, 32, 32), torch.zeros(1), class_labels=label) / 2e9


def dit_gmacs() -> float:
    """GMACs of a step of DiT-XL/2 at 32 x 32 latents."""
    with torch.device("meta"):
        dit, label = new_dit(), torch.zeros(1, dtype=torch.long)
        return count_operations(dit, torch.randn(1, 4, 32, 32), timestep=label, class_labels=label) / 2e9


# --- timed ----------------------------------------------------------------------------------------------------


def measure_resolution(settings: Settings, run: Run) -> Iterator[Row]:
    """GMACs and seconds of `tiny` from small pictures to large ones; draws ascan-resolution.png.

    Attention is quadratic, so cost may grow faster than the number of pixels. ViT, all attention, is counted beside.
    """
    import_figure()
    sides, does = settings.resolutions, "The classifier tiny classifies a picture of {0}x{0} pixels"
    for side in sides:
        ours, vit = (classifier_gmacs(name, side) for name in (OURS, "ViT"))
        yield run.row(
            f"resolution-operations-{side}", f"{does.format(side)} with so many operations.", measured=ours,
            unit="GMACs", rival="ViT of its size, counted alike", rival_measured=vit, **EXACT,
        )  # fmt: skip
    contenders = [_contender(f"{side} pixels", OURS, "eager", 1, side) for side in sides]
    costs = measure_costs(run, contenders, settings.repeats, settings.threads)
    yield from cost_rows(run, costs, [
        CostClaim(
            id=f"resolution-seconds-{side}", claim=f"{does.format(side)} in so many seconds: eager, float32.",
            quantity="seconds", contender=f"{side} pixels",
        )
        for side in sides
    ])  # fmt: skip
    draw_lines(
        run.picture_path("resolution"),
        "Cost of classifying one picture",
        ("side of the picture, pixels", "GMACs"),
        [Line(name, sides, [classifier_gmacs(name, side) for side in sides]) for name in (OURS, *CLASSIFIERS)],
        log=(True, True),
    )


def measure_throughput(settings: Settings, run: Run) -> Iterator[Row]:
    """Pictures a second and memory of `tiny` and of its peers, for every mode and batch; draws ascan-MODE.png."""
    import_figure()
    for mode in settings.modes:
        panels = []
        for batch in settings.batches:
            contenders = [_contender(name, name, mode, batch, settings.pixels) for name in (OURS, *CLASSIFIERS)]
            costs = measure_costs(run, contenders, settings.repeats, settings.threads, part=f"{mode}-{batch}")
            at_once = f"{batch} picture{'s' if batch > 1 else ''} at once"
            for name in CLASSIFIERS:
                yield from cost_rows(run, costs, _throughput_claims(name, mode, batch, at_once))
            panels.append(seconds_panel(f"ms a picture, {at_once}", costs, 1000 / batch))
        title = f"Classification at {settings.pixels}x{settings.pixels}, {WORDS[mode]}, {settings.threads} threads"
        draw_costs(run.picture_path(mode), title, panels)


def _throughput_claims(rival: str, mode: Mode, batch: int, at_once: str) -> Iterator[CostClaim]:
    conditions = f"beside a {rival} within 10 % of its parameters, {at_once}: {WORDS[mode]}, random weights."
    for id, quantity, what in (
        ("throughput", "rate", "Pictures a second that the classifier tiny classifies"),
        ("memory", "memory", "Memory in which the classifier tiny classifies"),
    ):
        yield CostClaim(
            id=f"{id}-{rival.lower()}-{mode}-{batch}", claim=f"{what}, {conditions}", quantity=quantity, rival=rival,
            amount=batch,
        )  # fmt: skip


def _contender(label: str, name: str, mode: Mode, batch: int, pixels: int) -> Contender:
    arguments = {"name": name, "mode": mode, "batch": batch, "pixels": pixels}
    a_picture = (0.06 if name == OURS else 0.02) * (pixels / PIXELS) ** 2  # C blocks widen maps of high resolution
    memory = 1.2 + batch * a_picture
    return Contender(name=label, build=f"{BUILDERS}:build_classification", arguments=arguments, memory_gb=memory)
