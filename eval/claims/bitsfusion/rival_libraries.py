"""UNets quantised by other libraries, and by ours: made of a folder, kept in a folder, and loaded again.

Each library is imported when it is asked for, since only the environment of rivals has them all.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from ....hub_models.layers.low_bit import LOW_BIT
from ....hub_models.layers.low_bit_levels import Levels
from ....hub_models.layers.radix_packing import words_for
from ....pipelines.files import write_json
from ....pipelines.quantization_bitsfusion import quantize_folder
from . import gguf_blocks
from .contenders import load_float32

WEIGHTS = "weights.safetensors"
ENDS = ("conv_in", "conv_out")  # the first and the last layer


@dataclass(frozen=True)
class Library:
    """How a library quantises.

    Attributes:
        make: of a folder of a UNet, by options of that library, a folder of a quantised one, which it returns too.
        load: gives that UNet back, as the library keeps it in memory; what it leaves alone is float32.
    """

    make: Callable[[Path, Path, Mapping[str, Any]], nn.Module]
    load: Callable[[Path], nn.Module]


def folder_bytes(folder: Path) -> int:
    """Bytes of the weights in a folder that a library has made."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".pt"))


def _full(source: Path) -> UNet2DConditionModel:
    return load_float32(str(source))


# --- ours -----------------------------------------------------------------------------------------------------


def _make_ours(source: Path, folder: Path, options: Mapping[str, Any]) -> nn.Module:
    """As many bits for each layer as `bytes` allow (see `bits_within`); there is no calibration and no training."""
    unet, recipe, header = _empty(source), folder.with_name(f"{folder.name}.json"), 0
    while True:
        bits = bits_within(unet, options["bytes"] - header)
        write_json(recipe, bits)
        quantize_folder(source, folder, 1, recipe, overwrite=True)
        found = folder_bytes(folder)
        if found <= options["bytes"] or max(bits.values()) == 1:
            return _full(folder)
        header = max(header + 1, found - tensor_bytes(unet, bits))  # of the file, which names the tensors


def tensor_bytes(unet: nn.Module, bits: Mapping[str, int]) -> int:
    """Of a UNet whose layers are packed in so many bits each, with the rest in float16."""
    weights = {name: unet.get_submodule(name).weight.shape for name in bits}
    rest = sum(value.numel() for value in unet.parameters()) - sum(shape.numel() for shape in weights.values())
    return 2 * rest + sum(_packed_bytes(weights[name], own) for name, own in bits.items())


def bits_within(unet: nn.Module, budget: int) -> dict[str, int]:
    """Bits by layer whose packed tensors, with the rest of the UNet in float16, take at most so many bytes.

    All layers begin at one bit, which is what a smaller budget gives them too. The first and the last get the 8 that
    the paper gives them, then the others one more in turn, smaller layers first: rounding a layer costs its output
    about the same share whatever its size, and bits for small ones cost less.
    """
    layers = {name: layer.weight.shape for name, layer in unet.named_modules() if type(layer) in LOW_BIT}
    by_size = sorted(layers, key=lambda name: layers[name].numel())
    bits = dict.fromkeys(layers, 1)
    left = budget - tensor_bytes(unet, bits)
    turns = [(level, name) for level in range(2, 9) for name in by_size]
    for level, name in sorted(turns, key=lambda turn: turn[1] not in ENDS):
        more = _packed_bytes(layers[name], level) - _packed_bytes(layers[name], level - 1)
        if bits[name] == level - 1 and more <= left:
            bits[name], left = level, left - more
    return bits


def _packed_bytes(shape: torch.Size, bits: int) -> int:
    """Of words and float16 scales."""
    return 8 * words_for(shape.numel(), Levels(bits).count) + 2 * shape[0]


# --- SDNQ -----------------------------------------------------------------------------------------------------


def _make_sdnq(source: Path, folder: Path, options: Mapping[str, Any]) -> nn.Module:
    """With convolutions; small layers too, and all but those that `modules_to_not_convert` names."""
    from sdnq import SDNQConfig
    from sdnq.quantizer import sdnq_post_load_quant

    config = SDNQConfig(
        quant_conv=True, add_skip_keys=False, minimum_allowed_numel=0, minimum_allowed_channel_size=0, **options
    )
    unet = _full(source)
    left_alone = {name for name, _ in unet.named_parameters()}
    sdnq_post_load_quant(unet, torch_dtype=torch.float32, quantization_config=config)
    unet.save_pretrained(folder, max_shard_size="100GB")
    (file,) = folder.glob("*.safetensors")
    kept = {name: _halved(value) if name in left_alone else value for name, value in load_file(file).items()}
    save_file(kept, file, metadata={"format": "pt"})
    return unet


def _load_sdnq(folder: Path) -> nn.Module:
    import sdnq  # noqa: F401, registers itself in diffusers

    return _full(folder)


# --- optimum-quanto -------------------------------------------------------------------------------------------


def _make_quanto(source: Path, folder: Path, options: Mapping[str, Any]) -> nn.Module:
    from optimum.quanto import freeze, quantization_map, quantize

    _find_ninja()
    unet = _full(source)
    quantize(unet, **options)
    freeze(unet)
    folder.mkdir()
    UNet2DConditionModel.save_config(unet, folder)
    save_file({name: _halved(value).contiguous() for name, value in unet.state_dict().items()}, folder / WEIGHTS)
    write_json(folder / "map.json", quantization_map(unet))
    return unet


def _load_quanto(folder: Path) -> nn.Module:
    from optimum.quanto import requantize

    _find_ninja()
    unet = _empty(folder)
    stored = load_file(folder / WEIGHTS).items()
    kept = {name: value.float() if value.is_floating_point() else value for name, value in stored}
    requantize(unet, kept, json.loads((folder / "map.json").read_text()), torch.device("cpu"))
    return unet.eval()


def _find_ninja() -> None:
    """Puts this environment's programs on the path, for quanto builds its kernels with ninja at first use."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


# --- torchao --------------------------------------------------------------------------------------------------


def _make_torchao(source: Path, folder: Path, options: Mapping[str, Any]) -> nn.Module:
    """Linear layers only: it has no convolutions of so few bits."""
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis

    unet = _full(source)
    dtype = getattr(torch, options["weight_dtype"])
    quantize_(unet, IntxWeightOnlyConfig(weight_dtype=dtype, granularity=PerAxis(0)))
    folder.mkdir()
    unet.save_config(folder)
    torch.save({name: _halved(value) for name, value in unet.state_dict().items()}, folder / "weights.pt")
    return unet


def _load_torchao(folder: Path) -> nn.Module:
    import torchao  # noqa: F401, what the file holds is its

    unet = _empty(folder)
    kept = torch.load(folder / "weights.pt", weights_only=False)
    unet.load_state_dict({n: v.float() if v.dtype == torch.float16 else v for n, v in kept.items()}, assign=True)
    return unet.eval()


# --- GGUF -----------------------------------------------------------------------------------------------------


def _make_gguf(source: Path, folder: Path, options: Mapping[str, Any]) -> nn.Module:
    unet = _full(source)
    kept = {}
    layers = {f"{name}.weight" for name, layer in unet.named_modules() if type(layer) in LOW_BIT}
    for name, value in unet.state_dict().items():
        blocks = torch.from_numpy(gguf_blocks.encode(value.numpy(), options["type"])) if name in layers else None
        kept[name] = value.half() if blocks is None else blocks
    folder.mkdir()
    unet.save_config(folder)
    save_file(kept, folder / WEIGHTS)
    write_json(folder / "type.json", options["type"])
    return _load_gguf(folder)


def _load_gguf(folder: Path) -> nn.Module:
    """Decoded when loaded."""
    unet, form = _empty(folder), json.loads((folder / "type.json").read_text())
    for name, value in load_file(folder / WEIGHTS).items():
        shape = unet.get_parameter(name).shape
        if value.dtype == torch.uint8:
            value = torch.from_numpy(np.ascontiguousarray(gguf_blocks.decode(value.numpy(), tuple(shape), form)))
        owner, _, own = name.rpartition(".")
        setattr(unet.get_submodule(owner), own, nn.Parameter(value.float(), requires_grad=False))
    return unet.eval()


def _halved(value: torch.Tensor) -> torch.Tensor:
    """In float16, if it is a plain tensor of float32: what a library leaves alone need not take more on the disk."""
    return value.half() if type(value) is torch.Tensor and value.dtype == torch.float32 else value


def _empty(folder: Path) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder)).requires_grad_(False)


LIBRARIES = {
    "ours": Library(_make_ours, _full),
    "sdnq": Library(_make_sdnq, _load_sdnq),
    "quanto": Library(_make_quanto, _load_quanto),
    "torchao": Library(_make_torchao, _load_torchao),
    "gguf": Library(_make_gguf, _load_gguf),
}
