"""How often GenEval's rules say of a picture what people say, on the published answers of its raters."""

from collections.abc import Iterator

from ...benchmark import Run, share
from ...geneval.human import Rating, human_agreement, read_prompts, read_ratings
from ...real_data import real_data
from ...results import Row
from .settings import Settings

LABELS = "evaluation/geneval"


def measure_raters(settings: Settings, run: Run) -> Iterator[Row]:
    """Agreement in ratings and in pictures; the rules get what each rater saw, so that no detector can err."""
    found = human_agreement(published_ratings())
    yield run.row(
        "geneval-rules-ratings",
        "Told what a person saw in a picture, GenEval's rules say as that person does whether it fits its caption: "
        "published answers about pictures that CLIP retrieved.",
        measured=found.ratings, unit="share", interval=found.interval, n=found.n_ratings, seed=0, size="paper",
        hardware=None, rival="another person who saw the same picture", rival_measured=found.raters,
    )  # fmt: skip
    agreed = round(found.pictures * found.n_pictures)
    yield run.row(
        "geneval-rules-pictures",
        "Told what several people saw in a picture, GenEval's rules by majority say what most of them do: the same "
        "answers.",
        size="paper", hardware=None, **share(agreed, found.n_pictures),
    )  # fmt: skip


def published_ratings() -> list[Rating]:
    """The ratings of GenEval's label file of retrieved pictures.

    Raises:
        MissingData: the file is not here.
        ValueError: it is damaged.
    """
    labels, prompts = (
        real_data(f"{LABELS}/{name}", "GenEval") for name in ("annotations_clip.csv", "evaluation_metadata.jsonl")
    )
    return read_ratings(labels, read_prompts(prompts))
