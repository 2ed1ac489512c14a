"""What nano models draw, in full precision and in few bits: GenEval, as a judge sees it, and the CLIP score."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diffusers import DiffusionPipeline

from ....training.datasets.pocketworld.prompts import load_prompts
from ...benchmark import Run
from ...drawing import load_committed
from ...geneval.detectors import detect_pictures
from ...geneval.drawn import draw_prompts
from ...geneval.score import GenEvalScore, pocketworld_protocol, score_pictures
from ...instruments.judge import JUDGE, JudgeDetector
from ...named_pairs import NAMER
from ...results import Row
from ...scores.clip_score import ClipScore, ClipScorer
from .settings import Settings

FULL, PACKED = "bitsfusion-nano-full", "bitsfusion-nano"
KEPT = 0.98  # of full precision's GenEval that few bits are to keep


@dataclass(frozen=True)
class Drawn:
    """Two scores of the same pictures."""

    geneval: GenEvalScore
    clip: ClipScore

    def row(self, run: Run, id: str, claim: str, **values: Any) -> Row:
        """GenEval as a row."""
        score = self.geneval
        counted = {"measured": score.overall, "interval": score.interval, "n": score.scored, "seed": score.seed}
        return run.row(id, f"{claim} on PocketWorld's prompts ({score.metric}).", unit="share", **counted, **values)

    def clip_row(self, run: Run, id: str, claim: str, **values: Any) -> Row:
        """The CLIP score as a row."""
        score = self.clip
        counted = {"measured": score.clip_score, "interval": score.interval, "n": score.n, "seed": 0}
        return run.row(id, f"{claim} of the same pictures and prompts, by {NAMER}.", unit="cosine", **counted, **values)


class Raters:
    """The detector and the CLIP that rate: neither taught, calibrated or chose any generator.

    Args:
        settings: where they are, and how many pictures of a prompt they see.
        images: of each of PocketWorld's prompts at most; None takes as many as the list asks for.
    """

    def __init__(self, settings: Settings, images: int | None):
        self.detector = JudgeDetector(settings.checkpoints / JUDGE)
        self.scorer = ClipScorer(settings.checkpoints / NAMER)
        listed = load_prompts()
        self.prompts = [{**one, "n_images": min(one["n_images"], images or one["n_images"])} for one in listed]
        self.name = {} if self.prompts == listed else {"name": f"geneval_pocketworld_{images}_images"}

    def rate(self, pipeline: DiffusionPipeline) -> Drawn:
        """Draws every prompt and rates the pictures; picture i of prompt p has the same seed for every pipeline."""
        drawn = list(draw_prompts(pipeline, self.prompts))
        seen = detect_pictures(iter(drawn), self.detector)
        geneval = score_pictures(seen, pocketworld_protocol(self.prompts, **self.name))
        pictures, texts = [picture for _, picture in drawn], [asked["prompt"] for asked, _ in drawn]
        return Drawn(geneval, self.scorer.score(pictures, texts))


def measure_pictures(settings: Settings, run: Run) -> Iterator[Row]:
    """The committed models, before and after."""
    raters = Raters(settings, settings.geneval_images)
    full, packed = (
        raters.rate(load_committed("bitsfusion", settings.checkpoints / name)) for name in (FULL, PACKED)
    )  # fmt: skip
    yield full.row(run, "geneval-full", "GenEval of the nano model in full precision")
    yield full.clip_row(run, "clip-full", "CLIP score of the nano model in full precision")
    rival = {"rival": "the same model in full precision"}
    yield packed.row(
        run, "geneval-packed", f"GenEval of the packed nano model is at least {KEPT} of full precision's",
        rival_measured=full.geneval.overall, target=KEPT * full.geneval.overall, **rival,
    )  # fmt: skip
    yield packed.clip_row(
        run, "clip-packed", "CLIP score of the packed nano model", rival_measured=full.clip.clip_score, **rival
    )
