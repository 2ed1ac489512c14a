"""BitsFusion without training beside other libraries: what the output loses, bytes on disk, and what a step takes."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor

from ....pipelines.pipeline_bitsfusion import BitsFusionPipeline
from ....training.datasets.captioned_images import pocketworld_images
from ....training.latents import encode_all, scaled
from ....training.plot import import_figure
from ...benchmark import MissingData, Run
from ...drawing import load_committed
from ...figures.bars import Bar, Panel, draw_costs
from ...figures.lines import Line, draw_lines
from ...results import Row
from ...timing.contest import Contender, Measurement
from ...timing.cost_rows import CostClaim, Costs, cost_rows, measure_costs, memory_panel, seconds_panel
from .rival_contenders import PROBES
from .settings import Settings
from .shape import FULL, shape_folder

BUILDERS = f"{__package__}.rival_contenders"
PYTHON, REQUIREMENTS = "POCKET_RIVALS_PYTHON", "eval/claims/bitsfusion/rivals.txt"
FULL_NANO = "bitsfusion-nano-full"
MEMORY_GB = 8.0  # that quantising Stable Diffusion 1.5's UNet, or a step of it, needs at most


@dataclass(frozen=True)
class Rival:
    """A way in which another library quantises.

    Attributes:
        library: of `rival_libraries.LIBRARIES`.
        bits: nominal ones of a weight.
        options: of that library.
    """

    library: str
    bits: int
    options: Mapping[str, Any]


BEST_OF_SDNQ = {
    "use_codebook": True, "use_hadamard": True, "scale_dtype": "uint8",
    "modules_to_not_convert": ["conv_in", "conv_out"],
}  # fmt: skip
RIVALS = {
    **{f"SDNQ uint{bits}": Rival("sdnq", bits, {"weights_dtype": f"uint{bits}"}) for bits in (2, 3, 4)},
    **{
        f"SDNQ uint{bits} codebook": Rival("sdnq", bits, {"weights_dtype": f"uint{bits}", **BEST_OF_SDNQ})
        for bits in (2, 3, 4)
    },
    **{f"quanto int{bits}": Rival("quanto", bits, {"weights": f"qint{bits}"}) for bits in (2, 4, 8)},
    **{
        f"quanto int{bits} inner": Rival("quanto", bits, {"weights": f"qint{bits}", "exclude": ["conv_in", "conv_out"]})
        for bits in (2, 4)
    },
    **{f"torchao int{bits}": Rival("torchao", bits, {"weight_dtype": f"int{bits}"}) for bits in (4, 8)},
    "GGUF TQ1_0": Rival("gguf", 2, {"type": "TQ1_0"}),
    "GGUF TQ2_0": Rival("gguf", 2, {"type": "TQ2_0"}),
    "GGUF Q4_0": Rival("gguf", 4, {"type": "Q4_0"}),
}
"""SDNQ as it comes and with all that helps it at few bytes; "inner" leaves the first and the last layer alone, as it
does there. torchao has no convolutions of so few bits and leaves them in float16."""
COSTED = ("SDNQ uint2", "SDNQ uint3", "SDNQ uint4", "quanto int2", "quanto int4", "quanto int8", "torchao int8",
          "GGUF TQ1_0", "GGUF TQ2_0", "GGUF Q4_0")  # fmt: skip
MOST_BITS = 4  # up to which ours is to be better at equal bytes


def rivals_python() -> Path:
    """The interpreter of the environment that has the rivals, which the variable POCKET_RIVALS_PYTHON names.

    Raises:
        MissingData: it names none.
    """
    named = os.environ.get(PYTHON)
    if not named or not Path(named).is_file():
        what = f"is {named}, which is no file" if named else "is not set"
        raise MissingData(f"{PYTHON} {what}: set it to the python of an environment made by {REQUIREMENTS}.")
    return Path(named).absolute()


# --- what the output loses ------------------------------------------------------------------------------------


def measure_rivals(settings: Settings, run: Run) -> Iterator[Row]:
    """Error of the nano UNet's output and bytes on disk, each rival beside ours at no more bytes; draws a curve."""
    import_figure()
    python, source = rivals_python(), settings.checkpoints / FULL_NANO
    with TemporaryDirectory(prefix="bitsfusion-") as name:
        folder = Path(name)
        pipeline = load_committed("bitsfusion", source)
        shutil.copytree(source / "unet", folder / FULL)
        save_file(noisy_pictures(pipeline, settings.probes, settings.picture_size), folder / PROBES)

        def measured(rivals: Mapping[str, Rival], part: str) -> Costs:
            contenders = [
                Contender(
                    name=name, build=f"{BUILDERS}:build_output", memory_gb=2.0, folder=folder, python=python,
                    arguments={
                        "source": FULL, "library": rival.library, "options": rival.options, "made": slug(name),
                    },
                )
                for name, rival in rivals.items()
            ]  # fmt: skip
            return measure_costs(run, contenders, 1, settings.threads, part)

        theirs = measured(RIVALS, "theirs")
        budgets = {one.name: one.facts["bytes"] for one in theirs.found if one.error is None}
        ours = measured({
            ours_beside(name): Rival("ours", 0, {"bytes": count}) for name, count in budgets.items()
        }, "ours")  # fmt: skip
    for name in RIVALS:
        if name not in budgets:
            yield failed_row(run, name, theirs)
            continue
        yield from output_rows(run, name, ours.of(ours_beside(name)), theirs.of(name))
    draw_curve(run.picture_path("rivals"), ours, theirs)


def noisy_pictures(pipeline: BitsFusionPipeline, count: int, size: int) -> dict[str, Tensor]:
    """Arguments of a UNet: PocketWorld's test pictures as latents with noise, at timesteps from 1 to 981, and texts."""
    data = pocketworld_images("test", size, count)
    latents = scaled(pipeline.vae, encode_all(pipeline.vae, data.images(torch.arange(count))))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.linspace(1, 981, count).round().long()
    noised = DDIMScheduler.from_config(pipeline.scheduler.config).add_noise(latents, noise, timesteps)
    with torch.no_grad():
        texts, _ = pipeline.encode_prompt(list(data.captions), do_classifier_free_guidance=False)
    named = {"sample": noised, "timestep": timesteps, "encoder_hidden_states": texts}
    return {name: value.contiguous() for name, value in named.items()}


def slug(name: str) -> str:
    """A contender's name as part of a row's id and as that of a folder."""
    return name.lower().replace(" ", "-").replace("_", "-")


def ours_beside(name: str) -> str:
    """What ours is called at no more bytes than a rival has."""
    return f"BitsFusion within {name}"


def output_rows(run: Run, name: str, ours: Measurement, rival: Measurement) -> Iterator[Row]:
    """Error and bytes of ours beside a rival's."""
    claim = f"Without training, at no more bytes than {name}"
    reason = "" if ours.error is None else f" Ours failed: {ours.error}"
    values = {"size": "nano", "better": "lower", "rival": name, "seed": 0}
    small = RIVALS[name].bits <= MOST_BITS
    for fact, unit, scale, says in (
        ("error", "share", 1.0, "the output of the nano UNet is nearer to that of full precision (relative RMS)"),
        ("bytes", "KB", 1e-3, "weights take no more on the disk"),
    ):
        theirs = scale * rival.facts[fact]
        yield run.row(
            f"rival-{fact}-{slug(name)}", f"{claim}, {says}.{reason}", unit=unit, rival_measured=theirs,
            measured=None if ours.error else scale * ours.facts[fact], target=theirs if small else None,
            n=rival.facts["probes"] if fact == "error" else None, **values,
        )  # fmt: skip


def failed_row(run: Run, name: str, theirs: Costs) -> Row:
    """Of a rival that could not be measured."""
    claim = f"The output of the nano UNet by {name}. {name} failed: {theirs.of(name).error}"
    return run.row(f"rival-error-{slug(name)}", claim, measured=None, unit="share", better="lower")


def draw_curve(path: Path, ours: Costs, theirs: Costs) -> None:
    """Error against bytes, a line for each library."""
    lines = []
    for label, found in (("BitsFusion", ours.found), *by_library(theirs).items()):
        points = sorted({(one.facts["bytes"] / 1e3, one.facts["error"]) for one in found if one.error is None})
        if points:
            lines.append(Line(label, *zip(*points, strict=True)))
    if lines:
        draw_lines(path, "Rounded without training", ("weights on disk, KB", "relative error of the output"), lines)


def by_library(costs: Costs) -> dict[str, list[Measurement]]:
    """Rivals' measurements by the first word of their names, SDNQ as it comes apart from what helps it."""
    found: dict[str, list[Measurement]] = {}
    for one in costs.found:
        first, *_, last = one.name.split(" ")
        found.setdefault(f"{first} {last}" if last in ("codebook", "inner") else first, []).append(one)
    return found


# --- what a step takes ----------------------------------------------------------------------------------------


def measure_rival_costs(settings: Settings, run: Run) -> Iterator[Row]:
    """Bytes, loading, seconds a step and memory at the shape of Stable Diffusion 1.5, each rival beside ours."""
    import_figure()
    python = rivals_python()
    with shape_folder(settings.shape) as folder:
        rivals = {name: RIVALS[name] for name in COSTED}
        made = _making(settings, run, folder, python, rivals, "making")
        budgets = {one.name: one.facts["bytes"] for one in made.found if one.error is None}
        # Ours is compared where the least and the most bits of the comparison are asked of a library.
        ends = {name: budgets[name] for name in ("GGUF TQ2_0", "GGUF Q4_0") if name in budgets}
        ours = {ours_beside(name): Rival("ours", 0, {"bytes": count}) for name, count in ends.items()}
        if not ours:
            raise ValueError("No budget is known for ours, for GGUF's blocks could not be made.")
        ours_made = _making(settings, run, folder, python, ours, "ours")
        size = settings.latent_size
        contenders = [
            Contender(
                name=name, build=f"{BUILDERS}:build_rival_step", memory_gb=MEMORY_GB, folder=folder, python=python,
                arguments={"library": rival.library, "made": slug(name), "size": size},
            )
            for name, rival in {**ours, **{name: rivals[name] for name in budgets}}.items()
        ]  # fmt: skip
        costs = measure_costs(run, contenders, settings.repeats, settings.threads, "step")
    smallest = next(iter(ours))
    for name in budgets:
        yield from cost_rows(run, costs, [
            CostClaim(
                id=f"rival-step-{slug(name)}", quantity="seconds", contender=smallest, rival=name,
                claim=f"A step of a batch of 2 at {size}x{size} latents on the CPU, beside {name}.",
            ),
            CostClaim(
                id=f"rival-memory-{slug(name)}", quantity="memory", contender=smallest, rival=name,
                claim=f"Memory of that step's process, beside {name}.",
            ),
        ])  # fmt: skip
        yield from loading_rows(run, name, costs.of(smallest), costs.of(name), costs)
        yield run.row(
            f"rival-folder-{slug(name)}", f"Weights of the whole UNet on the disk, beside {name}.",
            measured=ours_made.of(smallest).facts["bytes"] / 1e6, rival=name, rival_measured=budgets[name] / 1e6,
            unit="MB", better="lower", size="paper",
        )  # fmt: skip
    bytes_panel = Panel(
        "weights on disk, MB",
        [Bar(one.name, one.facts["bytes"] / 1e6) for one in (*ours_made.found, *made.found) if one.error is None],
    )
    title = f"UNet of Stable Diffusion 1.5's shape, {settings.threads} threads"
    panels = [bytes_panel, seconds_panel("seconds a step", costs), memory_panel(costs)]
    draw_costs(run.picture_path("rival-costs"), title, panels)


def _making(settings: Settings, run: Run, folder: Path, python: Path, rivals: Mapping[str, Rival], part: str) -> Costs:
    contenders = [
        Contender(
            name=name, build=f"{BUILDERS}:build_making", memory_gb=MEMORY_GB, folder=folder, python=python,
            arguments={
                "source": f"{FULL}/unet", "library": rival.library, "options": rival.options, "made": slug(name),
            },
        )
        for name, rival in rivals.items()
    ]  # fmt: skip
    run.record_path(part).unlink(missing_ok=True)  # of a run that was broken off, whose folder is gone
    return measure_costs(run, contenders, 1, settings.threads, part)


def loading_rows(run: Run, name: str, ours: Measurement, rival: Measurement, costs: Costs) -> Iterator[Row]:
    """Seconds in which both are loaded, if both could be."""
    if ours.error is None and rival.error is None:
        yield run.row(
            f"rival-loading-{slug(name)}", f"Seconds until the whole UNet is loaded, beside {name}.",
            measured=ours.facts["load_seconds"], rival=name, rival_measured=rival.facts["load_seconds"], unit="s",
            better="lower", size="paper", date=costs.date, n=1,
        )  # fmt: skip
