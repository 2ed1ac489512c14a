"""Samples of a card: pictures that its weights made, beside which they lie; made again when those change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from diffusers import DiffusionPipeline
from PIL import Image

from ..hub_models.layers.low_bit import LowBitLayer
from ..pipelines.files import read_json
from ..pipelines.motion.motion_preview import moments, preview_frames
from ..pipelines.motion.skeleton import FRAMES_PER_SECOND
from ..pipelines.moving_picture import write_gif
from ..pipelines.outputs import MotionOutput
from ..pipelines.result_folder import RECORD, result_folder, write_record
from ..pipelines.weights import weights_digest
from ..training.layer_bits_plot import LayerBits, draw_layer_bits
from .recognition_samples import SOURCES, recognize
from .template import CardTemplate

FOLDER = "samples"
SHEET = "sheet.png"
BITS = "bits.png"
"""Of a denoiser of few bits: how many each layer has."""
DENOISERS = ("unet", "transformer")
"""Components whose bits are shown."""


@dataclass(frozen=True)
class SamplePlan:
    """What a card wants to show.

    Attributes:
        prompts: one picture each: texts or classes of a generator, names of the pictures that a recognizer looks at, or
            of the views of a scene.
        arguments: of `ImageRequest`, such as `guidance_scale` and `seed`; of `recognize`, such as `pictures`; of a
            scene's pipeline, such as `num_frames`; or of a motion's pipeline, with `preview_size` in pixels.
    """

    prompts: tuple[str, ...]
    arguments: Mapping[str, Any]

    @property
    def recognizes(self) -> bool:
        """Whether the weights look at pictures, and do not make them."""
        return "pictures" in self.arguments

    @property
    def shows_a_scene(self) -> bool:
        """Whether the weights are a scene, seen from `num_frames` sides."""
        return "num_frames" in self.arguments

    @property
    def moves(self) -> bool:
        """Whether the weights make motions, each seen in a picture that plays."""
        return "preview_size" in self.arguments

    @property
    def files(self) -> list[str]:
        """Names of the pictures, in the prompts' order."""
        suffix = "gif" if self.moves else "png"
        return [f"{index:02d}.{suffix}" for index in range(len(self.prompts))]


def sample_plan(template: CardTemplate) -> SamplePlan | None:
    """The plan of a template; None without `pocket.samples`.

    With `pictures` (one of `SOURCES`) and `count` in there, so many test pictures are looked at; with `num_frames` a
    scene is seen from so many sides; else the `widget` texts are drawn with its arguments, as motions if
    `preview_size` is among them.

    Raises:
        ValueError: when there are no such texts or pictures.
    """
    wanted = template.method.samples
    if wanted is None:
        return None
    if "pictures" in wanted:
        source, count = wanted["pictures"], wanted.get("count")
        if source not in SOURCES or not isinstance(count, int) or count < 1:
            raise ValueError(
                f"{template.path}: samples need pictures, one of {', '.join(SOURCES)}, and a count of at least 1, not "
                f"{source!r} and {count!r}."
            )
        return SamplePlan(tuple(f"{source} {index}" for index in range(count)), wanted)
    if "num_frames" in wanted:
        frames = wanted["num_frames"]
        if not isinstance(frames, int) or frames < 1:
            raise ValueError(f"{template.path}: samples need num_frames of at least 1, not {frames!r}.")
        return SamplePlan(tuple(f"view {index}" for index in range(frames)), wanted)
    prompts = tuple(str(entry.get("text", "")) for entry in template.front.get("widget") or [])
    if not prompts or not all(prompts):
        raise ValueError(f"{template.path}: samples need 'widget' entries with a text each.")
    return SamplePlan(prompts, wanted)


def stale_samples(plan: SamplePlan, weights: Path, folder: Path) -> str | None:
    """Why the pictures in `folder` are not those that `weights` would draw; None when they are.

    It compares the record beside the pictures with the plan and the weights; nothing is drawn.
    """
    if not (folder / RECORD).is_file():
        return f"{folder} has no sample pictures"
    inputs = read_json(folder / RECORD).get("inputs", {})
    if inputs.get("weights_sha256") != weights_digest(weights):
        return f"{folder} was drawn by other weights"
    if inputs.get("prompts") != list(plan.prompts) or inputs.get("arguments") != dict(plan.arguments):
        return f"{folder} was drawn with other prompts or arguments"
    wanted = [*plan.files, SHEET, *([BITS] if _are_packed(weights) else [])]
    missing = next((name for name in wanted if not (folder / name).is_file()), None)
    return f"{folder / missing} is missing" if missing else None


def renew_samples(template: CardTemplate, slug: str, weights: Path, folder: Path) -> None:
    """Draws the pictures that a template wants, unless they are there and fresh; raises as `draw_samples`."""
    plan = sample_plan(template)
    if plan is not None and stale_samples(plan, weights, folder):
        draw_samples(slug, plan, weights, folder)


def draw_samples(slug: str, plan: SamplePlan, weights: Path, folder: Path) -> None:
    """Writes the plan's pictures into `folder`, whole or not at all: a PNG each, or a GIF of a motion, a captioned
    sheet, of a packed denoiser the bits of each layer, and a record.

    An earlier folder of samples is replaced; anything else there is not.

    Raises:
        FileExistsError: when `folder` holds something else.
        ValueError: when the pipeline refuses an argument.
        OSError: when the weights cannot be read or the pictures not be written.
    """
    from ..pipelines.contact_sheet import contact_sheet
    from ..pipelines.generation import ImageRequest, generate
    from ..pipelines.loading import load_pipeline

    with result_folder(folder, overwrite=True) as draft:
        start = perf_counter()
        pipeline = load_pipeline(slug, str(weights))
        inputs = {
            "weights_sha256": weights_digest(weights),
            "prompts": list(plan.prompts),
            "arguments": dict(plan.arguments),
        }
        if plan.recognizes:
            images, captions = zip(*recognize(pipeline, **plan.arguments), strict=True)
        elif plan.shows_a_scene:
            images, captions = pipeline(**plan.arguments).images, plan.prompts
        elif plan.moves:
            options = {**plan.arguments}
            size, seed = options.pop("preview_size"), options.pop("seed", 0)
            made = generate(pipeline, ImageRequest(plan.prompts, seed=seed, arguments=options))
            captions, inputs["seeds"] = made.prompts, list(made.seeds)
            images = _save_motions([draft / name for name in plan.files], made.output, size)
        else:
            made = generate(pipeline, ImageRequest(plan.prompts, **plan.arguments))
            images, captions, inputs["seeds"] = made.output.images, made.prompts, list(made.seeds)
        if not plan.moves:
            for image, name in zip(images, plan.files, strict=True):
                image.save(draft / name)
        contact_sheet(images, captions, cell=256 if plan.recognizes or plan.moves else 128).save(draft / SHEET)
        if _are_packed(weights):
            draw_layer_bits(draft / BITS, f"Bits of each layer of {weights.resolve().name}", packed_layers(pipeline))
        write_record(draft, "pocket card", inputs, plan.arguments.get("seed"), perf_counter() - start)


def _save_motions(paths: Sequence[Path], output: MotionOutput, size: int) -> list[Image.Image]:
    """Writes a GIF of each motion, of every second frame for the sake of its bytes, and returns moments of it."""
    pictures = []
    controls = output.controls or [None] * len(paths)
    for path, joints, asked in zip(paths, output.joints, controls, strict=True):
        frames = preview_frames(joints, size, asked)
        write_gif(path, frames[::2], FRAMES_PER_SECOND / 2)
        pictures.append(moments(frames))
    return pictures


def packed_layers(pipeline: DiffusionPipeline) -> list[LayerBits]:
    """The layers of few bits of a pipeline's denoiser."""
    models = [model for name, model in pipeline.components.items() if name in DENOISERS]
    return [
        LayerBits(name, layer.levels.bits, layer.weight_shape.numel())
        for model in models
        for name, layer in model.named_modules()
        if isinstance(layer, LowBitLayer) and layer.levels
    ]


def _are_packed(weights: Path) -> bool:
    configs = (weights / name / "config.json" for name in DENOISERS)
    return any("quantization_config" in read_json(path) for path in configs if path.is_file())
