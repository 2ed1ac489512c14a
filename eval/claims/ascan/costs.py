"""What AsCAN costs at its full sizes: parameters and operations against remembered budgets, seconds against peers.

The paper's tables are not at hand: budgets are remembered, not published, and every claim says so.
"""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import torch

from ....hub_models.transformer_ascan import AsCANModel
from ....hub_models.unet_ascan import AsCANUNet2DModel
from ....pipelines.result_folder import hardware
from ....training.plot import import_figure
from ...benchmark import new_row, record_path
from ...figures.bars import Bar, Panel, draw_costs
from ...figures.lines import Line, draw_lines
from ...results import Row
from ...scores.operations import count_operations, count_parameters
from ...timing.contest import Contender, Measurement, run_contenders
from .contenders import CLASSIFIERS, OURS, PIXELS, Mode, new_classifier, new_coatnet, new_dit

BUILDERS = f"{__package__}.contenders"
PARAMETER_TOLERANCE, OPERATION_TOLERANCE = 1.03, 1.05
DIT_SHARE = 0.55  # "about half"


class Budget(NamedTuple):
    """Million parameters, and billion multiplications with addition (GMACs) for a picture of 224 pixels a side."""

    parameters: float
    operations: float


REMEMBERED = {"tiny": Budget(55, 7.7), "base": Budget(98, 16.7), "large": Budget(173, 30.7)}
COATNETS = {"CoAtNet-1": Budget(42, 8.4), "CoAtNet-2": Budget(75, 15.7)}
DIT_GMACS = 118.6  # of a step, as DiT's authors count (arXiv 2212.09748, table 1)

row = partial(new_row, "ascan")
EXACT: dict[str, Any] = {"size": "paper", "better": "lower", "hardware": None}


class CostSettings(Protocol):
    """What the measurements read of the benchmark's settings.

    Attributes:
        modes: how networks run: eager, compiled, onnx.
        batches: pictures that are classified at once.
        pixels: side of those pictures.
        resolutions: sides of the pictures whose cost is compared.
        repeats: timed calls of each contender.
        threads: of each contender.
    """

    modes: tuple[Mode, ...]
    batches: tuple[int, ...]
    pixels: int
    resolutions: tuple[int, ...]
    repeats: int
    threads: int


# --- exact ----------------------------------------------------------------------------------------------------


def measure_parameters(settings: CostSettings, output: Path) -> Iterator[Row]:
    """Parameter counts on the meta device; exact, so without interval and hardware."""
    for preset, budget in REMEMBERED.items():
        with torch.device("meta"):
            ours = count_parameters(AsCANModel.from_preset(preset)) / 1e6
        claim = (
            f"The classifier {preset} has {budget.parameters:g} M parameters, within 3 %: remembered, not published."
        )
        yield _against_budget("parameters", preset, claim, ours, budget.parameters, PARAMETER_TOLERANCE)
    for name, budget in COATNETS.items():
        with torch.device("meta"):
            ours = count_parameters(new_coatnet(name)) / 1e6
        claim = (
            f"{name} as strings of the same grammar has {budget.parameters:g} M parameters, within 3 %: CoAtNet's own "
            "number, remembered, which checks the C and T blocks."
        )
        yield _against_budget("parameters", name.lower(), claim, ours, budget.parameters, PARAMETER_TOLERANCE)


def measure_operations(settings: CostSettings, output: Path) -> Iterator[Row]:
    """GMACs of a picture or of a denoising step, on the meta device; exact."""
    for preset, budget in REMEMBERED.items():
        with torch.device("meta"):
            ours = gmacs_of(AsCANModel.from_preset(preset).eval())
        claim = (
            f"The classifier {preset} needs {budget.operations:g} GMACs for a picture of {PIXELS}x{PIXELS} pixels, "
            "within 5 %: remembered, not published."
        )
        yield _against_budget("operations", preset, claim, ours, budget.operations, OPERATION_TOLERANCE)
    ours, dit = generator_gmacs(), dit_gmacs()
    yield row(
        "operations", "operations-imagenet256",
        f"A step of the ImageNet 256 generator needs about half of DiT-XL/2's operations, at most {DIT_SHARE}.",
        measured=ours, unit="GMACs", target=DIT_SHARE * DIT_GMACS,
        rival="DiT-XL/2 of diffusers, counted alike", rival_measured=dit, **EXACT,
    )  # fmt: skip


def _against_budget(measurement: str, name: str, claim: str, ours: float, budget: float, tolerance: float) -> Row:
    unit = {"parameters": "million parameters", "operations": "GMACs"}[measurement]
    rival = {"rival": "the remembered number", "rival_measured": budget}
    return row(measurement, f"{measurement}-{name}", claim, measured=ours, unit=unit, target=budget * tolerance,
               **rival, **EXACT)  # fmt: skip


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


def measure_resolution(settings: CostSettings, output: Path) -> Iterator[Row]:
    """GMACs and seconds of `tiny` from small pictures to large ones; draws `output`/ascan-resolution.png.

    Attention is quadratic, so cost may grow faster than the number of pixels. ViT, all attention, is counted beside.
    """
    import_figure()
    sides = settings.resolutions
    for side in sides:
        ours, vit = (classifier_gmacs(name, side) for name in (OURS, "ViT"))
        claim = f"The classifier tiny classifies a picture of {side}x{side} pixels with so many operations."
        rival = {"rival": "ViT of its size, counted alike", "rival_measured": vit}
        yield row("resolution", f"resolution-operations-{side}", claim, measured=ours, unit="GMACs", **rival, **EXACT)
    contenders = [_contender(f"{side} pixels", OURS, "eager", 1, side) for side in sides]
    for side, found in zip(sides, _run(contenders, "resolution", settings, output), strict=True):
        claim = f"The classifier tiny classifies a picture of {side}x{side} pixels in so many seconds: eager, float32."
        yield _seconds_row(f"resolution-seconds-{side}", claim, found, settings)
    draw_lines(
        output / "ascan-resolution.png",
        "Cost of classifying one picture",
        ("side of the picture, pixels", "GMACs"),
        [Line(name, sides, [classifier_gmacs(name, side) for side in sides]) for name in (OURS, *CLASSIFIERS)],
        log=(True, True),
    )


def measure_throughput(settings: CostSettings, output: Path) -> Iterator[Row]:
    """Pictures a second of `tiny` and of its peers, for every mode and batch; draws `output`/ascan-MODE.png.

    What failed has a row too: ours as 0 pictures a second, a rival without a number.
    """
    import_figure()
    for mode in settings.modes:
        panels = []
        for batch in settings.batches:
            contenders = [_contender(name, name, mode, batch, settings.pixels) for name in (OURS, *CLASSIFIERS)]
            found = _run(contenders, f"throughput-{mode}-{batch}", settings, output)
            for rival in found[1:]:
                yield _throughput_row(mode, batch, found[0], rival, settings)
            panels.append(_panel(batch, found))
        title = f"Classification at {settings.pixels}x{settings.pixels}, {_WORDS[mode]}, {settings.threads} threads"
        draw_costs(output / f"ascan-{mode}.png", title, panels)


_WORDS = {
    "eager": "float32, eager on the CPU",
    "compiled": "float32, torch.compile on the CPU",
    "onnx": "float32 in ONNX Runtime on the CPU",
}
assert set(_WORDS) == set(get_args(Mode))


def _contender(label: str, name: str, mode: Mode, batch: int, pixels: int) -> Contender:
    arguments = {"name": name, "mode": mode, "batch": batch, "pixels": pixels}
    a_picture = (0.06 if name == OURS else 0.02) * (pixels / PIXELS) ** 2  # C blocks widen maps of high resolution
    memory = 1.2 + batch * a_picture
    return Contender(name=label, build=f"{BUILDERS}:build_classification", arguments=arguments, memory_gb=memory)


def _run(contenders: list[Contender], name: str, settings: CostSettings, output: Path) -> list[Measurement]:
    return run_contenders(contenders, settings.repeats, settings.threads, record_path(output, "ascan", name))


def _throughput_row(mode: Mode, batch: int, ours: Measurement, rival: Measurement, settings: CostSettings) -> Row:
    claim = (
        f"Pictures a second that the classifier tiny classifies, beside a {rival.name} within 10 % of its parameters, "
        f"{_counted(batch, 'picture')} at once: {_WORDS[mode]}, random weights."
    )
    low_high = None if ours.error or ours.interval is None else tuple(batch / s for s in reversed(ours.interval))
    return row(
        "throughput", f"throughput-{rival.name.lower()}-{mode}-{batch}", claim + _failure(ours),
        measured=0.0 if ours.error else batch / ours.median_seconds, interval=low_high, unit="pictures/s",
        n=max(1, len(ours.seconds)), rival=rival.name if not rival.error else f"{rival.name}, which failed",
        rival_measured=None if rival.error else batch / rival.median_seconds, **_timed(settings),
    )  # fmt: skip


def _seconds_row(id: str, claim: str, found: Measurement, settings: CostSettings) -> Row:
    if found.error:
        raise ValueError(f"{OURS} could not be measured for {id}: {found.error}")
    return row("resolution", id, claim, measured=found.median_seconds, interval=found.interval, unit="s",
               better="lower", n=len(found.seconds), **_timed(settings))  # fmt: skip


def _failure(ours: Measurement) -> str:
    return f" It failed: {ours.error.rstrip('.')}." if ours.error else ""


def _timed(settings: CostSettings) -> dict[str, Any]:
    return {"size": "paper", "seed": 0, "hardware": hardware(settings.threads)}


def _panel(batch: int, found: list[Measurement]) -> Panel:
    bars = []
    for one in found:
        interval = None if one.error or one.interval is None else tuple(1000 * s / batch for s in one.interval)
        bars.append(Bar(one.name, None if one.error else 1000 * one.median_seconds / batch, interval))
    return Panel(f"ms a picture, {_counted(batch, 'picture')} at once", bars)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count > 1 else ''}"
