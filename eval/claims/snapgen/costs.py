"""What SnapGen costs at the paper's size, beside networks of diffusers: parameters, operations, seconds, memory."""

from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from ....hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from ....pipelines.result_folder import hardware
from ....training.plot import import_figure
from ...benchmark import new_row, record_path
from ...figures.bars import Bar, Panel, draw_costs
from ...results import Row
from ...scores.operations import count_operations, count_parameters
from ...timing.contest import Contender, Measurement, run_contenders, speedup
from .contenders import LATENT_SIZE, decoder_inputs, new_decoder, new_unet, unet_inputs

BUILDERS = f"{__package__}.contenders"
UNETS = {"SnapGen": 3.0, "Stable Diffusion 1.5": 6.0, "SDXL": 13.0}  # GB that a step in float32 needs at most
DECODERS = {"SnapGen": 3.0, "Stable Diffusion 3": 9.0, "AutoencoderTiny": 3.0}  # GB, a picture of 1024 pixels a side
RIVAL_UNETS = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}
PIXELS = (512, 1024)

row = partial(new_row, "snapgen")


class CostSettings(Protocol):
    """What the measurements read of the benchmark's settings.

    Attributes:
        repeats: timed calls of each contender.
        threads: of each contender.
        latent_size: side of the latents that the UNets get.
        pixels: sides of the pictures that are decoded.
    """

    repeats: int
    threads: int
    latent_size: int
    pixels: tuple[int, ...]


# --- exact ----------------------------------------------------------------------------------------------------


def measure_parameters(settings: CostSettings, output: Path) -> Iterator[Row]:
    """Parameter counts at the paper's size, on the meta device; exact, so without interval and hardware."""
    with torch.device("meta"):
        unet = count_parameters(new_unet("SnapGen")) / 1e6
        imagenet = count_parameters(SnapGenUNet2DConditionModel.from_preset("imagenet")) / 1e6
        rivals = {id: count_parameters(new_unet(name)) / 1e6 for id, name in RIVAL_UNETS.items()}
        decoder = count_parameters(new_decoder("SnapGen")) / 1e6
        reference = count_parameters(new_decoder("Stable Diffusion 3")) / 1e6
    exact = {"size": "paper", "unit": "million parameters", "better": "lower", "hardware": None}
    shrink = {**exact, "unit": "times", "better": "higher"}
    yield row(
        "parameters", "unet-parameters", "The text-to-image UNet has 379 M parameters, within 0.3 %.",
        measured=unet, published=379.0, target=379.0 * 1.003, **exact,
    )  # fmt: skip
    yield row(
        "parameters", "unet-imagenet-parameters", "The ImageNet UNet has 372 M parameters, within 0.3 %.",
        measured=imagenet, published=372.0, target=372.0 * 1.003, **exact,
    )  # fmt: skip
    for id, parameters in rivals.items():
        claim = f"The text-to-image UNet has fewer parameters than that of {RIVAL_UNETS[id]}."
        rival = {"rival": f"UNet of {RIVAL_UNETS[id]}", "rival_measured": parameters}
        yield row("parameters", f"unet-parameters-{id}", claim, measured=unet, **rival, **exact)
    yield row(
        "parameters", "decoder-parameters", "The decoder has 1.38 M parameters, within 1 %.",
        measured=decoder, published=1.38, target=1.38 * 1.01,
        rival="decoder of Stable Diffusion 3", rival_measured=reference, **exact,
    )  # fmt: skip
    yield row(
        "parameters", "decoder-reduction", "The decoder is 36 times smaller than that of Stable Diffusion 3.",
        measured=reference / decoder, published=36.0, target=35.5, rival="decoder of Stable Diffusion 3", **shrink,
    )  # fmt: skip


def measure_operations(settings: CostSettings, output: Path) -> Iterator[Row]:
    """Operations of a UNet step and of decoding a picture, on the meta device; exact."""
    exact = {"size": "paper", "unit": "billion operations", "better": "lower", "hardware": None}
    shrink = {**exact, "unit": "times", "better": "higher"}
    ours = unet_operations("SnapGen") / 1e9
    for id, name in RIVAL_UNETS.items():
        claim = f"A denoising step at {LATENT_SIZE}x{LATENT_SIZE} latents needs fewer operations than that of {name}."
        rival = {"rival": f"UNet of {name}", "rival_measured": unet_operations(name) / 1e9}
        yield row("operations", f"unet-operations-{id}", claim, measured=ours, **rival, **exact)
    for pixels in PIXELS:
        ours, sd3 = (decoder_operations(name, pixels) / 1e9 for name in ("SnapGen", "Stable Diffusion 3"))
        picture = f"picture of {pixels}x{pixels} pixels"
        claim = f"Decoding a {picture} needs 30 times fewer operations than the decoder of Stable Diffusion 3."
        rival = "decoder of Stable Diffusion 3"
        yield row("operations", f"decoder-operations-reduction-{pixels}", claim, measured=sd3 / ours, target=30.0,
                  rival=rival, **shrink)  # fmt: skip
        claim = f"Decoding a {picture} needs fewer operations than diffusers' AutoencoderTiny."
        tiny = decoder_operations("AutoencoderTiny", pixels) / 1e9
        yield row("operations", f"decoder-operations-{pixels}", claim, measured=ours, rival="AutoencoderTiny",
                  rival_measured=tiny, **exact)  # fmt: skip


@cache
def unet_operations(name: str) -> int:
    """Operations of one step of one picture by a UNet of `UNETS`, of 1024x1024 pixels."""
    with torch.device("meta"):
        unet = new_unet(name)
        return count_operations(unet, **unet_inputs(name, unet))


@cache
def decoder_operations(name: str, pixels: int) -> int:
    """Operations of decoding one picture by a decoder of `DECODERS`."""
    with torch.device("meta"):
        return count_operations(new_decoder(name), decoder_inputs(pixels))


# --- timed ----------------------------------------------------------------------------------------------------


def measure_steps(settings: CostSettings, output: Path) -> Iterator[Row]:
    """Seconds and memory of a denoising step of the paper-size UNet; draws `output`/snapgen-steps.png."""
    import_figure()
    size = settings.latent_size
    contenders = [
        Contender(
            name=name, build=f"{BUILDERS}:build_unet_step", arguments={"name": name, "size": size}, memory_gb=memory
        )
        for name, memory in UNETS.items()
    ]
    found = _run(contenders, "steps", settings, output)
    latents = f"{size}x{size} latents, float32 on the CPU"
    for id, name in RIVAL_UNETS.items():
        yield _seconds_row(
            "steps", f"unet-step-{id}", f"A denoising step is faster than that of {name}: {latents}.",
            found["SnapGen"], found[name], settings,
        )  # fmt: skip
        yield _memory_row(
            "steps", f"unet-memory-{id}", f"A denoising step needs less memory than that of {name}: {latents}.",
            found["SnapGen"], found[name], settings,
        )  # fmt: skip
    draw_costs(
        output / "snapgen-steps.png",
        f"One denoising step, {latents}, {settings.threads} threads",
        [_seconds_panel("step", found.values()), _memory_panel(found.values())],
    )


def measure_decoding(settings: CostSettings, output: Path) -> Iterator[Row]:
    """Seconds and memory of decoding one picture; draws `output`/snapgen-decoding.png."""
    import_figure()
    panels = []
    for pixels in settings.pixels:
        found = _run(list(_decoders(pixels)), f"decoding-{pixels}", settings, output)
        yield from _decoding_rows(pixels, found, settings)
        panels.append(_seconds_panel(f"{pixels}x{pixels} picture", found.values()))
        panels.append(_memory_panel(found.values()))
    title = f"Decoding one picture, float32 in ONNX Runtime on the CPU, {settings.threads} threads"
    draw_costs(output / "snapgen-decoding.png", title, panels)


def _decoders(pixels: int) -> list[Contender]:
    return [
        Contender(
            name=name,
            build=f"{BUILDERS}:build_decoding",
            arguments={"name": name, "pixels": pixels},
            memory_gb=memory * (pixels / 1024) ** 2,
        )
        for name, memory in DECODERS.items()
    ]


def _decoding_rows(pixels: int, found: dict[str, Measurement], settings: CostSettings) -> Iterator[Row]:
    ours, sd3, tiny = (found[name] for name in DECODERS)
    picture, where = f"picture of {pixels}x{pixels} pixels", "float32 in ONNX Runtime on the CPU"
    claim = f"Decoding a {picture} takes less time than with the decoder of Stable Diffusion 3: {where}."
    yield _seconds_row("decoding", f"decoder-seconds-{pixels}", claim, ours, sd3, settings)
    claim = f"Decoding a {picture} needs less memory than with the decoder of Stable Diffusion 3: {where}."
    yield _memory_row("decoding", f"decoder-memory-{pixels}", claim, ours, sd3, settings)
    claim = f"A {picture} is decoded 10 times faster than by the decoder of Stable Diffusion 3: {where}."
    yield from _speedup_rows(f"decoder-speedup-{pixels}", claim, ours, sd3, 10.0, settings)
    claim = f"A {picture} is decoded no slower than by diffusers' AutoencoderTiny: {where}."
    yield from _speedup_rows(f"decoder-tiny-speedup-{pixels}", claim, ours, tiny, 1.0, settings)


def _run(contenders: list[Contender], name: str, settings: CostSettings, output: Path) -> dict[str, Measurement]:
    """Measurements by name; rivals may have failed, the first contender, ours, may not."""
    found = run_contenders(contenders, settings.repeats, settings.threads, record_path(output, "snapgen", name))
    if found[0].error is not None:
        raise ValueError(f"{found[0].name} could not be measured for {name}: {found[0].error}")
    return {one.name: one for one in found}


def _seconds_row(
    measurement: str, id: str, claim: str, ours: Measurement, rival: Measurement, settings: CostSettings
) -> Row:
    beside = None if rival.error else rival.median_seconds
    return row(
        measurement, id, claim, measured=ours.median_seconds, interval=ours.interval, unit="s", better="lower",
        n=len(ours.seconds), rival=_called(rival), rival_measured=beside, **_timed(settings),
    )  # fmt: skip


def _memory_row(
    measurement: str, id: str, claim: str, ours: Measurement, rival: Measurement, settings: CostSettings
) -> Row:
    beside = None if rival.error else rival.peak_memory_mb
    return row(
        measurement, id, claim, measured=ours.peak_memory_mb, unit="MB", better="lower", n=1, rival=_called(rival),
        rival_measured=beside, **_timed(settings),
    )  # fmt: skip


def _speedup_rows(
    id: str, claim: str, ours: Measurement, rival: Measurement, target: float, settings: CostSettings
) -> Iterator[Row]:
    """Nothing when the rival failed: without its time there is no ratio."""
    if rival.error is None:
        times, interval = speedup(ours, rival)
        yield row(
            "decoding", id, claim, measured=times, interval=interval, unit="times", better="higher", target=target,
            n=len(ours.seconds), rival=rival.name, **_timed(settings),
        )  # fmt: skip


def _called(rival: Measurement) -> str:
    return rival.name if rival.error is None else f"{rival.name}, which failed"


def _timed(settings: CostSettings) -> dict[str, Any]:
    return {"size": "paper", "seed": 0, "hardware": hardware(settings.threads)}


def _seconds_panel(what: str, found: Iterable[Measurement]) -> Panel:
    bars = [Bar(one.name, *((None,) if one.error else (one.median_seconds, one.interval))) for one in found]
    return Panel(f"seconds a {what}", bars)


def _memory_panel(found: Iterable[Measurement]) -> Panel:
    return Panel("peak memory, MB", [Bar(one.name, None if one.error else one.peak_memory_mb) for one in found])
