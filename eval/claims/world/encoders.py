"""How well the two CLIPs know PocketWorld: the one that conditions generators, and the one that measures them."""

from collections.abc import Iterator

from ...benchmark import Run, share
from ...instruments.clip import ImageTextEncoder
from ...results import Row
from ...scores.retrieval import measure_retrieval, unambiguous_groups, world_records
from .settings import Settings

ENCODERS = ("clip-nano", "clip-nano-judge")


def measure_retrieval_of_encoders(settings: Settings, run: Run) -> Iterator[Row]:
    """R@1 of both encoders, both ways, over the same groups of test pictures."""
    encoders = {name: ImageTextEncoder.from_folder(settings.checkpoints / name) for name in ENCODERS}
    groups = unambiguous_groups(world_records("test", settings.picture_size), settings.groups, settings.group_size)
    for name, encoder in encoders.items():
        recall = measure_retrieval(encoder, groups)
        for way, right, question in (
            ("image-to-text", recall.image_to_text, "A test picture finds its caption"),
            ("text-to-image", recall.text_to_image, "A test caption finds its picture"),
        ):
            yield run.row(
                f"{name}-{way}", f"{question} among {settings.group_size} different ones with {name} (R@1).",
                target=0.9, **share(right, recall.queries),
            )  # fmt: skip
