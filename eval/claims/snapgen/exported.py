"""What an export keeps of SnapGen's pictures: those of its bundles, named by a CLIP beside the original's."""

from collections.abc import Iterator

from ...benchmark import Run
from ...exported import measure_bundles
from ...named_pairs import seen_pairs_task
from ...results import Row
from .pictures import NANO
from .settings import Settings


def measure_exported(settings: Settings, run: Run) -> Iterator[Row]:
    """How often clip-nano-judge names what bundles draw as asked, and the bytes of their networks."""
    task = seen_pairs_task(NANO, settings.checkpoints, settings.exported_pictures_a_pair)
    return measure_bundles(run, [task], settings.checkpoints, settings.back_ends)
