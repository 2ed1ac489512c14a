"""Plain Gaussians in few bytes: quantised in uniform steps, in Morton order, and entropy-coded in context.

The file is in the safetensors format. Its tensors are streams of bytes: `positions` (`octree_coding`), then `opacity`,
`size`, `shape`, `color` and, above degree 0, `sh_1`, `sh_2`, `sh_3` (`neighbor_coding`). Its metadata is one JSON text
under `splats`: the version of this layout, the unit of length, and the steps.

| stream | integer times its step is |
|---|---|
| positions | the centre in scene units, a step being `position_step` units |
| opacity | arcsin(sqrt(opacity)), which spreads the error evenly over what is seen; at most pi / 2 |
| size | the first of six coefficients of the logarithm of the covariance (`log_covariance`), small scales narrowed |
| shape | the other five; the step is two or four times as long where `coarseness` says so |
| color | luma Y, then Co and Cg, of spherical-harmonic degree 0 times 0.2821, that is in units of displayed colour |
| sh_l | for each of the 2 l + 1 coefficients of degree l: Y, Co, Cg |

Y = (R + 2 G + B) / 4, Co = (R - B) / 2, Cg = (2 G - R - B) / 4.
"""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Self

import numpy as np
import safetensors.numpy
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from .gaussians import DEGREES, Gaussians
from .log_covariance import NUM_COEFFICIENTS, log_covariances, scales_and_rotations
from .morton_order import morton_order
from .neighbor_coding import ValuesDecoder, encode_values
from .octree_coding import MAX_SPAN, decode_cells, encode_cells
from .spherical_harmonics import SH_C0

VERSION = 1
THIN_STEPS = 8  # how much coarser what is thin is coded
COARSE_BELOW = (0.6, 0.1)  # opacity times size in units, below which the step of shapes doubles
LEAST_OPACITY = 1e-6  # as in the formats that hold opacities as bytes
TO_YCOCG = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0, -0.5], [-0.25, 0.5, -0.25]], dtype=torch.double)


@dataclass(frozen=True)
class SplatCodecConfig:
    """Steps of the quantisation; an error is at most half a step (for the shape of faint and small Gaussians, two).

    Lengths are in units of the scene's typical Gaussian (`unit_length`), so that one config fits scenes of any size.
    The defaults lose about equally much picture quality to each attribute.

    Attributes:
        position_step: edge of a grid cell, in units.
        shape_step: of a coefficient of the logarithm of the covariance; for faint and small Gaussians, of the first.
        thin_scale: the logarithms of standard deviations below it, in units, are coded 8 times as coarsely, since what
            is thinner than its position is exact is not seen thinner.
        opacity_step: of arcsin(sqrt(opacity)), in radians.
        luma_step, chroma_step: of colour, 1 being the range of the display.
        sh_luma_step, sh_chroma_step: of the coefficients above degree 0.

    Raises:
        ValueError: for a value that is not positive and finite.
    """

    position_step: float = 1.0
    shape_step: float = 0.3
    thin_scale: float = 0.5
    opacity_step: float = 1 / 12
    luma_step: float = 1 / 20
    chroma_step: float = 1 / 20
    sh_luma_step: float = 1 / 8
    sh_chroma_step: float = 1 / 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _check_positive(name, value)

    def coarser(self, factor: float) -> Self:
        """Every step times `factor`, or finer where that is below 1; what counts as thin stays."""
        steps = {name: value * factor for name, value in asdict(self).items() if name != "thin_scale"}
        return replace(self, **steps)


def unit_length(gaussians: Gaussians) -> float:
    """The median over Gaussians of the geometric mean of their three standard deviations, 1 if there are none."""
    mean_logs = gaussians.log_scales.double().mean(1)
    return float(mean_logs.median().exp()) if len(gaussians) else 1.0


def encode_splats(gaussians: Gaussians, config: SplatCodecConfig | None = None, *, unit: float | None = None) -> bytes:
    """A file's bytes; decoding gives the same Gaussians up to half a step, in Morton order.

    Args:
        gaussians: any number of them.
        config: steps, by default `SplatCodecConfig()`.
        unit: the length that steps of lengths multiply, in scene units; default `unit_length(gaussians)`. With the unit
            and the config that a file holds, what was decoded from it encodes without further loss.

    Raises:
        ValueError: when a value is not finite, a rotation is 0, or values span too many steps.
    """
    gaussians = gaussians.detach().to("cpu").check_finite()
    if (gaussians.quaternions == 0).all(1).any():
        raise ValueError("quaternions must have a length, but one is 0.")
    config = config or SplatCodecConfig()
    unit = unit_length(gaussians) if unit is None else unit
    _check_positive("unit", unit)
    step = config.position_step * unit
    cells = _quantise("means", gaussians.means.double(), step)
    span = int(np.ptp(cells, 0).max()) + 1 if len(cells) else 0
    if span > MAX_SPAN:
        raise ValueError(
            f"means must span at most {MAX_SPAN} steps of {step:g} an axis, not {span}; "
            "a larger position_step spans more."
        )
    order = morton_order(cells)
    gaussians, cells = gaussians.select(torch.from_numpy(order)), cells[order]
    values, steps = _values(gaussians, config, unit), _steps(config)
    numbers = {name: _quantise(name, value, steps[name]) for name, value in values.items() if name != "shape"}
    coarse = coarseness(numbers["opacity"], numbers["size"], config, unit)
    numbers["shape"] = _quantise("shape", values["shape"], steps["shape"] * 2.0 ** coarse[:, None])
    streams = {"positions": encode_cells(cells)}
    streams |= {name: encode_values(numbers[name], cells, _coarse(name, coarse)) for name in values}
    about = {"version": VERSION, "unit": unit, **asdict(config)}
    return safetensors.numpy.save(
        {name: np.frombuffer(stream, np.uint8) for name, stream in streams.items()}, {"splats": json.dumps(about)}
    )


def decode_splats(data: bytes) -> Gaussians:
    """The Gaussians of a file, in Morton order.

    Args:
        data: what `encode_splats` made, of any origin.

    Raises:
        ValueError: when the data cannot be what `encode_splats` makes. No size that the data claims is trusted.
    """
    streams, about = _read(data)
    config, unit = _config_of(about)
    decoders, count, degree = _decoders(streams)
    cells = decode_cells(streams["positions"], count)
    numbers = {name: decoders[name].decode(cells) for name in decoders if name != "shape"}
    coarse = coarseness(numbers["opacity"], numbers["size"], config, unit)
    numbers["shape"] = decoders["shape"].decode(cells, coarse) << coarse[:, None]
    steps = _steps(config)
    values = {name: torch.from_numpy(number * steps[name]) for name, number in numbers.items()}
    narrowed, quaternions = scales_and_rotations(torch.cat([values["size"], values["shape"]], 1))
    thin = math.log(config.thin_scale * unit)
    log_scales = torch.where(narrowed < thin, thin + (narrowed - thin) * THIN_STEPS, narrowed)
    opacities = values["opacity"][:, 0].clamp(0, math.pi / 2).sin() ** 2
    sh = [values["color"][:, None] / SH_C0, *(values[f"sh_{n}"].unflatten(1, (-1, 3)) for n in range(1, degree + 1))]
    return Gaussians(
        means=(torch.from_numpy(cells) * (config.position_step * unit)).float(),
        log_scales=log_scales.float(),
        quaternions=quaternions.float(),
        opacity_logits=opacities.clamp(LEAST_OPACITY, 1 - LEAST_OPACITY).logit().float(),
        sh=(torch.cat(sh, 1) @ torch.linalg.inv(TO_YCOCG).T).float(),
    )


def claimed_size(data: bytes) -> tuple[int, int]:
    """How many Gaussians a file claims to hold, at most 1,024 a byte, and their SH degree, before any is decoded.

    Raises:
        ValueError: when the data cannot be what `encode_splats` makes.
    """
    return _decoders(_read(data)[0])[1:]


def splat_config(data: bytes) -> tuple[SplatCodecConfig, float]:
    """The steps and the unit of length of a file.

    Raises:
        ValueError: when the data cannot be what `encode_splats` makes.
    """
    return _config_of(_read(data)[1])


def size_report(data: bytes) -> dict[str, int]:
    """Bytes by stream, and of all that is not a stream under `container`; together the file's size.

    Raises:
        ValueError: when the data cannot be what `encode_splats` makes.
    """
    sizes = {name: len(stream) for name, stream in _read(data)[0].items()}
    return {**sizes, "container": len(data) - sum(sizes.values())}


def _values(gaussians: Gaussians, config: SplatCodecConfig, unit: float) -> dict[str, Float[Tensor, "gaussians _"]]:
    """Stream -> what is quantised for it."""
    thin = math.log(config.thin_scale * unit)
    log_scales = gaussians.log_scales.double()
    narrowed = torch.where(log_scales < thin, thin + (log_scales - thin) / THIN_STEPS, log_scales)
    ycocg = gaussians.sh.double() @ TO_YCOCG.T
    coefficients = log_covariances(narrowed, gaussians.quaternions)
    return {
        "size": coefficients[:, :1],
        "shape": coefficients[:, 1:],
        "opacity": gaussians.opacity_logits.double().sigmoid().sqrt().asin()[:, None],
        "color": ycocg[:, 0] * SH_C0,
        **{f"sh_{n}": ycocg[:, n * n : (n + 1) ** 2].flatten(1) for n in range(1, gaussians.sh_degree + 1)},
    }


def coarseness(opacity: np.ndarray, size: np.ndarray, config: SplatCodecConfig, unit: float) -> np.ndarray:
    """How many times the step of a shape doubles, since errors of faint and small Gaussians are seen less.

    Args:
        opacity, size: integers of these streams [gaussians, 1].

    Returns:
        0, 1 or 2 [gaussians].
    """
    opacities = np.sin(np.clip(opacity[:, 0] * config.opacity_step, 0, math.pi / 2)) ** 2
    sizes = np.exp(np.minimum(size[:, 0] * (config.shape_step / math.sqrt(3)) - math.log(unit), 80))
    return (opacities[:, None] * sizes[:, None] < COARSE_BELOW).sum(1)


def _coarse(name: str, coarse: np.ndarray) -> np.ndarray | None:
    return coarse if name == "shape" else None


def _channels(degree: int) -> dict[str, int]:
    """Stream -> integers a Gaussian."""
    harmonics = {f"sh_{n}": 3 * (2 * n + 1) for n in range(1, degree + 1)}
    return {"opacity": 1, "size": 1, "shape": NUM_COEFFICIENTS - 1, "color": 3, **harmonics}


def _steps(config: SplatCodecConfig) -> dict[str, np.ndarray]:
    """Stream -> steps of its integers."""
    harmonic = [config.sh_luma_step, config.sh_chroma_step, config.sh_chroma_step]
    return {
        "size": np.array([config.shape_step]),
        "shape": np.array([config.shape_step]),
        "opacity": np.array([config.opacity_step]),
        "color": np.array([config.luma_step, config.chroma_step, config.chroma_step]),
        **{f"sh_{n}": np.array(harmonic * (2 * n + 1)) for n in range(1, max(DEGREES.values()) + 1)},
    }


def _quantise(name: str, values: Tensor, step: np.ndarray | float) -> np.ndarray:
    quotients = np.rint(values.numpy() / step)
    largest = float(np.abs(quotients).max(initial=0))
    if largest >= 1 << 29:
        raise ValueError(f"{name} must be less than 2^29 steps from 0, not {largest:.3g}.")
    return quotients.astype(np.int64)


def _read(data: bytes) -> tuple[dict[str, bytes], dict]:
    """Streams, and the JSON that tells how to read them."""
    try:
        tensors = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["splats"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"A splat file must be in the safetensors format with the metadata `splats`: {error}."
        ) from None
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise ValueError(f"A splat file must be of version {VERSION}, but its metadata says {str(about)[:80]}.")
    for name, tensor in tensors.items():
        if tensor.dtype != np.uint8 or tensor.ndim != 1:
            raise ValueError(f"The streams of a splat file must be rows of bytes, but {name} is {tensor.dtype}.")
    return {name: tensor.tobytes() for name, tensor in tensors.items()}, about


def _config_of(about: dict) -> tuple[SplatCodecConfig, float]:
    names = {field.name for field in fields(SplatCodecConfig)}
    if set(about) != {"version", "unit", *names}:
        raise ValueError(f"A splat file must say its unit and steps {sorted(names)}, not {sorted(about)}.")
    _check_positive("unit", about["unit"])
    return SplatCodecConfig(**{name: about[name] for name in names}), about["unit"]


def _decoders(streams: dict[str, bytes]) -> tuple[dict[str, ValuesDecoder], int, int]:
    """Those of all streams but the positions, how many Gaussians each says it holds, and the SH degree."""
    degree = _degree_of(set(streams))
    decoders = {name: ValuesDecoder(streams[name], channels) for name, channels in _channels(degree).items()}
    counts = {name: decoder.count for name, decoder in decoders.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"The streams of a splat file must hold as many Gaussians as each other, not {counts}.")
    return decoders, counts["opacity"], degree


def _degree_of(names: set[str]) -> int:
    for degree in DEGREES.values():
        if names == {"positions", *_channels(degree)}:
            return degree
    raise ValueError(
        f"A splat file must hold positions, opacity, size, shape, color and whole sh degrees, not {sorted(names)}."
    )


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-9 <= value <= 1e9:
        raise ValueError(f"{name} must be a number from 1e-9 to 1e9, not {value!r}.")
