"""What a layer of few bits alone costs a model's pictures (BitsFusion, arXiv 2406.04333, section 3.2)."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor, nn

from ..hub_models.assignment_bitsfusion import MEASURED_BITS, Sensitivity, measured_layers, weight_counts
from ..hub_models.layers.low_bit import LOW_BIT, LowBitLayer
from ..hub_models.layers.low_bit_levels import Levels
from .files import write_text
from .inputs import check_count, check_number, require

RESULTS = "sensitivities.jsonl"
PIXEL_RANGE = 255
Similarity = Callable[[Float[Tensor, "pictures 3 height width"], list[str]], Float[Tensor, " pictures"]]
"""How well pictures in [0, 1] fit their prompts, such as the cosine of a CLIP model."""


@dataclass(frozen=True)
class Lesson:
    """Inputs of a UNet and what it is to answer.

    Attributes:
        args: of its call.
        kwargs: of its call.
        prediction: that of the model in full precision.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    prediction: Float[Tensor, "rows ..."]


class Lessons(Protocol):
    """What low-bit layers are tuned on."""

    def draw(self, rows: int, generator: torch.Generator) -> Lesson:
        """So many rows at random."""
        ...


class RecordedLessons:
    """The calls of a UNet while its pipeline draws pictures: noisy latents, timesteps and text as sampling has them."""

    def __init__(self) -> None:
        self._rows: list[tuple[Lesson, int, int]] = []  # a call, how many rows it has, and one of them

    @contextmanager
    def recording(self, unet: nn.Module, pictures: int) -> Iterator[None]:
        """Keeps the calls that draw so many pictures, picture by picture, so that batches do not matter."""
        calls: list[Lesson] = []

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            calls.append(Lesson(args, kwargs, output[0]))

        hook = unet.register_forward_hook(keep, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
        for picture in range(pictures):
            for call in calls:
                count = len(call.prediction)  # under guidance a multiple of the pictures
                self._rows += [(call, count, row) for row in range(picture, count, pictures)]

    def draw(self, rows: int, generator: torch.Generator) -> Lesson:
        chosen = [self._rows[i] for i in torch.randint(len(self._rows), (rows,), generator=generator).tolist()]
        calls, counts, places = zip(*chosen, strict=True)

        def joined(*values: Any) -> Any:
            if isinstance(values[0], dict):
                return {key: joined(*(value[key] for value in values)) for key in values[0]}
            if isinstance(values[0], tuple | list):
                return type(values[0])(joined(*parts) for parts in zip(*values, strict=True))
            if not isinstance(values[0], Tensor):
                return values[0]
            return torch.cat([_row(*each) for each in zip(values, counts, places, strict=True)])

        return Lesson(
            joined(*(call.args for call in calls)),
            joined(*(call.kwargs for call in calls)),
            joined(*(call.prediction for call in calls)),
        )


def measure_sensitivity(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str],
    folder: str | Path,
    *,
    iterations: int,
    learning_rate: float,
    batch_size: int,
    steps: int,
    seed: int = 0,
    bits: Sequence[int] = MEASURED_BITS,
    pictures_at_once: int = 32,
    lessons: Lessons | None = None,
    image_text_similarity: Similarity | None = None,
    progress: Callable[[float], None] = lambda part: None,
) -> list[Sensitivity]:
    """Draws the prompts anew with each layer in turn at each number of bits, and compares the pictures.

    Such a layer has scales by alternating optimisation, and its weights and scales are tuned for a moment to what the
    UNet in full precision predicts. Measured are all Linear and Conv2d layers but those of time and the first and last
    convolution. Prompts draw from seeds of their own, the same for every layer.

    Args:
        pipeline: with a `unet`; called as it is, with the guidance it has by itself. It stays as it was.
        prompts: what to draw; the paper took 100.
        folder: where each result is written as soon as it is known; what it holds is not measured again.
        iterations: of tuning; 0 tunes nothing.
        learning_rate: of AdamW, which has no decay here.
        batch_size: rows of a step of tuning.
        steps: of sampling.
        seed: of the first prompt's noise, counted up from prompt to prompt, and of what is drawn for tuning.
        bits: that each layer is measured at.
        pictures_at_once: drawn in a call of the pipeline, which costs memory and changes no result beyond rounding.
        lessons: what layers are tuned on; None is what the pipeline's own UNet saw when it drew the prompts. A folder
            knows them by their class alone.
        image_text_similarity: of each picture with its prompt, for the drop of the CLIP score; None measures none.
        progress: called with the part of the work that is newly done, of 1 in all.

    Returns:
        A sensitivity for each layer and number of bits, layer by layer.

    Raises:
        ValueError: an argument that cannot be, a folder with results of something else, or damaged ones.
        OSError: a result cannot be written.
    """
    _check(prompts, iterations, learning_rate, batch_size, steps, pictures_at_once, bits)
    unet = pipeline.unet
    layers = measured_layers(weight_counts(unet))
    require(bool(layers), "unet", type(unet).__name__, "a model with plain Linear or Conv2d layers to measure")
    store = _Results(
        Path(folder) / RESULTS,
        {
            "prompts": list(prompts), "iterations": iterations, "learning_rate": learning_rate,
            "batch_size": batch_size, "steps": steps, "seed": seed,
            "lessons": RecordedLessons.__name__ if lessons is None else type(lessons).__name__,
            "clip": image_text_similarity is not None, "model": _digest(pipeline),
        },
    )  # fmt: skip
    wanted = [(layer, own) for layer in layers for own in bits]
    missing = [candidate for candidate in wanted if candidate not in store.known]
    progress(1 - len(missing) / len(wanted))
    if missing:
        with _still(pipeline), _frozen(unet):
            drawing = _Drawing(pipeline, list(prompts), steps, seed, pictures_at_once, image_text_similarity)
            recorded = RecordedLessons()
            reference = drawing.pictures(recorded)
            similarity = drawing.similarity(reference)
            generator = torch.Generator().manual_seed(seed)
            shown = [(lessons or recorded).draw(batch_size, generator) for _ in range(iterations)]
            for layer, own in missing:
                with low_bit_layer(unet, layer, own) as made:
                    tune(unet, made, shown, learning_rate)
                    with _in_place(unet, layer, made.dequantized()):
                        pictures = drawing.pictures()
                error = ((pictures - reference) * PIXEL_RANGE).double().square().mean().item()
                drop = None if similarity is None else similarity - drawing.similarity(pictures)
                store.add(Sensitivity(layer, own, error, drop))
                progress(1 / len(wanted))
    return [store.known[candidate] for candidate in wanted]


@contextmanager
def low_bit_layer(model: nn.Module, name: str, bits: int) -> Iterator[LowBitLayer]:
    """Puts a layer of few bits in place of a model's plain one, with weights of its own, and takes it out again."""
    plain = model.get_submodule(name)
    made = LOW_BIT[type(plain)].of(copy.deepcopy(plain).requires_grad_(False), bits)
    made.weight = nn.Parameter(made.weight.detach().float())
    with _in_place(model, name, made):
        yield made


def tune(unet: nn.Module, layer: LowBitLayer, lessons: Sequence[Lesson], learning_rate: float) -> list[float]:
    """Teaches the weights and scales of one layer what the UNet in full precision predicts.

    Args:
        unet: which holds the layer.
        layer: that learns.
        lessons: one a step.
        learning_rate: of AdamW.

    Returns:
        The mean squared error of each lesson before its step.
    """
    optimizer = torch.optim.AdamW([layer.weight, layer.scales], learning_rate, weight_decay=0.0)
    losses = []
    for lesson in lessons:
        with torch.enable_grad():
            loss = (unet(*lesson.args, **lesson.kwargs)[0].float() - lesson.prediction.float()).square().mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@dataclass(frozen=True)
class _Drawing:
    """How the prompts are drawn, the same each time."""

    pipeline: DiffusionPipeline
    prompts: list[str]
    steps: int
    seed: int
    at_once: int
    image_text_similarity: Similarity | None

    def pictures(self, recorded: RecordedLessons | None = None) -> Float[Tensor, "prompts 3 height width"]:
        """Pictures in [0, 1] on the CPU; what the UNet sees meanwhile goes to `recorded`."""
        parts = []
        for start in range(0, len(self.prompts), self.at_once):
            prompts = self.prompts[start : start + self.at_once]
            generators = [torch.Generator().manual_seed(self.seed + start + i) for i in range(len(prompts))]
            with recorded.recording(self.pipeline.unet, len(prompts)) if recorded else nullcontext():
                drawn = self.pipeline(
                    prompt=prompts, generator=generators, num_inference_steps=self.steps, output_type="pt"
                )
            parts.append(drawn.images.float().cpu())
        return torch.cat(parts)

    def similarity(self, pictures: Tensor) -> float | None:
        if self.image_text_similarity is None:
            return None
        return self.image_text_similarity(pictures, self.prompts).double().mean().item()


class _Results:
    """Sensitivities in a file, one a line, below a line that says what they were measured of."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.known: dict[tuple[str, int], Sensitivity] = {}
        if not path.exists():
            write_text(path, _line(settings))
            return
        *lines, unfinished = path.read_text(encoding="utf-8").split("\n")
        found, *listed = [self._parsed(line) for line in lines] or [None]
        require(isinstance(found, dict), f"the first line of {path}", found, "an object of settings")
        for name, value in settings.items():
            if found.get(name) != value:
                raise ValueError(f"{path} was measured with other {name}: name another folder, or remove that one.")
        try:
            for each in map(Sensitivity.from_json, listed):
                self.known[each.layer, each.bits] = each
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if unfinished:  # whoever wrote it was stopped
            write_text(path, "".join(f"{line}\n" for line in lines))

    def add(self, sensitivity: Sensitivity) -> None:
        try:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(_line(sensitivity.to_json()))
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}.") from error
        self.known[sensitivity.layer, sensitivity.bits] = sensitivity

    def _parsed(self, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{self.path} must hold a JSON object in each line, not {line[:40]!r}.") from None


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def _row(value: Tensor, count: int, row: int) -> Tensor:
    if value.ndim == 0:
        return value[None]
    if len(value) == 1:
        return value
    if len(value) != count:
        shape = list(value.shape)
        raise ValueError(f"unet must be called with tensors of {count} rows like its answer, not with one of {shape}.")
    return value[row : row + 1]


@contextmanager
def _in_place(model: nn.Module, name: str, layer: nn.Module) -> Iterator[None]:
    before = model.get_submodule(name)
    model.set_submodule(name, layer)
    try:
        yield
    finally:
        model.set_submodule(name, before)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No parameter learns or has a gradient."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def _still(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Without the pipeline's own progress bars."""
    before = getattr(pipeline, "_progress_bar_config", None)
    pipeline.set_progress_bar_config(**{**(before or {}), "disable": True})
    try:
        yield
    finally:
        if before is None:
            del pipeline._progress_bar_config
        else:
            pipeline._progress_bar_config = before


def _digest(pipeline: DiffusionPipeline) -> str:
    """sha256 over a pipeline's class, its weights and the configs of the rest."""
    digest = hashlib.sha256(type(pipeline).__name__.encode())
    for name, component in sorted(pipeline.components.items()):
        digest.update(name.encode())
        if isinstance(component, nn.Module):
            for key, value in component.state_dict().items():
                digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif hasattr(component, "config"):
            digest.update(json.dumps(dict(component.config), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _check(
    prompts: Sequence[str], iterations: int, learning_rate: float, batch_size: int, steps: int, pictures_at_once: int,
    bits: Sequence[int],
) -> None:  # fmt: skip
    listed = isinstance(prompts, Sequence) and not isinstance(prompts, str) and len(prompts) > 0
    texts = listed and all(isinstance(prompt, str) and prompt.strip() for prompt in prompts)
    require(texts, "prompts", prompts, "a list of at least one text")
    check_number("learning_rate", learning_rate, 0)
    if iterations != 0:
        check_count("iterations", iterations)
    for name, value in {"batch_size": batch_size, "steps": steps, "pictures_at_once": pictures_at_once}.items():
        check_count(name, value)
    require(len(set(bits)) == len(bits) > 0, "bits", bits, "a list of distinct numbers")
    for own in bits:
        Levels(own)
