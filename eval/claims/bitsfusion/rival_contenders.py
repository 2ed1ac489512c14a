"""What is measured of a quantised UNet in a process of its own: making it, what its output loses, its steps."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ...timing.contender_process import Work, held_memory_mb
from ...timing.cost_rows import IMPORTS
from .contenders import load_float32, step_inputs
from .rival_libraries import LIBRARIES, folder_bytes

PROBES = "probes.safetensors"


def build_making(source: str, library: str, options: Mapping[str, Any], made: str) -> Work:
    """Quantising the UNet in folder `source` into folder `made`; a fact is the bytes of its weights."""
    shutil.rmtree(made, ignore_errors=True)
    LIBRARIES[library].make(Path(source), Path(made), options)
    return Work(lambda: None, {"bytes": folder_bytes(Path(made))})


def build_output(source: str, library: str, options: Mapping[str, Any], made: str) -> Work:
    """The same, and its output for what `PROBES` holds; further facts are their number and its error."""
    os.environ["SDNQ_USE_TORCH_COMPILE"] = "0"  # it would compile for minutes, and no time is measured
    shutil.rmtree(made, ignore_errors=True)
    probes = load_file(PROBES)
    wanted = output_of(load_float32(source), probes)
    unet = LIBRARIES[library].make(Path(source), Path(made), options)
    facts = {
        "bytes": folder_bytes(Path(made)),
        "probes": len(wanted),
        "error": relative_rms(output_of(unet, probes), wanted),
    }
    return Work(lambda: output_of(unet, probes), facts)


def build_rival_step(library: str, made: str, size: int) -> Work:
    """A denoising step by the UNet in folder `made`; a fact is in how many seconds it was loaded."""
    load = LIBRARIES[library].load
    facts, start = {IMPORTS: held_memory_mb()}, perf_counter()
    unet = load(Path(made))
    facts["load_seconds"] = perf_counter() - start
    inputs = step_inputs(unet, size)
    return Work(torch.no_grad()(lambda: unet(**inputs)), facts)


@torch.no_grad()
def output_of(unet: nn.Module, probes: Mapping[str, Tensor]) -> Float[Tensor, "probes channels h w"]:
    """Of all probes at once."""
    return unet(**probes).sample


def relative_rms(found: Tensor, wanted: Tensor) -> float:
    """Root of the mean square of the difference over that of what is wanted."""
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
