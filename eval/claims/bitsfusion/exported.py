"""What an export keeps of BitsFusion's pictures: those of its bundles, named by a CLIP beside the original's."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...benchmark import Run
from ...exported import measure_bundles
from ...named_pairs import seen_pairs_task
from ...results import Row

if TYPE_CHECKING:
    from .settings import Settings

PACKED = "bitsfusion-nano"


def measure_exported(settings: "Settings", run: Run) -> Iterator[Row]:
    """How often clip-nano-judge names what bundles of the packed model draw as asked, and their networks' bytes."""
    task = seen_pairs_task(PACKED, settings.checkpoints, settings.exported_pictures_a_pair)
    return measure_bundles(run, [task], settings.checkpoints, settings.back_ends)
