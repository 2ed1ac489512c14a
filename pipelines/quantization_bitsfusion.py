"""`pocket quantize`: any diffusers model in a folder to one of a few bits a weight (BitsFusion, arXiv 2406.04333).

Weights are read, rounded and packed layer by layer, so that the whole model is never in memory.
"""

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from .. import __version__
from ..hub_models.layers.low_bit import LOW_BIT, LowBitLayer
from ..hub_models.layers.low_bit_levels import Levels
from ..hub_models.layers.time_embedding_cache import cached_widths, compute_projections, replaced_layers
from ..hub_models.quantizer_bitsfusion import BitsFusionConfig, average_bits, low_bit_layers
from .diffusers_folder import DiffusersFolder
from .files import draft_folder, whole_folder, write_json
from .inputs import require
from .output_error import output_error
from .quantization_choice_bitsfusion import (
    ALL_TIMESTEPS,
    MEASURED,
    PUBLISHED_BITS,
    ChosenModel,
    choose_bits,
    choose_model,
)
from .repository import PACKAGE
from .result_folder import write_record
from .sharded_weights import SHARD_BYTES, ShardWriter, read_tensors, weight_shapes
from .unfinished_work import UnfinishedWork, unfinished_work

__all__ = ["BITS_THAT_HOLD", "PUBLISHED_BITS", "Quantization", "quantize_folder", "replace_model"]

BITS_THAT_HOLD = 3  # below these, pictures of weights that were only rounded fall apart
REGISTERING = BitsFusionConfig.__module__
CALIBRATING = 0.95  # of the work, where there is such
RESULT = ".result.partial"  # in the hidden folder


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
        trained: whether the weights learnt to be of few bits, and were not only rounded.
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
    trained: bool = False

    def told(self, target: Path) -> str:
        """These numbers, what they mean for pictures, and how the folder at `target` is loaded."""
        package = "diffusers" if hasattr(diffusers, self.loader) else PACKAGE
        warning = (
            ""
            if self.trained or self.packed_bits >= Levels(BITS_THAT_HOLD).bits_per_weight
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
    chosen = choose_model(source, target, component, overwrite)
    folder, model, files = chosen.folder, chosen.model, chosen.files
    config = choose_bits(
        chosen, bits, recipe, cache_steps, calibrate, target.parent / MEASURED, _share(progress, CALIBRATING)
    )
    progress = progress if calibrate is None else _share(progress, 1 - CALIBRATING)
    replaced = {} if cache_steps is None else _replaced_tensors(model)
    packing = _Packing(_empty_layers(model, config), replaced)
    shapes = weight_shapes(files)
    packing.check(shapes, files[0])
    with unfinished_work(target, _job(config, chosen)) as work, draft_folder(target, work.folder / RESULT) as draft:
        written = {key: math.prod(shape) for key, shape in shapes.items() if key not in replaced}
        _pack(packing, files, written, work, progress)
        inside = draft / (folder.component or "")
        inside.mkdir(exist_ok=True)
        writer = ShardWriter(inside, chosen.variant, shard_bytes)
        if replaced:
            projections = compute_projections(model, config.cached_timesteps, _reader(model, files))
            writer.add("time_proj.projections", projections)
        for number in range(len(written)):
            packing.count(work.numbers(number))
            for name, packed in work.tensors(number).items():
                writer.add(name, packed)
        after = writer.finish()
        _write_config(folder, config, inside)
        folder.copy_rest(draft)
        noise = _output_error(chosen, config, inside, chosen.variant)
        bits_by_layer = {name: layer.levels.bits for name, layer in packing.layers.items()}
        done = _result(chosen, config, bits_by_layer, packing.relative_error, after, noise)
        inputs = {
            "source": chosen.named, "bits": bits, "recipe": recipe and Path(recipe).name, "cache_steps": cache_steps,
            "component": folder.component, "calibrate": calibrate and Path(calibrate).name, "result": asdict(done),
        }  # fmt: skip
        write_record(draft, "pocket quantize", inputs, None, time.perf_counter() - start)
    return done


def replace_model(
    chosen: ChosenModel, packed: Path, target: Path, inputs: Mapping[str, Any], seconds: float, beside: tuple[Path, ...]
) -> Quantization:
    """Copies a pipeline with a model that has learnt to be of few bits in place of its own, which it was made of.

    Args:
        chosen: its own.
        packed: folder of the other, with weights that are packed.
        target: the folder to make; there whole or not at all.
        inputs: for its record.
        seconds: likewise.
        beside: files that belong to it.

    Raises:
        OSError: the target cannot be written.
    """
    folder, model = chosen.folder, chosen.folder.model_class.from_pretrained(packed)
    config, layers = model.config["quantization_config"], low_bit_layers(model)
    after = sum(file.stat().st_size for file in packed.glob("*.safetensors"))
    with whole_folder(target) as draft:
        inside = draft / (folder.component or "")
        shutil.copytree(packed, inside)
        _write_config(folder, config, inside)
        folder.copy_rest(draft)
        for file in beside:
            shutil.copyfile(file, draft / file.name)
        bits = {name: layer.levels.bits for name, layer in layers.items()}
        error = _relative_error(chosen.files, layers)
        done = _result(chosen, config, bits, error, after, _output_error(chosen, config, inside), trained=True)
        write_record(draft, "pocket quantize", {**inputs, "result": asdict(done)}, None, seconds)
    return done


def _relative_error(files: list[Path], layers: Mapping[str, LowBitLayer]) -> float:
    squares = squared_error = 0.0
    for key, tensor in read_tensors(files, {f"{name}.weight" for name in layers}):
        squares += _norm(tensor) ** 2
        squared_error += _norm(layers[key.removesuffix(".weight")].rounded_weight().sub_(tensor)) ** 2
    return math.sqrt(squared_error / squares) if squares else 0.0


def _write_config(folder: DiffusersFolder, config: BitsFusionConfig, inside: Path) -> None:
    write_json(inside / "config.json", {**folder.config, "quantization_config": config.to_dict()}, sort_keys=True)


def _job(config: BitsFusionConfig, chosen: ChosenModel) -> str:
    """What packed layers depend on."""
    return json.dumps([__version__, config.to_dict(), chosen.stats], sort_keys=True, default=str)


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
    chosen: ChosenModel, config: BitsFusionConfig, packed: Path, variant: str | None = None
) -> float | None:
    def read(names: list[str]) -> dict[str, Tensor]:
        return {name: tensor.float() for name, tensor in read_tensors(chosen.files, names)}

    folder, times = chosen.folder, sorted(config.cached_timesteps) or [ALL_TIMESTEPS // 2]
    return output_error(folder.config, folder.model_class, read, packed, variant, times[len(times) // 2])


def _result(
    chosen: ChosenModel, config: BitsFusionConfig, bits: Mapping[str, int], relative_error: float, after: int,
    noise: float | None, trained: bool = False,
) -> Quantization:  # fmt: skip
    folder, model = chosen.folder, chosen.model
    counts = {name: layer.weight.numel() for name, layer in model.named_modules() if type(layer) in LOW_BIT}
    before = sum(file.stat().st_size for file in chosen.files)
    steps = len(config.cached_timesteps)
    cache = (replaced_layers(model), steps * cached_widths(model)) if steps else ()
    return Quantization(
        type(model).__name__, folder.loader, folder.component, folder.other_models, len(bits), len(counts), before,
        after, steps, average_bits(counts, bits, *cache),
        average_bits({name: counts[name] for name in bits}, bits), relative_error, noise, trained,
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


def _share(progress: Callable[[float], None], share: float) -> Callable[[float], None]:
    """Progress of a part of the work."""
    return lambda part: progress(share * part)


def _empty_layers(model: ModelMixin, config: BitsFusionConfig) -> dict[str, LowBitLayer]:
    made = {}
    for name, bits in config.layer_bits(model).items():
        layer = model.get_submodule(name)
        made[name] = LOW_BIT[type(layer)].of(layer, bits)
    return made


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
