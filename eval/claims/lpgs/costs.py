"""What LPGS costs: seconds and memory of its rasteriser, parameters of its networks, bytes of a scene of full size."""

from collections.abc import Iterator, Sequence

import torch

from ....hub_models.gaussians_lpgs import LPGSGaussians
from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.lines import Chart, Line, draw_charts
from ...results import Row, band
from ...timing.contest import Contender
from ...timing.cost_rows import EXACT, CostClaim, Costs, cost_rows, measure_costs
from .scenes import BIKER
from .settings import Settings

BUILDERS = f"{__package__}.contenders"
FORMS = ("compiled", "torch")
PASSES = {"forward": "draws", "backward": "draws and differentiates"}
SECONDS = {
    ("compiled", "forward"): 0.06,
    ("compiled", "backward"): 0.25,
    ("torch", "forward"): 1.0,
    ("torch", "backward"): 4.0,
}
TORCH_MEGABYTES = 1000
SCALED_COUNT = 100_000  # Gaussians of the pictures whose side changes

DERIVED_PARAMETERS = 42_000  # of the networks at D = 64 and two children, from what is known of the paper
GARDEN_PARENTS, GARDEN_MEGABYTES = 1_205_064, 39.4  # published by the authors
PARENT_BYTES, HALF_BYTES = 24, 2


# --- timed ----------------------------------------------------------------------------------------------------


def measure_rasterizer(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds and peak memory of both forms of the rasteriser, with and without gradients, on a real scene."""
    count = len(BIKER.read())
    contenders = [
        Contender(
            name=f"{form} {passes}", build=f"{BUILDERS}:build_scene", memory_gb=1.5,
            arguments={"form": form, "backward": passes == "backward", "side": settings.side},
        )
        for form in FORMS
        for passes in PASSES
    ]  # fmt: skip
    costs = measure_costs(run, contenders, settings.repeats, settings.threads)
    for form in FORMS:
        for passes, does in PASSES.items():
            what = (
                f"The {form} rasteriser {does} {BIKER.words} ({count:,} Gaussians) at {settings.side}x{settings.side} "
                "on the CPU, projection and binning included,"
            )
            rival = None if form == "torch" else f"torch {passes}"
            named = {"contender": f"{form} {passes}", "rival": rival}
            yield from cost_rows(run, costs, [
                CostClaim(
                    id=f"rasterizer-{form}-{passes}", claim=f"{what} in so many seconds.", quantity="seconds",
                    target=SECONDS[form, passes], **named,
                ),
                CostClaim(
                    id=f"rasterizer-memory-{form}-{passes}", quantity="memory",
                    claim=f"{what} in a process that holds at most so much memory.",
                    target=TORCH_MEGABYTES if form == "torch" else None, **named,
                ),
            ])  # fmt: skip


def measure_scaling(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds of a picture against the number of Gaussians and against its side; draws lpgs-scaling.png."""
    import_figure()
    charts = []
    for part, axis, unit, values, words in (
        ("gaussians", "thousands of Gaussians", 1000, settings.counts,
         f"a random cloud of {{:,}} Gaussians at {settings.side}x{settings.side}"),
        ("side", "side of the picture, pixels", 1, settings.sides,
         f"a random cloud of {SCALED_COUNT:,} Gaussians at {{0}}x{{0}}"),
    ):  # fmt: skip
        costs = _scaling_costs(settings, run, part, values)
        yield from cost_rows(run, costs, [
            CostClaim(
                id=f"scaling-{part}-{value}", quantity="seconds", contender=f"compiled {value}", rival=f"torch {value}",
                claim=f"The compiled rasteriser draws {words.format(value)} on the CPU in so many seconds.",
            )
            for value in values
        ])  # fmt: skip
        lines = [line for form in FORMS if (line := _line(form, values, unit, costs))]
        if lines:
            charts.append(Chart("Cost of a picture", (axis, "seconds"), lines, log=(True, True)))
    if charts:
        draw_charts(run.picture_path("scaling"), charts)


def _scaling_costs(settings: Settings, run: Run, part: str, values: Sequence[int]) -> Costs:
    fixed = {"count": SCALED_COUNT, "side": settings.side}
    changed = {"gaussians": "count", "side": "side"}[part]
    contenders = [
        Contender(
            name=f"{form} {value}", build=f"{BUILDERS}:build_cloud", memory_gb=1.5,
            arguments={"form": form, **fixed, changed: value},
        )
        for value in values
        for form in FORMS
    ]  # fmt: skip
    return measure_costs(run, contenders, settings.repeats, settings.threads, part)


def _line(form: str, values: Sequence[int], unit: int, costs: Costs) -> Line | None:
    """Seconds of a form, without those contenders that failed."""
    found = {value: costs.of(f"{form} {value}") for value in values}
    seconds = {value / unit: one.median_seconds for value, one in found.items() if one.error is None}
    return Line(f"{form} form", list(seconds), list(seconds.values())) if seconds else None


# --- exact ----------------------------------------------------------------------------------------------------


def measure_parameters(settings: Settings, run: Run) -> Iterator[Row]:
    """Parameters of the networks of the paper's configurations, and bytes of its scene garden; exact."""
    for preset in ("C1", "C2", "C3"):
        claim = f"The networks of {preset} have so few parameters, attention and four heads, without parents and grid"
        expected = {"better": "within", "target": band(DERIVED_PARAMETERS, 0.01)} if preset == "C3" else {}
        reason = ": about 42,000, within 1 %, derived from what is known of the paper." if expected else "."
        yield run.row(
            f"parameters-{preset.lower()}", claim + reason, measured=network_parameters(preset), unit="parameters",
            **{**EXACT, **expected},
        )  # fmt: skip
    yield run.row(
        "parameters-garden",
        f"The scene garden with its {GARDEN_PARENTS:,} published parents at {PARENT_BYTES} bytes, the grid of C3 with "
        "tables of 2^18 rows of 4 numbers at 8 bits, and networks in half precision takes so many bytes, before any "
        "entropy coding.",
        published=GARDEN_MEGABYTES, measured=garden_bytes() / 1e6, unit="MB", **EXACT,
    )  # fmt: skip


def network_parameters(preset: str) -> int:
    """Of all networks of a preset, without parents and grid."""
    scene = _on_meta(preset)
    stored = (scene.parent_means, scene.parent_log_scales, scene.grid.table)
    return sum(value.numel() for value in scene.parameters()) - sum(value.numel() for value in stored)


def garden_bytes() -> int:
    """Of the scene garden in the configuration C3: a grid of one byte a number."""
    return GARDEN_PARENTS * PARENT_BYTES + _on_meta("C3").grid.table.numel() + HALF_BYTES * network_parameters("C3")


def _on_meta(preset: str) -> LPGSGaussians:
    with torch.device("meta"):
        return LPGSGaussians.from_preset(preset)
