"""SnapGen's GenEval score on PocketWorld's prompts, judged by a detector that no generator has learned from."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from ....pipelines.pipeline_snapgen import SnapGenPipeline
from ....training.datasets.pocketworld.descriptions import TAGS
from ....training.datasets.pocketworld.prompts import GENEVAL_COUNTS, load_prompts
from ...benchmark import new_row
from ...geneval.detectors import detect_pictures
from ...geneval.score import GenEvalScore, pocketworld_protocol, score_pictures
from ...geneval.world import detect_records, of_few, own_metadata, score_found
from ...instruments.judge import JUDGE, JudgeDetector
from ...results import Row
from ...scores.retrieval import world_records
from .drawing import GUIDANCE, STEPS, load_nano

BATCH = 50
SEEDS_A_ROUND = 10_000  # more than there are prompts

row = partial(new_row, "snapgen")


class GenEvalSettings(Protocol):
    """What the measurement reads of the benchmark's settings.

    Attributes:
        checkpoints: folder with snapgen-nano and ascan-nano-judge.
        geneval_images: pictures of each prompt at most; None takes as many as the list asks for, about 200 a tag.
        geneval_truth: pictures of PocketWorld that the judge sees for comparison.
        world_size: side of those pictures in pixels.
    """

    checkpoints: Path
    geneval_images: int | None
    geneval_truth: int
    world_size: int


def measure_geneval(settings: GenEvalSettings, output: Path) -> Iterator[Row]:
    """Overall and by tag, also as a share of what PocketWorld's own pictures get from the same judge."""
    detector = JudgeDetector(settings.checkpoints / JUDGE)
    records = of_few(world_records("test", settings.world_size), max(GENEVAL_COUNTS))
    records = list(islice(records, settings.geneval_truth))
    truth = score_found(list(map(own_metadata, records)), detect_records(records, detector), detector)
    score = score_drawn(load_nano(settings), detector, settings.geneval_images)

    rival = "PocketWorld's own pictures, judged alike"
    claim = f"GenEval of the nano model on PocketWorld's prompts, mean over the tags ({score.metric})."
    yield row(
        "geneval", "geneval-overall", claim, measured=score.overall, interval=score.interval, rival=rival,
        rival_measured=truth.overall, **_counted(score, score.scored),
    )  # fmt: skip
    for tag in (tag for tag in TAGS if tag in score.tags):
        ours, theirs = score.tags[tag], truth.tags.get(tag)
        yield row(
            "geneval", f"geneval-{tag.replace('_', '-')}",
            f"GenEval of the nano model on PocketWorld's prompts, tag {tag} ({score.metric}).",
            measured=ours.score, interval=ours.interval, rival=rival,
            rival_measured=None if theirs is None else theirs.score, **_counted(score, ours.pictures),
        )  # fmt: skip
    if truth.overall:
        yield row(
            "geneval", "geneval-share-of-truth",
            "GenEval of the nano model as a share of what PocketWorld's own pictures get from the same judge.",
            measured=score.overall / truth.overall,
            interval=score.interval and tuple(end / truth.overall for end in score.interval),
            **_counted(score, score.scored),
        )  # fmt: skip


def score_drawn(pipeline: SnapGenPipeline, detector: JudgeDetector, images: int | None) -> GenEvalScore:
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
    pipeline: SnapGenPipeline, prompts: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Image.Image]]:
    """(metadata, picture), `n_images` of each prompt; picture i of prompt p has the seed 10,000 i + p."""
    wanted = [(number, prompt, i) for number, prompt in enumerate(prompts) for i in range(prompt["n_images"])]
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        seeds = [torch.Generator().manual_seed(SEEDS_A_ROUND * i + number) for number, _, i in part]
        texts = [prompt["prompt"] for _, prompt, _ in part]
        made = pipeline(texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=seeds)
        yield from zip((prompt for _, prompt, _ in part), made.images, strict=True)


def _counted(score: GenEvalScore, pictures: int) -> dict[str, Any]:
    return {"unit": "share", "n": pictures, "seed": score.seed}
