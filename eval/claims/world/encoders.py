"""How well the two CLIPs know PocketWorld: the one that conditions generators, and the one that measures them."""

from collections.abc import Iterator

from ...benchmark import Run, share
from ...instruments.clip import ImageTextEncoder
from ...results import Row
from ...scores.retrieval import (
    PLAIN,
    UNAMBIGUOUS,
    measure_retrieval,
    plain_groups,
    unambiguous_groups,
    world_records,
)
from .settings import Settings

ENCODERS = ("clip-nano", "clip-nano-judge")


def measure_retrieval_of_encoders(settings: Settings, run: Run) -> Iterator[Row]:
    """R@1 of both encoders, both ways, over the same groups of test pictures: unambiguous ones, and any."""
    encoders = {name: ImageTextEncoder.from_folder(settings.checkpoints / name) for name in ENCODERS}
    numbers = (settings.groups, settings.group_size)
    unambiguous = unambiguous_groups(world_records("test", settings.picture_size), *numbers)
    plain = plain_groups(world_records("test", settings.picture_size), *numbers)
    for name, encoder in encoders.items():
        for prefix, groups, rule, target in (
            (name, unambiguous, UNAMBIGUOUS, 0.9),
            (f"{name}-plain", plain, PLAIN, None),
        ):
            recall = measure_retrieval(encoder, groups)
            among = f"{settings.group_size} pictures {rule}, with {name} (R@1)."
            yield run.row(
                f"{prefix}-image-to-text", f"A test picture finds its caption among those of {among}",
                target=target, **share(recall.image_to_text, recall.pictures),
            )  # fmt: skip
            yield run.row(
                f"{prefix}-text-to-image", f"A test caption finds its picture among {among}",
                target=target, **share(recall.text_to_image, recall.captions),
            )  # fmt: skip
