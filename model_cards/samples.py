"""Sample pictures of a card: drawn by the weights beside which they lie, and redrawn when those change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from ..pipelines.result_folder import RECORD, result_folder, write_record
from .facts import read_json, weights_digest
from .template import CardTemplate

FOLDER = "samples"
SHEET = "sheet.png"


@dataclass(frozen=True)
class SamplePlan:
    """What a card wants drawn.

    Attributes:
        prompts: one picture each.
        arguments: of `ImageRequest`, such as `guidance_scale` and `seed`.
    """

    prompts: tuple[str, ...]
    arguments: Mapping[str, Any]

    @property
    def files(self) -> list[str]:
        """Names of the pictures, in the prompts' order."""
        return [f"{index:02d}.png" for index in range(len(self.prompts))]


def sample_plan(template: CardTemplate) -> SamplePlan | None:
    """The plan of a template: its `widget` texts, drawn as its `pocket.samples` says; None without the latter.

    Raises:
        ValueError: when there are no such texts.
    """
    if template.method.samples is None:
        return None
    prompts = tuple(str(entry.get("text", "")) for entry in template.front.get("widget") or [])
    if not prompts or not all(prompts):
        raise ValueError(f"{template.path}: samples need 'widget' entries with a text each.")
    return SamplePlan(prompts, template.method.samples)


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
    missing = next((name for name in [*plan.files, SHEET] if not (folder / name).is_file()), None)
    return f"{folder / missing} is missing" if missing else None


def draw_samples(slug: str, plan: SamplePlan, weights: Path, folder: Path) -> None:
    """Draws the plan into `folder`, whole or not at all: a PNG a prompt, a captioned sheet, and a record.

    An earlier folder of samples is replaced; anything else there is not.

    Raises:
        FileExistsError: when `folder` holds something else.
        ValueError: when the pipeline refuses an argument.
        OSError: when the weights cannot be read or the pictures not be written.
    """
    from ..pipelines.contact_sheet import contact_sheet
    from ..pipelines.generation import ImageRequest, generate_images, load_pipeline

    with result_folder(folder, overwrite=True) as draft:
        start = perf_counter()
        pictures = list(
            generate_images(load_pipeline(slug, str(weights)), ImageRequest(plan.prompts, **plan.arguments))
        )
        for picture, name in zip(pictures, plan.files, strict=True):
            picture.image.save(draft / name)
        contact_sheet([picture.image for picture in pictures], list(plan.prompts), cell=128).save(draft / SHEET)
        inputs = {
            "weights_sha256": weights_digest(weights),
            "prompts": list(plan.prompts),
            "arguments": dict(plan.arguments),
            "seeds": [picture.seed for picture in pictures],
        }
        write_record(draft, "pocket card", inputs, plan.arguments.get("seed"), perf_counter() - start)
