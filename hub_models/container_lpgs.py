"""The file of an LPGS scene: parents and grid quantised and entropy-coded, networks in half precision.

The file is in the safetensors format. Its tensors are

| tensor | content |
|---|---|
| positions | cells of the parents, bytes of `octree_coding`; a parent is at its cell times `position_step` |
| scales | logarithms of the parents' scales in multiples of `scale_step`, bytes of `neighbor_coding` |
| grid | the hash grid's numbers in multiples of `grid_step`, bytes of `entropy_coding`, a context a level |
| networks | all other weights, half precision, in the order of the model's parameters |

and its metadata is one JSON text under `lpgs`: the version of this layout, the model's configuration, and the steps.
"""

import inspect
import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .gaussians_lpgs import LPGSGaussians
from .rendering.entropy_coding import Decoder, encode
from .rendering.morton_order import morton_order
from .rendering.neighbor_coding import ValuesDecoder, encode_values
from .rendering.octree_coding import decode_cells, encode_cells

VERSION = 1
LARGEST_GRID_INTEGER = 1500  # of the alphabet of the entropy coder
LIMITS = {"grid_dim": 256, "hash_levels": 32, "hash_log2_size": 24, "hash_max_resolution": 1 << 20, "head_width": 1024}


@dataclass(frozen=True)
class LPGSSteps:
    """What numbers are rounded to in the file.

    Attributes:
        position_step: in scene units.
        scale_step: of the natural logarithm of a parent's scale.
        grid_step: of a number of the hash grid.
    """

    position_step: float
    scale_step: float = 0.15
    grid_step: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-9 <= value <= 1e9:
                raise ValueError(f"{name} must be a number from 1e-9 to 1e9, not {value!r}.")


@torch.no_grad()
def round_parents(scene: LPGSGaussians, steps: LPGSSteps) -> None:
    """Moves parents to where and as large as the file can say, so that the rest can be trained for that."""
    scene.parent_means.copy_((scene.parent_means / steps.position_step).round() * steps.position_step)
    scene.parent_log_scales.copy_((scene.parent_log_scales / steps.scale_step).round() * steps.scale_step)


@torch.no_grad()
def encode_scene(scene: LPGSGaussians, steps: LPGSSteps) -> bytes:
    """A file's bytes; decoding gives a scene whose parents are in Morton order.

    Raises:
        ValueError: when a weight is not finite, or numbers span too many steps.
    """
    for name, value in scene.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    cells = _multiples(scene.parent_means, steps.position_step)
    order = morton_order(cells)
    cells = cells[order]
    scales = _multiples(scene.parent_log_scales, steps.scale_step)[order]
    tensors = {
        "positions": _bytes(encode_cells(cells)),
        "scales": _bytes(encode_values(scales, cells)),
        "grid": _bytes(_encode_grid(scene, steps.grid_step)),
        "networks": np.concatenate([weight.half().cpu().numpy().ravel() for weight in _networks(scene)]),
    }
    config = {name: value for name, value in scene.config.items() if not name.startswith("_")}
    about = {"version": VERSION, "model": config | {"num_parents": len(cells)}, "steps": asdict(steps)}
    return safetensors.numpy.save(tensors, {"lpgs": json.dumps(about)})


@torch.no_grad()
def decode_scene(data: bytes) -> LPGSGaussians:
    """The scene of a file.

    Args:
        data: what `encode_scene` made, of any origin.

    Raises:
        ValueError: when the data cannot be what `encode_scene` makes. No size that the data claims is trusted.
    """
    tensors, about = _read(data)
    config, steps = _config_of(about), LPGSSteps(**about["steps"])
    scales = ValuesDecoder(tensors["scales"].tobytes(), 3)
    grid = Decoder(tensors["grid"].tobytes())
    with torch.device("meta"):  # tells every size without memory
        expected = LPGSGaussians(**config)
    counts = {
        "num_parents": (config["num_parents"], scales.count),
        "numbers of the grid": (expected.grid.table.numel(), grid.count),
        "numbers of the networks": (sum(weight.numel() for weight in _networks(expected)), len(tensors["networks"])),
    }
    for name, (said, held) in counts.items():
        if said != held:
            raise ValueError(f"{name} of an LPGS file must be what its streams hold, {held}, not {said}.")
    cells = decode_cells(tensors["positions"].tobytes(), scales.count)
    scene = LPGSGaussians(**config)
    scene.parent_means.copy_(torch.from_numpy(cells * steps.position_step))
    scene.parent_log_scales.copy_(torch.from_numpy(scales.decode(cells) * steps.scale_step))
    scene.grid.table.copy_(_decode_grid(grid, scene, steps.grid_step))
    numbers = torch.from_numpy(tensors["networks"].astype(np.float32))
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError("networks of an LPGS file must be finite, but hold NaN or infinity.")
    networks = _networks(scene)
    for weight, values in zip(networks, numbers.split([weight.numel() for weight in networks]), strict=True):
        weight.copy_(values.view_as(weight))
    return scene.eval()


def storage_report(data: bytes) -> dict[str, int]:
    """Bytes by tensor, and of all that is no tensor under `container`; together the file's size.

    Raises:
        ValueError: when the data cannot be what `encode_scene` makes.
    """
    sizes = {name: tensor.nbytes for name, tensor in _read(data)[0].items()}
    return {**sizes, "container": len(data) - sum(sizes.values())}


def _encode_grid(scene: LPGSGaussians, step: float) -> bytes:
    integers = _multiples(scene.grid.table, step)
    largest = int(np.abs(integers).max(initial=0))
    if largest > LARGEST_GRID_INTEGER:
        raise ValueError(f"grid_step must be at least {step * largest / LARGEST_GRID_INTEGER:.3g}, not {step:g}.")
    return encode([((integers + largest).ravel(), _levels(scene))], _num_levels(scene), 2 * largest + 1)


def _decode_grid(decoder: Decoder, scene: LPGSGaussians, step: float) -> Tensor:
    if decoder.num_contexts != _num_levels(scene) or decoder.alphabet % 2 == 0:
        raise ValueError(
            f"The grid of an LPGS file must have {_num_levels(scene)} contexts and an odd alphabet, "
            f"not {decoder.num_contexts} and {decoder.alphabet}."
        )
    integers = decoder.decode(_levels(scene)) - decoder.alphabet // 2
    decoder.finish()
    return torch.from_numpy(integers * step).view(scene.grid.table.shape)


def _levels(scene: LPGSGaussians) -> np.ndarray:
    """The level of each number of the grid, which has its own frequencies."""
    rows, features = scene.grid.table.shape
    firsts = getattr(scene.grid, "firsts", [0, rows])
    return np.repeat(np.arange(len(firsts) - 1), [features * (end - first) for first, end in pairwise(firsts)])


def _num_levels(scene: LPGSGaussians) -> int:
    return len(getattr(scene.grid, "firsts", (0, 1))) - 1


def _networks(scene: LPGSGaussians) -> list[nn.Parameter]:
    apart = {"parent_means", "parent_log_scales"}
    table = scene.grid.table
    return [value for name, value in scene.named_parameters() if name not in apart and value is not table]


def _multiples(values: Tensor, step: float) -> np.ndarray:
    return np.rint(values.detach().double().cpu().numpy() / step).astype(np.int64)


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _read(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        tensors = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["lpgs"])
        version = about["version"]
        shapes = {name: (tensor.dtype.str, tensor.ndim) for name, tensor in tensors.items()}
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"An LPGS file must be in the safetensors format with the metadata `lpgs`: {error}.") from None
    wanted = {"positions": ("|u1", 1), "scales": ("|u1", 1), "grid": ("|u1", 1), "networks": ("<f2", 1)}
    if version != VERSION or shapes != wanted:
        raise ValueError(f"An LPGS file must be of version {VERSION} with tensors {sorted(wanted)}, not {version!r}.")
    return tensors, about


def _config_of(about: dict[str, Any]) -> dict[str, Any]:
    """The model's arguments, each of its default's type and of a size that a scene may have."""
    defaults = {n: p.default for n, p in inspect.signature(LPGSGaussians.__init__).parameters.items() if n != "self"}
    config, steps = about.get("model"), about.get("steps")
    if not isinstance(config, dict) or set(config) != set(defaults):
        raise ValueError(f"An LPGS file must say of its model {sorted(defaults)}.")
    if not isinstance(steps, dict) or set(steps) != {"position_step", "scale_step", "grid_step"}:
        raise ValueError("An LPGS file must say its position_step, scale_step and grid_step.")
    for name, value in config.items():
        wanted = (int, float) if isinstance(defaults[name], float) else type(defaults[name])
        right = isinstance(value, list) if isinstance(defaults[name], tuple) else isinstance(value, wanted)
        if not right or (isinstance(value, bool) and not isinstance(defaults[name], bool)):
            raise ValueError(f"{name} of an LPGS file must be like {defaults[name]!r}, not {value!r}.")
        if isinstance(value, int) and not 0 <= value <= LIMITS.get(name, 1 << 31):
            raise ValueError(f"{name} of an LPGS file must be from 0 to {LIMITS.get(name, 1 << 31)}, not {value}.")
    if len(config["center"]) != 3 or not all(isinstance(value, int | float) for value in config["center"]):
        raise ValueError(f"center of an LPGS file must be three numbers, not {config['center']!r}.")
    for name, choices in {"encoding": ("hash", "frequency"), "contraction": ("mipnerf360", "box")}.items():
        if config[name] not in choices:
            raise ValueError(f"{name} of an LPGS file must be one of {choices}, not {config[name]!r}.")
    if not 1 <= config["hash_base_resolution"] <= config["hash_max_resolution"] or config["hash_levels"] < 1:
        raise ValueError("An LPGS file must have at least one level, and resolutions that grow from at least 1.")
    return config
