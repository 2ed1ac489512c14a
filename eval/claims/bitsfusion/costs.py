"""What BitsFusion costs at the shape of Stable Diffusion 1.5: a step, loading, and how fast weights are packed."""

from collections.abc import Iterator

from ....pipelines.quantization_bitsfusion import quantize_folder
from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.bars import draw_costs
from ...results import Row
from ...timing.contest import Contender
from ...timing.cost_rows import CostClaim, cost_rows, measure_costs, memory_panel, seconds_panel
from .contenders import packed_layers
from .settings import Settings
from .shape import BITS, CACHE_STEPS, FULL, PACKED, shape_folder

BUILDERS = f"{__package__}.contenders"
OURS, FULL_PRECISION = "packed", "float32"
FOLDERS = {OURS: PACKED, FULL_PRECISION: f"{FULL}/unet"}
MEMORY = {OURS: 2.5, FULL_PRECISION: 6.0}  # GB that a step of Stable Diffusion 1.5's UNet, or loading it, needs at most
STEP_SLOWDOWN, STEP_MEMORY = 1.15, 0.3
RATES = {
    "initialise": ("initialisation", 0.55, "Scales of low-bit weights are found by ten rounds of alternating choice"),
    "pack": ("packing", 1.0, "Weights whose scales are given are packed into words"),
    "decode": ("decoding", 4.0, "Packed words are decoded to float32"),
}


def measure_unet_costs(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds and memory of a step and of loading, packed against float32; draws bitsfusion-costs.png."""
    import_figure()
    size, panels = settings.latent_size, []
    with shape_folder(settings.shape) as folder:
        quantize_folder(folder / FULL, folder / PACKED, BITS[settings.shape], cache_steps=CACHE_STEPS)
        # A pipeline's folder was packed: its UNet lies in it.
        places = {**FOLDERS, OURS: f"{PACKED}/unet"}
        for part, build, more in (("step", "build_step", {"size": size}), ("loading", "build_loading", {})):
            contenders = [
                Contender(
                    name=name, build=f"{BUILDERS}:{build}", arguments={"folder": place, **more},
                    memory_gb=MEMORY[name], folder=folder,
                )
                for name, place in places.items()
            ]  # fmt: skip
            costs = measure_costs(run, contenders, settings.repeats, settings.threads, part)
            yield from cost_rows(run, costs, unet_claims(part, size))
            panels += [seconds_panel(f"seconds, {part}", costs), memory_panel(costs)]
    draw_costs(run.picture_path("costs"), f"UNet at {BITS[settings.shape]} bits, {settings.threads} threads", panels)


def unet_claims(part: str, size: int) -> list[CostClaim]:
    """What is claimed of a part of the costs: "step" or "loading"."""
    if part == "step":
        what = f"A step of a batch of 2 at {size}x{size} latents with weights that stay packed, on the CPU,"
        limits = STEP_SLOWDOWN, STEP_MEMORY
    else:
        what, limits = "Loading the packed folder, against the float16 folder as float32,", (1.0, None)
    rival = {"rival": FULL_PRECISION}
    return [
        CostClaim(id=f"{part}-seconds", claim=f"{what} takes so many seconds.", quantity="seconds", **rival),
        CostClaim(
            id=f"{part}-slowdown", claim=f"{what} takes at most {limits[0]:g} times as long.", quantity="slowdown",
            target=limits[0], **rival,
        ),
        CostClaim(id=f"{part}-memory", claim=f"{what} holds at most so much.", quantity="memory", **rival),
        CostClaim(
            id=f"{part}-memory-share", quantity="memory share", target=limits[1],
            claim=f"{what} holds only this part of the memory, both above what imports hold.", **rival,
        ),
    ]  # fmt: skip


def measure_rates(settings: Settings, run: Run) -> Iterator[Row]:
    """Billions of bytes of float32 weights a second that are given scales, packed and decoded."""
    contenders = [
        Contender(
            name=task, build=f"{BUILDERS}:build_layers", arguments={"preset": settings.shape, "task": task},
            memory_gb=2.5,
        )
        for task in RATES
    ]  # fmt: skip
    costs = measure_costs(run, contenders, settings.repeats, settings.threads)
    gigabytes = sum(4 * shape.numel() for shape, _ in packed_layers(settings.shape)) / 1e9
    yield from cost_rows(run, costs, [
        CostClaim(
            id=f"rate-{id}", claim=f"{claim}: all layers of the recipe, as GB of float32 weights a second.",
            quantity="rate", contender=task, target=target, amount=gigabytes, rate_unit="GB/s",
        )
        for task, (id, target, claim) in RATES.items()
    ])  # fmt: skip
