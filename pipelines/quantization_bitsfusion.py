"""`pocket quantize`: any diffusers model in a folder to one of a few bits a weight (BitsFusion, arXiv 2406.04333).

Weights are read, rounded and packed layer by layer, so that the whole model is never in memory.
"""

import copy
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ModelMixin, SchedulerMixin
from torch import Tensor, nn

from ..hub_models.layers.low_bit import LOW_BIT, LowBitLayer
from ..hub_models.layers.low_bit_levels import Levels
from ..hub_models.layers.time_embedding_cache import cached_widths, compute_projections, replaced_layers
from ..hub_models.quantizer_bitsfusion import BitsFusionConfig, average_bits
from .files import read_json, whole_folder, write_json
from .inputs import require
from .repository import INDEX, PACKAGE, meta_diffusers_model
from .result_folder import refuse_to_destroy, write_record
from .sharded_weights import SHARD_BYTES, ShardWriter, find_weights, read_tensors, weight_shapes

PUBLISHED_BITS = 1.99
BITS_THAT_HOLD = 3  # below these, pictures of weights that were only rounded fall apart
REGISTERING = BitsFusionConfig.__module__
DENOISERS = ("unet", "transformer")
ALL_TIMESTEPS = 1000  # of diffusers' schedulers, unless their config says otherwise
WEIGHTS = {".bin", ".ckpt", ".gguf", ".msgpack", ".pt", ".pth", ".safetensors"}


@dataclass(frozen=True)
class Quantization:
    """What was done to a model.

    Attributes:
        model_class: of the model.
        loader: the class whose `from_pretrained` loads the result: the model's or that of its pipeline.
        layers: that are packed.
        layers_in_all: Linear and Conv2d layers.
        bytes_before: of the model's weight files.
        bytes_after: of theirs.
        cached_timesteps: of the table in place of the layers of time; 0 where those stayed.
        average_bits: a weight of all Linear and Conv2d layers, as the paper counts them.
        packed_bits: the same of the packed layers alone.
        relative_error: of the packed weights, as root of the sum of squares over that of the weights.
    """

    model_class: str
    loader: str
    layers: int
    layers_in_all: int
    bytes_before: int
    bytes_after: int
    cached_timesteps: int
    average_bits: float
    packed_bits: float
    relative_error: float

    def told(self, target: Path) -> str:
        """These numbers, what they mean for pictures, and how the folder at `target` is loaded."""
        package = "diffusers" if hasattr(diffusers, self.loader) else PACKAGE
        warning = (
            ""
            if self.packed_bits >= Levels(BITS_THAT_HOLD).bits_per_weight
            else f"Below {BITS_THAT_HOLD} bits pictures will not hold without training, which this was not.\n"
        )
        steps = self.cached_timesteps
        cache = f"Time embeddings of {steps} timesteps are cached, others refused\n" if steps else ""
        return (
            f"Packed {self.layers} of {self.layers_in_all} layers of {self.model_class}: {self.bytes_before:,} bytes "
            f"of weights before, {self.bytes_after:,} after\n"
            f"Bits a weight: {self.packed_bits:.3f} of packed layers, {self.average_bits:.3f} of all; "
            f"relative error of packed weights: {self.relative_error:.4f}\n{cache}{warning}"
            f"To load it:\n"
            f"    import {REGISTERING}\n"
            f"    from {package} import {self.loader}\n"
            f'    {self.loader}.from_pretrained("{target}")'
        )


def quantize_folder(
    source: str | Path,
    target: str | Path,
    bits: float = 4,
    recipe: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda part: None,
    cache_steps: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Quantization:
    """Packs the weights of a model, or of a pipeline's unet or transformer, and copies what else the pipeline has.

    Args:
        source: a folder that diffusers loads, with safetensors.
        target: the folder to make; there whole or not at all.
        bits: a weight, 1 to 8; 1.99 takes the published recipe, which is one for Stable Diffusion 1.5's UNet.
        recipe: a JSON object of bits by layer; other layers take `bits`.
        overwrite: whether an earlier target may be replaced.
        progress: called with the part of the work that is newly done, of 1 in all.
        cache_steps: of the pipeline's scheduler, for whose timesteps a table stands in place of a UNet's layers of
            time; as many as it was trained with, commonly 1000, are every timestep, and the only choice of a model
            without pipeline; None leaves the layers.
        shard_bytes: at most this many bytes of tensors in a file.

    Raises:
        FileNotFoundError: there is no model, or a part of it is missing.
        FileExistsError: there is a target, and it is not to be replaced.
        OSError: the target cannot be written.
        ValueError: an argument or the model is not as it must be.
    """
    start = time.perf_counter()
    source, target = Path(source), Path(target)
    _check_target(source, target, overwrite)
    folder = _denoiser_folder(source)
    stored = _stored_config(folder)
    model = meta_diffusers_model(folder, _model_class(folder, stored))
    files, variant = find_weights(folder, type(model))
    replaced = {} if cache_steps is None else _replaced_tensors(model)
    config = _config(bits, recipe, [] if cache_steps is None else _timesteps(source, folder, cache_steps))
    packing = _Packing(_empty_layers(model, config, folder, bits, recipe), replaced)
    packing.check(weight_shapes(files), files[0])
    total = sum(file.stat().st_size for file in files)
    with whole_folder(target) as draft:
        inside = draft / folder.relative_to(source)
        inside.mkdir(exist_ok=True)
        writer = ShardWriter(inside, variant, shard_bytes)
        if packing.replaced:
            projections = compute_projections(model, config.cached_timesteps, _reader(model, files))
            writer.add("time_proj.projections", projections)
        for key, tensor in read_tensors(files):
            for name, packed in packing.of(key, tensor):
                writer.add(name, packed)
            progress(tensor.nbytes / total)
        after = writer.finish()
        write_json(inside / "config.json", {**stored, "quantization_config": config.to_dict()}, sort_keys=True)
        _copy_rest(source, folder, draft)
        loader = type(model).__name__ if folder == source else _pipeline_class(source)
        done = _result(model, loader, config, packing, total, after)
        inputs = {
            "source": source.name, "bits": bits, "recipe": recipe and Path(recipe).name, "cache_steps": cache_steps,
            "result": asdict(done),
        }  # fmt: skip
        write_record(draft, "pocket quantize", inputs, None, time.perf_counter() - start)
    return done


def _result(
    model: nn.Module, loader: str, config: BitsFusionConfig, packing: "_Packing", before: int, after: int
) -> Quantization:
    counts = {name: layer.weight.numel() for name, layer in model.named_modules() if type(layer) in LOW_BIT}
    bits = {name: layer.levels.bits for name, layer in packing.layers.items()}
    steps = len(config.cached_timesteps)
    cache = (replaced_layers(model), steps * cached_widths(model)) if steps else ()
    return Quantization(
        type(model).__name__, loader, len(bits), len(counts), before, after, steps, average_bits(counts, bits, *cache),
        average_bits({name: counts[name] for name in bits}, bits), packing.relative_error,
    )  # fmt: skip


class _Packing:
    """Turns the weights of some layers into words and scales, and adds up what that costs them.

    Args:
        layers: by name, on the meta device; each is packed and emptied again in its turn.
        replaced: shapes of the tensors in whose place a cache stands, by name.
    """

    def __init__(self, layers: Mapping[str, LowBitLayer], replaced: Mapping[str, tuple[int, ...]]) -> None:
        self.layers, self.replaced = layers, replaced
        self._squared_error = self._squares = 0.0

    def check(self, shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
        """Refuses a file without the layers' weights, or with others than theirs, by the shapes of its tensors."""
        packed = {f"{name}.weight": tuple(layer.weight_shape) for name, layer in self.layers.items()}
        for key, wanted in {**packed, **self.replaced}.items():
            found = shapes.get(key)
            if found is None:
                raise ValueError(f"{file}: tensor {key} is missing.")
            if found != wanted:
                raise ValueError(f"{file}: tensor {key} must be {list(wanted)}, not {list(found)}.")

    def of(self, key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What is written in place of a tensor: itself, where it is no weight of such a layer, or nothing."""
        if key in self.replaced:
            return
        name, _, kind = key.rpartition(".")
        if kind != "weight" or name not in self.layers:
            yield key, tensor.clone()
            return
        require(tensor.is_floating_point(), f"tensor {key}", tensor.dtype, "of floating-point numbers")
        layer = self.layers[name]
        try:
            layer.load_weight(tensor, torch.float32)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        yield f"{name}.words", layer.words
        yield f"{name}.scales", layer.scales
        self._squares += _norm(tensor) ** 2
        self._squared_error += _norm(layer.rounded_weight().sub_(tensor)) ** 2
        layer.freeze_empty(torch.float32)

    @property
    def relative_error(self) -> float:
        return math.sqrt(self._squared_error / self._squares) if self._squares else 0.0


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.float()))


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if not source.is_dir():
        raise FileNotFoundError(f"{source} must be a folder that diffusers loads, which it is not.")
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise ValueError(f"the output must be a folder apart from {source}, not {target}.")
    refuse_to_destroy(target, overwrite)


def _denoiser_folder(source: Path) -> Path:
    """The model's own folder, which is the source itself or in it."""
    if not (source / INDEX).is_file():
        if (source / "config.json").is_file():
            return source
        raise FileNotFoundError(f"{source} holds no model: neither {INDEX} of a pipeline nor config.json of a model.")
    index = read_json(source / INDEX, dict)
    for name in DENOISERS:
        if isinstance(index.get(name), list) and index[name] != [None, None]:
            return source / name
    raise ValueError(f"{source / INDEX} must name a {' or a '.join(DENOISERS)}, which it does not.")


def _pipeline_class(source: Path) -> str:
    """The name that a pipeline's index has for its class; that of any, where it is of another package."""
    stored = read_json(source / INDEX, dict).get("_class_name")
    name = str(stored[-1] if isinstance(stored, list) and stored else stored)
    return name if hasattr(diffusers, name) or hasattr(import_module(PACKAGE), name) else "DiffusionPipeline"


def _stored_config(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = read_json(folder / "config.json", dict)
    if "quantization_config" in stored:
        given = stored["quantization_config"]
        by = f", by {given['quant_method']}" if isinstance(given, dict) and "quant_method" in given else ""
        raise ValueError(f"{folder} is quantised already{by}: give the folder that it was made of.")
    return stored


def _model_class(folder: Path, stored: Mapping[str, Any]) -> type[ModelMixin]:
    """The class that config.json names, of diffusers or of this package."""
    path, name = folder / "config.json", str(stored.get("_class_name"))
    found = getattr(diffusers, name, None) or getattr(import_module(PACKAGE), name, None)
    if not (isinstance(found, type) and issubclass(found, ModelMixin)):
        raise ValueError(f"{path} must name a model of diffusers or of {PACKAGE} as _class_name, not {name!r}.")
    return found


def _config(bits: float, recipe: str | Path | None, timesteps: list[float]) -> BitsFusionConfig:
    if recipe is None and bits == PUBLISHED_BITS:
        return BitsFusionConfig.published(timesteps)
    allowed = "a whole number from 1 to 8" + (f", or {PUBLISHED_BITS}" if recipe is None else " beside a recipe")
    require(bits in range(1, 9), "bits", bits, allowed)
    if recipe is None:
        return BitsFusionConfig(default_bits=int(bits), cached_timesteps=timesteps)
    try:
        return BitsFusionConfig(read_json(recipe, dict), int(bits), cached_timesteps=timesteps)
    except ValueError as error:
        raise ValueError(f"{recipe}: {error}") from None


def _empty_layers(
    model: nn.Module, config: BitsFusionConfig, folder: Path, bits: float, recipe: str | Path | None
) -> dict[str, LowBitLayer]:
    try:
        by_layer = config.layer_bits(model)
    except ValueError as error:
        if recipe is not None:
            raise ValueError(f"{recipe}: {error}") from None
        if bits == PUBLISHED_BITS:
            what = f"bits {bits} is the published recipe for Stable Diffusion 1.5's UNet, which {folder} does not hold"
            raise ValueError(f"{what}: {error}") from None
        raise ValueError(f"{folder}: {error}") from None
    made = {}
    for name, own in by_layer.items():
        layer = model.get_submodule(name)
        made[name] = LOW_BIT[type(layer)].of(layer, own)
    return made


def _timesteps(source: Path, folder: Path, steps: int) -> list[float]:
    """The distinct timesteps that the pipeline's scheduler takes in so many steps, or all."""
    scheduler = None if folder == source else _scheduler(source)
    everything = ALL_TIMESTEPS if scheduler is None else scheduler.config.get("num_train_timesteps", ALL_TIMESTEPS)
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if scheduler is None:
        allowed = f"{everything} for a model without the pipeline whose scheduler would say which timesteps"
        require(whole and steps == everything, "cache_steps", steps, allowed)
    require(whole and 1 <= steps <= everything, "cache_steps", steps, f"a whole number from 1 to {everything}")
    if scheduler is None or steps == everything:
        return list(range(everything))
    scheduler.set_timesteps(steps)
    return list(dict.fromkeys(scheduler.timesteps.tolist()))


def _scheduler(source: Path) -> SchedulerMixin:
    stored = read_json(source / INDEX, dict).get("scheduler")
    name = str(stored[-1] if isinstance(stored, list) and stored else stored)
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise ValueError(f"{source / INDEX} must name a scheduler of diffusers for a cache of its steps, not {name!r}.")
    return found.from_config(read_json(source / "scheduler" / "scheduler_config.json", dict))


def _replaced_tensors(model: nn.Module) -> dict[str, tuple[int, ...]]:
    layers = replaced_layers(model)
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if key.rpartition(".")[0] in layers}


def _reader(model: nn.Module, files: list[Path]) -> Callable[[str], nn.Module]:
    """Gives modules of a model that is on the meta device, with weights as the files have them."""

    def read(name: str) -> nn.Module:
        module = copy.deepcopy(model.get_submodule(name))
        keys = {f"{name}.{key}": key for key in module.state_dict()}
        weights = {keys[key]: tensor.float() for key, tensor in read_tensors(files, keys)}
        module.load_state_dict(weights, assign=True)
        return module

    return read


def _copy_rest(source: Path, folder: Path, draft: Path) -> None:
    """All of a pipeline but its denoiser, and files of weights beside the index, which are a second copy of it."""
    if folder == source:
        return
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        second_copy = len(inside.parts) == 1 and path.suffix.lower() in WEIGHTS
        if inside.parts[0] == folder.name or inside.parts[0].startswith(".") or second_copy or not path.is_file():
            continue
        (draft / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, draft / inside)
