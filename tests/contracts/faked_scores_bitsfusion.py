"""Scores as raters give them."""

from dataclasses import replace

from pocket_diffusers.eval.claims.bitsfusion.pictures import Drawn
from pocket_diffusers.eval.geneval.score import GenEvalScore
from pocket_diffusers.eval.scores.clip_score import ClipScore

CLIP = ClipScore(0.0, None, "a CLIP", 1, "fixed", 9, 0)
GENEVAL = GenEvalScore(
    metric="geneval_pocketworld", overall=0.0, interval=None, tags={}, images_correct=0.0, prompts_correct=0.0,
    compat="fixed", protocol={}, protocol_hash="", prompts_hash="", detector="a judge", weights=None, asked=9, scored=9,
    failed=0, seed=0,
)  # fmt: skip


def drawn(geneval: float, clip: float) -> Drawn:
    """Two scores of nine pictures."""
    return Drawn(replace(GENEVAL, overall=geneval, interval=(geneval, geneval)), replace(CLIP, clip_score=clip))
