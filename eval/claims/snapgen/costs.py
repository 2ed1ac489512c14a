"""What SnapGen costs at the paper's size, beside networks of diffusers: parameters, operations, seconds, memory."""

from collections.abc import Iterator
from functools import cache

import torch

from ....hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from ....training.plot import import_figure
from ...benchmark import Run
from ...figures.bars import draw_costs
from ...results import Row, band
from ...scores.operations import count_operations, count_parameters
from ...timing.contest import Contender
from ...timing.cost_rows import EXACT, CostClaim, cost_rows, measure_costs, memory_panel, seconds_panel
from ...timing.network_work import WORDS
from .contenders import LATENT_SIZE, PIXELS, decoder_inputs, new_decoder, new_unet, unet_inputs
from .settings import Settings

BUILDERS = f"{__package__}.contenders"
UNETS = {"SnapGen": 3.0, "Stable Diffusion 1.5": 6.0, "SDXL": 13.0}  # GB that a step in float32 needs at most
DECODERS = {"SnapGen": 3.0, "Stable Diffusion 3": 9.0, "AutoencoderTiny": 3.0}  # GB, a picture of 1024 pixels a side
RIVAL_UNETS = {"sd15": "Stable Diffusion 1.5", "sdxl": "SDXL"}
SHRINK = {**EXACT, "unit": "times", "better": "higher"}
UNET_TOLERANCE, DECODER_TOLERANCE = 0.003, 0.01  # of published parameter counts, in both directions


# --- exact ----------------------------------------------------------------------------------------------------


def measure_parameters(settings: Settings, run: Run) -> Iterator[Row]:
    """Parameter counts at the paper's size, on the meta device; exact, so without interval and hardware."""
    with torch.device("meta"):
        unet = count_parameters(new_unet("SnapGen")) / 1e6
        imagenet = count_parameters(SnapGenUNet2DConditionModel.from_preset("imagenet")) / 1e6
        rivals = {id: count_parameters(new_unet(name)) / 1e6 for id, name in RIVAL_UNETS.items()}
        decoder = count_parameters(new_decoder("SnapGen")) / 1e6
        reference = count_parameters(new_decoder("Stable Diffusion 3")) / 1e6
        tiny = count_parameters(new_decoder("AutoencoderTiny")) / 1e6
    exact = {**EXACT, "unit": "million parameters"}
    sized = {**exact, "better": "within"}
    yield run.row(
        "unet-parameters", "The text-to-image UNet has 379 M parameters, within 0.3 %.",
        measured=unet, published=379.0, target=band(379.0, UNET_TOLERANCE), **sized,
    )  # fmt: skip
    yield run.row(
        "unet-imagenet-parameters", "The ImageNet UNet has 372 M parameters, within 0.3 %.",
        measured=imagenet, published=372.0, target=band(372.0, UNET_TOLERANCE), **sized,
    )  # fmt: skip
    for id, parameters in rivals.items():
        claim = f"The text-to-image UNet has fewer parameters than that of {RIVAL_UNETS[id]}."
        rival = {"rival": f"UNet of {RIVAL_UNETS[id]}", "rival_measured": parameters}
        yield run.row(f"unet-parameters-{id}", claim, measured=unet, **rival, **exact)
    yield run.row(
        "decoder-parameters", "The decoder has 1.38 M parameters, within 1 %.",
        measured=decoder, published=1.38, target=band(1.38, DECODER_TOLERANCE),
        rival="decoder of Stable Diffusion 3", rival_measured=reference, **sized,
    )  # fmt: skip
    yield run.row(
        "decoder-parameters-tiny", "Parameters of the decoder, beside that of diffusers' AutoencoderTiny.",
        measured=decoder, rival="AutoencoderTiny", rival_measured=tiny, **exact,
    )  # fmt: skip
    yield run.row(
        "decoder-reduction", "The decoder is 36 times smaller than that of Stable Diffusion 3.",
        measured=reference / decoder, published=36.0, target=35.5, rival="decoder of Stable Diffusion 3", **SHRINK,
    )  # fmt: skip


def measure_operations(settings: Settings, run: Run) -> Iterator[Row]:
    """Operations of a UNet step and of decoding a picture, on the meta device; exact."""
    exact = {**EXACT, "unit": "billion operations"}
    ours = unet_operations("SnapGen") / 1e9
    for id, name in RIVAL_UNETS.items():
        claim = f"A denoising step at {LATENT_SIZE}x{LATENT_SIZE} latents needs fewer operations than that of {name}."
        rival = {"rival": f"UNet of {name}", "rival_measured": unet_operations(name) / 1e9}
        yield run.row(f"unet-operations-{id}", claim, measured=ours, **rival, **exact)
    for pixels in PIXELS:
        ours, sd3 = (decoder_operations(name, pixels) / 1e9 for name in ("SnapGen", "Stable Diffusion 3"))
        picture = f"picture of {pixels}x{pixels} pixels"
        claim = f"Decoding a {picture} needs 30 times fewer operations than the decoder of Stable Diffusion 3."
        rival = "decoder of Stable Diffusion 3"
        yield run.row(f"decoder-operations-reduction-{pixels}", claim, measured=sd3 / ours, target=30.0,
                  rival=rival, **SHRINK)  # fmt: skip
        claim = f"Decoding a {picture} needs fewer operations than diffusers' AutoencoderTiny."
        tiny = decoder_operations("AutoencoderTiny", pixels) / 1e9
        yield run.row(f"decoder-operations-{pixels}", claim, measured=ours, rival="AutoencoderTiny",
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


def measure_steps(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds and memory of a denoising step of the paper-size UNet; draws snapgen-steps.png."""
    import_figure()
    size = settings.latent_size
    contenders = [
        Contender(
            name=name, build=f"{BUILDERS}:build_unet_step", arguments={"name": name, "size": size}, memory_gb=memory
        )
        for name, memory in UNETS.items()
    ]
    costs = measure_costs(run, contenders, settings.repeats, settings.threads)
    latents = f"{size}x{size} latents, float32 on the CPU"
    for id, name in RIVAL_UNETS.items():
        faster = f"A denoising step is faster than that of {name}: {latents}."
        leaner = f"A denoising step needs less memory than that of {name}: {latents}."
        yield from cost_rows(run, costs, [
            CostClaim(id=f"unet-step-{id}", claim=faster, quantity="seconds", rival=name),
            CostClaim(id=f"unet-memory-{id}", claim=leaner, quantity="memory", rival=name),
        ])  # fmt: skip
    title = f"One denoising step, {latents}, {settings.threads} threads"
    draw_costs(run.picture_path("steps"), title, [seconds_panel("seconds a step", costs), memory_panel(costs)])


def measure_decoding(settings: Settings, run: Run) -> Iterator[Row]:
    """Seconds and memory of decoding one picture; draws snapgen-decoding.png."""
    import_figure()
    panels = []
    for pixels in settings.pixels:
        contenders = [
            Contender(
                name=name, build=f"{BUILDERS}:build_decoding", arguments={"name": name, "pixels": pixels},
                memory_gb=memory * (pixels / 1024) ** 2,
            )
            for name, memory in DECODERS.items()
        ]  # fmt: skip
        costs = measure_costs(run, contenders, settings.repeats, settings.threads, part=f"{pixels}")
        yield from cost_rows(run, costs, decoding_claims(pixels))
        panels += [seconds_panel(f"seconds a {pixels}x{pixels} picture", costs), memory_panel(costs)]
    title = f"Decoding one picture, {WORDS['onnx']}, {settings.threads} threads"
    draw_costs(run.picture_path("decoding"), title, panels)


def decoding_claims(pixels: int) -> list[CostClaim]:
    """What is claimed of decoding a picture."""
    sd3, tiny = "Stable Diffusion 3", "AutoencoderTiny"
    picture, reference = f"picture of {pixels}x{pixels} pixels", f"the decoder of {sd3}"
    claims = (
        ("decoder-seconds", "seconds", sd3, None, f"Decoding a {picture} takes less time than with {reference}"),
        ("decoder-memory", "memory", sd3, None, f"Decoding a {picture} needs less memory than with {reference}"),
        ("decoder-speedup", "speedup", sd3, 10.0, f"A {picture} is decoded 10 times faster than by {reference}"),
        ("decoder-tiny-speedup", "speedup", tiny, 1.0, f"A {picture} is decoded no slower than by diffusers' {tiny}"),
        ("decoder-tiny-memory", "memory", tiny, None, f"Memory to decode a {picture}, beside diffusers' {tiny}"),
    )
    return [
        CostClaim(id=f"{id}-{pixels}", claim=f"{claim}: {WORDS['onnx']}.", quantity=what, rival=rival, target=target)
        for id, what, rival, target, claim in claims
    ]
