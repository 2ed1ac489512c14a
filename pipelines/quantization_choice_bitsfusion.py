"""What `pocket quantize` is asked for: which model of a folder, and how many bits its layers get (BitsFusion,
arXiv 2406.04333).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffusers import ModelMixin

from ..hub_models.layers.time_embedding_cache import replaced_layers
from ..hub_models.quantizer_bitsfusion import BitsFusionConfig
from .calibration_bitsfusion import calibrated_bits
from .diffusers_folder import DiffusersFolder
from .files import read_json
from .hub_files import fetch_folder
from .inputs import require
from .loading import find_model
from .repository import meta_diffusers_model
from .result_folder import refuse_to_destroy
from .sampling.cached_steps import scheduled_timesteps
from .sharded_weights import find_weights

PUBLISHED_BITS = 1.99
CALIBRATED_BITS = (1.6, 8)
MEASURED = "sensitivity"
ALL_TIMESTEPS = 1000  # of diffusers' schedulers, unless their config says otherwise


@dataclass(frozen=True)
class ChosenModel:
    """A model that is to be packed.

    Attributes:
        named: the source as a record may name it, without the folders above.
        folder: that holds it, alone or in a pipeline.
        model: without weights, on the meta device.
        files: of its weights.
        variant: in their names, such as "fp16".
    """

    named: str
    folder: DiffusersFolder
    model: ModelMixin
    files: list[Path]
    variant: str | None

    @property
    def stats(self) -> list[tuple[str, int, int]]:
        """What tells its weights from others: files count as the same while name, size and time of change are."""
        return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]


def choose_model(
    source: str | Path, target: Path, component: str | None = None, overwrite: bool = False
) -> ChosenModel:
    """Finds a model, and makes sure that there may be a result.

    Args:
        source: as `quantize_folder` takes it.
        target: of the result.
        component: of a pipeline; None is its unet or else its transformer.
        overwrite: whether an earlier target may be replaced.

    Raises:
        FileNotFoundError: there is no model, or a part of it is missing.
        FileExistsError: there is a target, and it is not to be replaced.
        ValueError: the model or the place of the target is not as it must be.
    """
    place = fetch_folder(find_model(source) if isinstance(source, str) else source)
    _check_target(place, target, overwrite)
    folder = DiffusersFolder(place, component)
    model = meta_diffusers_model(folder.model_folder, folder.model_class)
    files, variant = find_weights(folder.model_folder, type(model))
    return ChosenModel(place.name if place == Path(source) else str(source), folder, model, files, variant)


def choose_bits(
    chosen: ChosenModel, bits: float, recipe: str | Path | None, cache_steps: int | None,
    calibrate: str | Path | None = None, measured: Path | None = None,
    progress: Callable[[float], None] = lambda part: None,
) -> BitsFusionConfig:  # fmt: skip
    """The bits of a model's layers, and the timesteps of the table in place of its layers of time.

    Args:
        chosen: the model.
        bits, recipe, cache_steps, calibrate: as `quantize_folder` takes them.
        measured: folder for what calibration measures.
        progress: called with the part of calibration that is newly done, of 1 in all.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an argument is not as it must be, or not for this model.
    """
    if cache_steps is not None:
        replaced_layers(chosen.model)  # refuses a model whose time embedding cannot be cached
    timesteps = [] if cache_steps is None else _timesteps(chosen.folder, cache_steps)
    if calibrate is None:
        config = _config(bits, recipe, timesteps)
    else:
        config = _calibrated_config(chosen.folder, bits, recipe, timesteps, Path(calibrate), measured, progress)
    _check_layers(chosen, config, bits, recipe)
    return config


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
    by_layer = calibrated_bits(folder.place, prompts, bits, measured, cached_timesteps=timesteps, progress=progress)
    return BitsFusionConfig(by_layer, None, cached_timesteps=timesteps)


def _check_layers(chosen: ChosenModel, config: BitsFusionConfig, bits: float, recipe: str | Path | None) -> None:
    folder = chosen.folder.model_folder
    try:
        config.layer_bits(chosen.model)
    except ValueError as error:
        if recipe is not None:
            raise ValueError(f"{recipe}: {error}") from None
        if bits == PUBLISHED_BITS:
            what = f"bits {bits} is the published recipe for Stable Diffusion 1.5's UNet, which {folder} does not hold"
            raise ValueError(f"{what}: {error}") from None
        raise ValueError(f"{folder}: {error}") from None


def _timesteps(folder: DiffusersFolder, steps: int) -> list[float]:
    """The distinct timesteps that the pipeline's scheduler takes in so many steps, or all."""
    scheduler = folder.scheduler
    everything = ALL_TIMESTEPS if scheduler is None else scheduler.config.get("num_train_timesteps", ALL_TIMESTEPS)
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if scheduler is None:
        allowed = f"{everything} for a model without the pipeline whose scheduler would say which timesteps"
        require(whole and steps == everything, "cache_steps", steps, allowed)
    require(whole and 1 <= steps <= everything, "cache_steps", steps, f"a whole number from 1 to {everything}")
    return list(range(everything)) if scheduler is None else scheduled_timesteps(scheduler, steps)
