"""From dense predictions to objects: pixels vote for centres (Panoptic-DeepLab, arXiv 1911.10194, section 3.3)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ..outputs import MIN_SCORE, Detections, MaskRLE
from .picture_input import Region

OFFSET_UNIT = 8.0
"""Pixels of the model's input that an offset of 1 stands for."""
PEAK_REACH = 2  # a peak is the highest of 5 x 5 pixels
STRONG_PEAK = 0.3
CERTAIN_PEAK = 0.6
"""From this height on a peak is an object for certain: where its centre lies between pixels, no pixel is 1."""
MAX_OBJECTS = 64


def decode_instances(
    dense: Mapping[str, Float[Tensor, "batch _ h w"]],
    size: tuple[int, int],
    labels: Sequence[str],
    colors: Sequence[str],
    output_sizes: Sequence[tuple[int, int]] | None = None,
    regions: Sequence[Region] | None = None,
) -> list[Detections]:
    """The objects of each picture, best first, from `MIN_SCORE` up.

    Each pixel that shows an object votes for a place, its own plus its offset, and belongs to the peak of the heat map
    that is nearest to it. Peaks below `STRONG_PEAK` take no pixels from stronger ones. The score is the geometric mean
    of the peak (over `CERTAIN_PEAK`, at most 1) and of the mean probability of the label over the mask.

    Args:
        dense: logits "shape" [B, 1 + labels, h, w] (0: no object), "color" [B, colors, h, w], "center" [B, 1, h, w],
            and "offset" [B, 2, h, w], (dy, dx) in `OFFSET_UNIT`.
        size: (height, width) of the model's input, to which the predictions are interpolated.
        labels: class names.
        colors: colour names.
        output_sizes: (height, width) of each original picture, for its boxes and masks; None is the region's.
        regions: part of the model's input that shows each picture, the rest being padding; None is all of it.
    """
    full = {
        name: F.interpolate(value.float(), size, mode="bilinear", align_corners=False).cpu()
        for name, value in dense.items()
    }
    shape, color = full["shape"].softmax(1), full["color"].softmax(1)
    grid = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).float()  # (y, x) of each pixel
    votes = grid + OFFSET_UNIT * full["offset"]
    regions = regions or [Region(0, 0, *size)] * len(votes)
    sizes = output_sizes or [region[2:] for region in regions]
    found = []
    for index, (region, output_size) in enumerate(zip(regions, sizes, strict=True)):
        places, heights = find_peaks(full["center"][index, 0])
        masks = assign_pixels(votes[index], shape[index].argmax(0) > 0, places, heights)
        objects = []
        for mask, height in zip(masks, heights.tolist(), strict=True):
            shown = resize_mask(_crop(mask.numpy(), region), output_size)
            if not shown.any():
                continue
            likely = shape[index, 1:, mask].mean(1)
            score = (min(height / CERTAIN_PEAK, 1.0) * float(likely.max())) ** 0.5
            if score >= MIN_SCORE:
                label, tint = labels[int(likely.argmax())], colors[int(color[index, :, mask].mean(1).argmax())]
                objects.append((label, score, mask_box(shown), MaskRLE.encode(shown), tint))
        found.append(_best_first(objects))
    return found


def _best_first(objects: list[tuple[str, float, tuple[float, ...], MaskRLE, str]]) -> Detections:
    ranked = sorted(objects, key=lambda entry: -entry[1])
    labels, scores, boxes, masks, colors = zip(*ranked, strict=True) if ranked else ((),) * 5
    return Detections(labels=labels, scores=scores, boxes=boxes, masks=masks, colors=colors)


def find_peaks(
    heat: Float[Tensor, "height width"],
) -> tuple[Int[Tensor, "peaks 2"], Float[Tensor, " peaks"]]:
    """Places (y, x) where a heat map of logits is highest within `PEAK_REACH`, best first, and its height in [0, 1].

    At most `MAX_OBJECTS`, from `MIN_SCORE` up. Of equally high pixels near each other, the first is the peak.
    """
    highest = F.max_pool2d(heat[None], 2 * PEAK_REACH + 1, 1, PEAK_REACH)[0]
    candidates = ((heat == highest) & (heat.sigmoid() >= MIN_SCORE)).nonzero()
    heights = heat[candidates[:, 0], candidates[:, 1]]
    candidates = candidates[heights.sort(descending=True, stable=True).indices]
    places = []
    while len(candidates) and len(places) < MAX_OBJECTS:
        places.append(candidates[0])
        candidates = candidates[(candidates - candidates[0]).abs().amax(1) > PEAK_REACH]
    kept = torch.stack(places) if places else candidates
    return kept, heat[kept[:, 0], kept[:, 1]].sigmoid()


def assign_pixels(
    votes: Float[Tensor, "2 height width"],
    foreground: Bool[Tensor, "height width"],
    places: Shaped[Tensor, "peaks 2"],
    heights: Float[Tensor, " peaks"],
) -> Bool[Tensor, "peaks height width"]:
    """Which pixels belong to each peak, best peaks first.

    A pixel of the foreground belongs to the strong peak nearest to its vote; a weak peak gets the pixels that are
    nearer to it than to any strong one.
    """
    if not len(places):
        return torch.zeros(0, *foreground.shape, dtype=torch.bool)
    distance = (votes[None] - places[:, :, None, None].to(votes)).square().sum(1)  # [peaks, height, width]
    strong = heights >= STRONG_PEAK
    rival = torch.where(strong[:, None, None], distance, torch.inf)
    nearest = rival.argmin(0)[None] == torch.arange(len(places))[:, None, None]
    nearer = distance < rival.amin(0)
    return torch.where(strong[:, None, None], nearest, nearer) & foreground


def _crop(mask: np.ndarray, region: Region) -> np.ndarray:
    return mask[region.top : region.top + region.height, region.left : region.left + region.width]


def resize_mask(mask: Bool[np.ndarray, "height width"], size: tuple[int, int]) -> Bool[np.ndarray, "rows columns"]:
    """A mask at another size, each pixel taken from where its centre falls."""
    if mask.shape == tuple(size):
        return mask
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows][:, columns]


def mask_box(mask: Bool[np.ndarray, "height width"]) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) around the pixels of a mask that has some; x1 and y1 are one past the last."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
