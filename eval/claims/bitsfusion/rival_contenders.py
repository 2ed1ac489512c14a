"""What is measured of a quantised UNet in a process of its own: its bytes, and what its output loses."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ...timing.contender_process import Work
from .contenders import load_float32
from .rival_libraries import LIBRARIES, folder_bytes

PROBES = "probes.safetensors"


def build_output(source: str, library: str, options: Mapping[str, Any], made: str) -> Work:
    """The output, for what `PROBES` holds, of the UNet of folder `source` quantised into folder `made`.

    Facts are the bytes of its weights, the number of probes, and the error beside the output of the UNet itself.
    """
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


@torch.no_grad()
def output_of(unet: nn.Module, probes: Mapping[str, Tensor]) -> Float[Tensor, "probes channels h w"]:
    """Of all probes at once."""
    return unet(**probes).sample


def relative_rms(found: Tensor, wanted: Tensor) -> float:
    """Root of the mean square of the difference over that of what is wanted."""
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
