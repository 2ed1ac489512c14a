"""`pocket quantize`: any diffusers model in a folder to one of a few bits a weight (BitsFusion, arXiv 2406.04333).

Weights are read, rounded and packed layer by layer, so that the whole model is never in memory.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import diffusers
import torch
from torch import Tensor, nn

from .. import __version__
from ..hub_models.layers.low_bit import LOW_BIT, LowBitLayer
from ..hub_models.layers.low_bit_levels import Levels
from ..hub_models.layers.time_embedding_cache import cached_widths, compute_projections, replaced_layers
from ..hub_models.quantizer_bitsfusion import BitsFusionConfig, average_bits
from .calibration_bitsfusion import calibrated_bits
from .diffusers_folder import DiffusersFolder
from .files import draft_folder, read_json, write_json
from .hub_files import fetch_folder
from .inputs import require
from .loading import find_model
from .output_error import output_error
from .repository import PACKAGE, meta_diffusers_model
from .result_folder import refuse_to_destroy, write_record
from .sharded_weights import SHARD_BYTES, ShardWriter, find_weights, read_tensors, weight_shapes
from .unfinished_work import UnfinishedWork, unfinished_work

PUBLISHED_BITS = 1.99
BITS_THAT_HOLD = 3  # below these, pictures of weights that were only rounded fall apart
REGISTERING = BitsFusionConfig.__module__
CALIBRATED_BITS = (1.6, 8)
CALIBRATING = 0.95  # of the work, where there is such
MEASURED = "sensitivity"
RESULT = ".result.partial"  # in the hidden folder
ALL_TIMESTEPS = 1000  # of diffusers' schedulers, unless their config says otherwise


@dataclass(frozen=True)
class Quantization:
    """What was done to a model.

    Attributes:
        model_class: of the model.
        loader: the class whose `from_pretrained` loads the result: the model's or that of its pipeline.
        component: of the pipeline that the model is; None for a model alone.
        other_models: of the pipeline, which stayed as they were.
        layers: that are packed.
        layers_in_all: Linear and Conv2d layers.
        bytes_before: of the model's weight files.
        bytes_after: of theirs.
        cached_timesteps: of the table in place of the layers of time; 0 where those stayed.
        average_bits: a weight of all Linear and Conv2d layers, as the paper counts them.
        packed_bits: the same of the packed layers alone.
        relative_error: of the packed weights, as root of the sum of squares over that of the weights.
        output_error: the same of what the model answers to seeded noise half-way; None where its inputs are others.
    """

    model_class: str
    loader: str
    component: str | None
    other_models: list[str]
    layers: int
    layers_in_all: int
    bytes_before: int
    bytes_after: int
    cached_timesteps: int
    average_bits: float
    packed_bits: float
    relative_error: float
    output_error: float | None

    def told(self, target: Path) -> str:
        """These numbers, what they mean for pictures, and how the folder at `target` is loaded."""
        package = "diffusers" if hasattr(diffusers, self.loader) else PACKAGE
        warning = (
            ""
            if self.packed_bits >= Levels(BITS_THAT_HOLD).bits_per_weight
            else f"Below {BITS_THAT_HOLD} bits pictures will not hold without training, which this was not.\n"
        )
        told = (
            f"{self.output_error:.4f}" if self.output_error is not None else "not measured, for it takes other inputs"
        )
        steps = self.cached_timesteps
        others = (
            f"Left as they were: {', '.join(self.other_models)}; --component NAME packs one of the result's\n"
            if self.other_models
            else ""
        )
        cache = f"Time embeddings of {steps} timesteps are cached, others refused\n" if steps else ""
        return (
            f"Packed {self.layers} of {self.layers_in_all} layers of {self.model_class}: {self.bytes_before:,} bytes "
            f"of weights before, {self.bytes_after:,} after\n"
            f"Bits a weight: {self.packed_bits:.3f} of packed layers, {self.average_bits:.3f} of all; "
            f"relative error of packed weights: {self.relative_error:.4f}\n"
            f"Relative error of the model's output on noise and random text: {told}\n{others}{cache}{warning}"
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
    component: str | None = None,
    calibrate: str | Path | None = None,
) -> Quantization:
    """Packs the weights of a model, or of one model of a pipeline, and copies what else the pipeline has.

    A run that was interrupted goes on, when it is started again with the same source and settings, with the layers that
    it has packed: they are in the hidden folder `.NAME.unfinished` beside the target until that is whole.

    Args:
        source: a folder that diffusers loads, with safetensors; as a text also the name of weights of this package, or
            a repository "owner/name" of the Hub.
        target: the folder to make; there whole or not at all.
        bits: a weight, 1 to 8; 1.99 takes the published recipe, which is one for Stable Diffusion 1.5's UNet. With
            `calibrate` it is the average, from 1.6 to 8.
        recipe: a JSON object of bits by layer; other layers take `bits`.
        overwrite: whether an earlier target may be replaced.
        progress: called with the part of the work that is newly done, of 1 in all.
        cache_steps: of the pipeline's scheduler, for whose timesteps a table stands in place of a UNet's layers of
            time; as many as it was trained with, commonly 1000, are every timestep, and the only choice of a model
            without pipeline; None leaves the layers.
        shard_bytes: at most this many bytes of tensors in a file.
        component: the model of a pipeline; None is its unet or else its transformer.
        calibrate: a text file of prompts, one a line, by whose pictures each layer of a pipeline's UNet gets bits of
            its own; what is measured is kept in `sensitivity` beside the target. It takes far longer than packing, and
            the whole pipeline is in memory.

    Raises:
        FileNotFoundError: there is no model, or a part of it is missing.
        FileExistsError: there is a target, and it is not to be replaced.
        OSError: the target cannot be written.
        ValueError: an argument or the model is not as it must be.
    """
    start = time.perf_counter()
    target = Path(target)
    place = fetch_folder(find_model(source) if isinstance(source, str) else source)
    _check_target(place, target, overwrite)
    folder = DiffusersFolder(place, component)
    model = meta_diffusers_model(folder.model_folder, folder.model_class)
    files, variant = find_weights(folder.model_folder, type(model))
    replaced = {} if cache_steps is None else _replaced_tensors(model)
    timesteps = [] if cache_steps is None else _timesteps(folder, cache_steps)
    if calibrate is None:
        config = _config(bits, recipe, timesteps)
    else:
        config = _calibrated_config(
            folder, bits, recipe, timesteps, Path(calibrate), target.parent / MEASURED, progress
        )
        progress = _share(progress, 1 - CALIBRATING)
    packing = _Packing(_empty_layers(model, config, folder.model_folder, bits, recipe), replaced)
    shapes = weight_shapes(files)
    packing.check(shapes, files[0])
    before = sum(file.stat().st_size for file in files)
    with unfinished_work(target, _job(config, files)) as work, draft_folder(target, work.folder / RESULT) as draft:
        written = {key: math.prod(shape) for key, shape in shapes.items() if key not in replaced}
        _pack(packing, files, written, work, progress)
        inside = draft / (folder.component or "")
        inside.mkdir(exist_ok=True)
        writer = ShardWriter(inside, variant, shard_bytes)
        if replaced:
            projections = compute_projections(model, config.cached_timesteps, _reader(model, files))
            writer.add("time_proj.projections", projections)
        for number in range(len(written)):
            packing.count(work.numbers(number))
            for name, packed in work.tensors(number).items():
                writer.add(name, packed)
        after = writer.finish()
        write_json(inside / "config.json", {**folder.config, "quantization_config": config.to_dict()}, sort_keys=True)
        folder.copy_rest(draft)
        noise = _output_error(folder, config, files, inside, variant)
        done = _result(model, folder, config, packing, before, after, noise)
        inputs = {
            "source": place.name if place == Path(source) else str(source), "bits": bits,
            "recipe": recipe and Path(recipe).name, "cache_steps": cache_steps, "component": folder.component,
            "calibrate": calibrate and Path(calibrate).name, "result": asdict(done),
        }  # fmt: skip
        write_record(draft, "pocket quantize", inputs, None, time.perf_counter() - start)
    return done


def _job(config: BitsFusionConfig, files: list[Path]) -> str:
    """What packed layers depend on. Files count as the same while name, size and time of change are."""
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return json.dumps([__version__, config.to_dict(), stats], sort_keys=True, default=str)


def _pack(
    packing: "_Packing", files: list[Path], sizes: Mapping[str, int], work: UnfinishedWork,
    progress: Callable[[float], None],
) -> None:  # fmt: skip
    """Makes the pieces of the work that are missing, one for each tensor; `sizes` has their numbers of elements."""
    total, numbers = sum(sizes.values()), {key: number for number, key in enumerate(sizes)}
    missing = {key for key, number in numbers.items() if not work.has(number)}
    if len(missing) < len(sizes):
        progress(sum(size for key, size in sizes.items() if key not in missing) / total)
    for key, tensor in read_tensors(files, missing):
        work.keep(numbers[key], *packing.of(key, tensor))
        progress(sizes[key] / total)


def _output_error(
    folder: DiffusersFolder, config: BitsFusionConfig, files: list[Path], packed: Path, variant: str | None
) -> float | None:
    def read(names: list[str]) -> dict[str, Tensor]:
        return {name: tensor.float() for name, tensor in read_tensors(files, names)}

    times = sorted(config.cached_timesteps) or [ALL_TIMESTEPS // 2]
    return output_error(folder.config, folder.model_class, read, packed, variant, times[len(times) // 2])


def _result(
    model: nn.Module, folder: DiffusersFolder, config: BitsFusionConfig, packing: "_Packing", before: int, after: int,
    noise: float | None,
) -> Quantization:  # fmt: skip
    counts = {name: layer.weight.numel() for name, layer in model.named_modules() if type(layer) in LOW_BIT}
    bits = {name: layer.levels.bits for name, layer in packing.layers.items()}
    steps = len(config.cached_timesteps)
    cache = (replaced_layers(model), steps * cached_widths(model)) if steps else ()
    return Quantization(
        type(model).__name__, folder.loader, folder.component, folder.other_models, len(bits), len(counts), before,
        after, steps, average_bits(counts, bits, *cache),
        average_bits({name: counts[name] for name in bits}, bits), packing.relative_error, noise,
    )  # fmt: skip


class _Packing:
    """Turns the weights of some layers into words and scales, and adds up what that costs them.

    Args:
        layers: by name, on the meta device; each is packed and emptied again in its turn.
        replaced: shapes of the tensors in whose place a cache stands, by name.
    """

    def __init__(self, layers: Mapping[str, LowBitLayer], replaced: Mapping[str, tuple[int, ...]]) -> None:
        self.layers, self._replaced = layers, replaced
        self._squared_error = self._squares = 0.0

    def check(self, shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
        """Refuses a file without the layers' weights, or with others than theirs, by the shapes of its tensors."""
        packed = {f"{name}.weight": tuple(layer.weight_shape) for name, layer in self.layers.items()}
        for key, wanted in {**packed, **self._replaced}.items():
            found = shapes.get(key)
            if found is None:
                raise ValueError(f"{file}: tensor {key} is missing.")
            if found != wanted:
                raise ValueError(f"{file}: tensor {key} must be {list(wanted)}, not {list(found)}.")

    def of(self, key: str, tensor: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
        """What is written in place of a tensor: itself, where it is no weight of such a layer; and what that costs."""
        name, _, kind = key.rpartition(".")
        if kind != "weight" or name not in self.layers:
            return {key: tensor}, {}
        require(tensor.is_floating_point(), f"tensor {key}", tensor.dtype, "of floating-point numbers")
        layer = self.layers[name]
        try:
            layer.load_weight(tensor, torch.float32)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        packed = {f"{name}.words": layer.words, f"{name}.scales": layer.scales}
        squares, squared_error = _norm(tensor) ** 2, _norm(layer.rounded_weight().sub_(tensor)) ** 2
        layer.freeze_empty(torch.float32)
        return packed, {"squares": squares, "squared_error": squared_error}

    def count(self, cost: Mapping[str, float]) -> None:
        """Adds up what `of` gave for a layer, or an earlier run kept of it."""
        self._squares += cost.get("squares", 0)
        self._squared_error += cost.get("squared_error", 0)

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


def _calibrated_config(
    folder: DiffusersFolder, bits: float, recipe: str | Path | None, timesteps: list[float], file: Path, measured: Path,
    progress: Callable[[float], None],
) -> BitsFusionConfig:  # fmt: skip
    least, most = CALIBRATED_BITS
    require(recipe is None, "recipe", recipe, "left out where layers get calibrated bits")
    require(least <= bits <= most, "bits", bits, f"a number from {least} to {most} where they are calibrated")
    require(folder.component == "unet", "calibrate", str(file), "left out for what is no pipeline's unet")
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: it must be a text file of prompts, one a line.")
    prompts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    require(bool(prompts), f"{file}", "an empty file", "of at least one prompt")
    by_layer = calibrated_bits(
        folder.place, prompts, bits, measured, cached_timesteps=timesteps, progress=_share(progress, CALIBRATING)
    )
    return BitsFusionConfig(by_layer, None, cached_timesteps=timesteps)


def _share(progress: Callable[[float], None], share: float) -> Callable[[float], None]:
    """Progress of a part of the work."""
    return lambda part: progress(share * part)


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


def _timesteps(folder: DiffusersFolder, steps: int) -> list[float]:
    """The distinct timesteps that the pipeline's scheduler takes in so many steps, or all."""
    scheduler = folder.scheduler
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
