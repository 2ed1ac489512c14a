"""The judge of PocketWorld as a detector: it tells what a picture shows, whoever made it."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...pipelines import pipeline_class
from ...pipelines.outputs import Detections

JUDGE = "ascan-nano-judge"


class JudgeDetector:
    """A detector (see `geneval.detectors.Detector`) from a checkpoint.

    Args:
        folder: of a pipeline for object detection that has a method `detect`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is damaged.
    """

    def __init__(self, folder: str | Path):
        self.name = self.weights = Path(folder).name
        self._pipeline = pipeline_class("ascan", "object-detection").from_pretrained(folder)
        self._pipeline.set_progress_bar_config(disable=True)

    def __call__(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        """Every object from `MIN_SCORE` up, picture by picture."""
        return self._pipeline.detect(list(pictures))
