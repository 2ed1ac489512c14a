"""The file of an LPGS scene: parents and grid quantised and entropy-coded, networks in half precision.

The file is in the safetensors format. Its tensors are

| tensor | content |
|---|---|
| positions | cells of the parents, bytes of `octree_coding`; a parent is at its cell times `position_step` |
| scales | logarithms of the parents' scales in multiples of `scale_step`, bytes of `neighbor_coding` |
| grid | the hash grid's numbers in multiples of `grid_step`, bytes of `entropy_coding`, a context a level |
| networks | all other weights, half precision, in the order of the model's parameters |

and its metadata is one JSON text under `lpgs`: the version of this layout, the model's configuration, the steps, and
under `circle` from where the scene is best looked at, or null.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from reprlib import repr as shown
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
LARGEST_MULTIPLE = (1 << 31) - 1
LARGEST_HALF = 65504.0
LARGEST_NUMBER = 1e9  # of the real numbers of a model
LONGEST_TEXT = 20
UP_AXES = ("x", "y", "z", "-x", "-y", "-z")
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
                raise ValueError(f"{name} must be a number from 1e-9 to 1e9, not {shown(value)}.")


@torch.no_grad()
def round_parents(scene: LPGSGaussians, steps: LPGSSteps) -> None:
    """Moves parents to where and as large as the file can say, so that the rest can be trained for that."""
    for values, step in ((scene.parent_means, steps.position_step), (scene.parent_log_scales, steps.scale_step)):
        values.copy_((values.double() / step).round() * step)  # double, as decoding has it: so both agree to the bit


@torch.no_grad()
def encode_scene(scene: LPGSGaussians, steps: LPGSSteps, circle: Mapping[str, Any] | None = None) -> bytes:
    """A file's bytes; decoding gives a scene whose parents are in Morton order.

    Args:
        scene: what the file holds.
        steps: what its numbers are rounded to.
        circle: on which cameras see the scene well: `center` [3] and `distance` in scene units, `elevation` in degrees,
            and the axis `up`, such as "-y".

    Raises:
        ValueError: when a weight is not finite or too large for half precision, or numbers span too many steps.
    """
    for name, value in scene.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    networks = torch.cat([weight.detach().flatten() for weight in _networks(scene)])
    if (largest := float(networks.abs().max())) > LARGEST_HALF:
        raise ValueError(f"Weights of the networks must be at most {LARGEST_HALF:g}, not {largest:g}.")
    cells = _multiples("position_step", scene.parent_means, steps.position_step)
    order = morton_order(cells)
    cells = cells[order]
    scales = _multiples("scale_step", scene.parent_log_scales, steps.scale_step)[order]
    tensors = {
        "positions": _bytes(encode_cells(cells)),
        "scales": _bytes(encode_values(scales, cells)),
        "grid": _bytes(_encode_grid(scene, steps.grid_step)),
        "networks": networks.half().cpu().numpy(),
    }
    config = {name: value for name, value in scene.config.items() if not name.startswith("_")}
    about = {"version": VERSION, "model": config | {"num_parents": len(cells)}, "steps": asdict(steps)}
    _check_circle(circle)
    about["circle"] = circle and dict(circle)
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


def stored_steps(data: bytes) -> LPGSSteps:
    """What the numbers of a file are rounded to.

    Raises:
        ValueError: when the data cannot be what `encode_scene` makes.
    """
    about = _read(data)[1]
    _config_of(about)
    return LPGSSteps(**about["steps"])


def stored_circle(data: bytes) -> dict[str, Any] | None:
    """From where the scene of a file is best looked at, as `encode_scene` took it; None where the file does not say.

    Raises:
        ValueError: when the data cannot be what `encode_scene` makes.
    """
    circle: dict[str, Any] | None = _read(data)[1].get("circle")
    return circle


def _check_circle(circle: Any) -> None:
    if circle is None:
        return
    good = isinstance(circle, dict) and set(circle) == {"center", "distance", "elevation", "up"}
    good = good and isinstance(circle["center"], list | tuple) and len(circle["center"]) == 3
    good = good and all(map(_is_moderate, (*circle["center"], circle["distance"], circle["elevation"])))
    good = good and circle["distance"] > 0 and abs(circle["elevation"]) <= 89 and circle["up"] in UP_AXES
    if not good:
        raise ValueError(
            f"circle of an LPGS file must have center (three numbers), distance, elevation and up, not {shown(circle)}."
        )


def _encode_grid(scene: LPGSGaussians, step: float) -> bytes:
    integers = _multiples("grid_step", scene.grid.table, step)
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


def _multiples(name: str, values: Tensor, step: float) -> np.ndarray:
    multiples = np.rint(values.detach().double().cpu().numpy() / step)
    if (largest := np.abs(multiples).max(initial=0)) > LARGEST_MULTIPLE:
        raise ValueError(f"{name} must be at least {step * largest / LARGEST_MULTIPLE:.3g}, not {step:g}.")
    return multiples.astype(np.int64)


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
        raise ValueError(
            f"An LPGS file must be of version {VERSION} with tensors {sorted(wanted)}, not {shown(version)}."
        )
    _check_circle(about.get("circle"))
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
        default = defaults[name]
        like = type(value) in ((int, float) if isinstance(default, float) else (type(default),))
        if isinstance(default, tuple):
            like = isinstance(value, list) and len(value) == len(default) and all(map(_is_moderate, value))
        if not like or (isinstance(default, float) and not _is_moderate(value)):
            raise ValueError(f"{name} of an LPGS file must be like {default!r}, not {shown(value)}.")
        limit = LIMITS.get(name, LARGEST_MULTIPLE)
        if type(value) is int and not 0 <= value <= limit:
            raise ValueError(f"{name} of an LPGS file must be from 0 to {limit}, not {shown(value)}.")
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise ValueError(f"{name} of an LPGS file must be a word, not {shown(value)}.")
    return config


def _is_moderate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER
