"""A GenEval score as rows."""

from collections.abc import Iterator
from typing import Any

from ...training.datasets.pocketworld.descriptions import TAGS
from ..benchmark import Run
from ..results import Row
from .score import GenEvalScore


def counted(score: GenEvalScore) -> dict[str, Any]:
    """What all rows of a score have in common."""
    return {"unit": "share", "n": score.scored, "seed": score.seed}


def tag_rows(
    run: Run, prefix: str, claim: str, score: GenEvalScore, rival: str | None = None, truth: GenEvalScore | None = None
) -> Iterator[Row]:
    """A row for each tag that was scored, PREFIX-TAG.

    Args:
        claim: with {} for the tag.
        rival: whose score is `truth`.
    """
    for tag in (tag for tag in TAGS if tag in score.tags):
        ours, theirs = score.tags[tag], truth.tags.get(tag) if truth else None
        yield run.row(
            f"{prefix}-{tag.replace('_', '-')}", claim.format(tag), measured=ours.score, interval=ours.interval,
            rival=rival, rival_measured=None if theirs is None else theirs.score,
            **{**counted(score), "n": ours.pictures},
        )  # fmt: skip
