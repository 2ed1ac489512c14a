"""GenEval of a text-to-image pipeline on PocketWorld's prompts, beside what PocketWorld's own pictures get."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from diffusers import DiffusionPipeline
from PIL import Image

from ...training.datasets.pocketworld.prompts import GENEVAL_COUNTS, load_prompts
from ..benchmark import Run
from ..drawing import draw
from ..results import Row
from ..scores.retrieval import world_records
from .detectors import Detector, detect_pictures
from .score import GenEvalScore, pocketworld_protocol, score_pictures
from .score_rows import counted, tag_rows
from .world import detect_records, of_few, own_metadata, score_found

BATCH = 50
SEEDS_A_ROUND = 10_000  # more than there are prompts


def drawn_rows(
    run: Run, pipeline: DiffusionPipeline, detector: Detector, images: int | None, true_pictures: int, picture_size: int
) -> Iterator[Row]:
    """Overall and by tag, also as a share of what PocketWorld's own pictures get from the same detector.

    Args:
        images: pictures of each prompt at most; None takes as many as the list asks for, about 200 a tag.
        true_pictures: of PocketWorld that the detector sees for comparison.
        picture_size: their side in pixels.
    """
    records = list(islice(of_few(world_records("test", picture_size), max(GENEVAL_COUNTS)), true_pictures))
    truth = score_found(list(map(own_metadata, records)), detect_records(records, detector), detector)
    score = score_drawn(pipeline, detector, images)
    model, rival = "GenEval of the nano model", "PocketWorld's own pictures, seen by the same detector"
    yield run.row(
        "geneval-overall", f"{model} on PocketWorld's prompts, mean over the tags ({score.metric}).",
        measured=score.overall, interval=score.interval, rival=rival, rival_measured=truth.overall, **counted(score),
    )  # fmt: skip
    claim = f"{model} on PocketWorld's prompts, tag {{}} ({score.metric})."
    yield from tag_rows(run, "geneval", claim, score, rival, truth)
    if truth.overall:
        yield run.row(
            "geneval-share-of-truth",
            f"{model} as a share of what PocketWorld's own pictures get from the same detector, {detector.name}.",
            measured=score.overall / truth.overall,
            interval=score.interval and tuple(end / truth.overall for end in score.interval),
            **counted(score),
        )  # fmt: skip


def score_drawn(pipeline: DiffusionPipeline, detector: Detector, images: int | None) -> GenEvalScore:
    """Draws every prompt of PocketWorld's list and scores the pictures.

    Args:
        images: pictures of each prompt at most; a number below the list's own makes it another metric by name.
    """
    listed = load_prompts()
    prompts = [{**one, "n_images": min(one["n_images"], images or one["n_images"])} for one in listed]
    name = {} if prompts == listed else {"name": f"geneval_pocketworld_{images}_images"}
    seen = detect_pictures(draw_prompts(pipeline, prompts), detector)
    return score_pictures(seen, pocketworld_protocol(prompts, **name))


def draw_prompts(
    pipeline: DiffusionPipeline, prompts: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """(metadata, picture), `n_images` of each prompt; picture i of prompt p has the seed 10,000 i + p."""
    wanted = [(prompt, SEEDS_A_ROUND * i + p) for p, prompt in enumerate(prompts) for i in range(prompt["n_images"])]
    for start in range(0, len(wanted), BATCH):
        asked, seeds = zip(*wanted[start : start + BATCH], strict=True)
        yield from zip(asked, draw(pipeline, [prompt["prompt"] for prompt in asked], seeds), strict=True)
