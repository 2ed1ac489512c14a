"""PocketWorld's ground truth as a perfect detector would give it."""

from ..pipelines.outputs import Detections, MaskRLE
from ..training.datasets.pocketworld.records import Picture


def truth_of(picture: Picture) -> Detections:
    """Every object of a picture with score 1, its box, colour and the mask of its visible pixels."""
    objects = picture.scene.objects
    return Detections(
        labels=tuple(thing.shape for thing in objects),
        scores=(1.0,) * len(objects),
        boxes=tuple(map(tuple, picture.boxes.tolist())),
        masks=tuple(MaskRLE.encode(picture.instances == number) for number in range(1, len(objects) + 1)),
        colors=tuple(thing.color for thing in objects),
    )
