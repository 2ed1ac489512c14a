"""Pictures whose every pixel says which object it shows: what a detector learns from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from .pocketworld import load_pocketworld
from .pocketworld.scene import COLORS, MAX_OBJECTS, SHAPES

NO_OBJECT = 255


@dataclass(frozen=True)
class InstanceImages:
    """N square pictures held in memory.

    Attributes:
        pixels: of the pictures.
        instances: 0 where no object is, else 1 + the number of the object.
        shapes, colors: of each object, as numbers in `SHAPES` and `COLORS`; `NO_OBJECT` behind the last.
    """

    pixels: UInt8[Tensor, "count 3 size size"]
    instances: UInt8[Tensor, "count size size"]
    shapes: UInt8[Tensor, "count objects"]
    colors: UInt8[Tensor, "count objects"]

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in [0, 1]."""
        return self.pixels[indices].float().div_(255)

    def targets(self, indices: Int[Tensor, " batch"]) -> "DenseTargets":
        """What each pixel of these pictures shows."""
        return dense_targets(self.instances[indices], self.shapes[indices], self.colors[indices])


@dataclass(frozen=True)
class DenseTargets:
    """What a dense head should say of each pixel.

    Attributes:
        shape: 0 for no object, else 1 + its shape.
        color: of the object; meaningless where there is none.
        center: a Gaussian bump in [0, 1] around the centre of mass of each object's visible pixels.
        offset: from a pixel to the centre of its object, (dy, dx) in pixels; 0 where there is none.
        foreground: where an object is.
    """

    shape: Int[Tensor, "batch size size"]
    color: Int[Tensor, "batch size size"]
    center: Float[Tensor, "batch size size"]
    offset: Float[Tensor, "batch 2 size size"]
    foreground: Bool[Tensor, "batch size size"]


CENTER_SIGMA = 2.0  # pixels


def dense_targets(
    instances: UInt8[Tensor, "batch size size"],
    shapes: UInt8[Tensor, "batch objects"],
    colors: UInt8[Tensor, "batch objects"],
) -> DenseTargets:
    """Targets of pictures from their instance maps and the shapes and colours of their objects."""
    numbers, (rows, columns) = instances.long(), instances.shape[1:]
    foreground = numbers > 0
    batch = torch.arange(len(numbers))[:, None, None]
    index = (numbers - 1).clamp_min(0)
    shape = torch.where(foreground, 1 + shapes.long()[batch, index], 0)
    color = torch.where(foreground, colors.long()[batch, index], 0)
    y, x = torch.arange(rows).float()[:, None], torch.arange(columns).float()[None]
    owned = torch.nn.functional.one_hot(numbers, shapes.shape[1] + 1)[
        ..., 1:
    ].float()  # [batch, rows, columns, objects]
    area = owned.sum((1, 2)).clamp_min(1)
    center_y, center_x = ((owned * axis[..., None]).sum((1, 2)) / area for axis in (y, x))  # [batch, objects]
    visible = owned.amax((1, 2)) > 0
    distance = (y[..., None] - center_y[:, None, None]) ** 2 + (x[..., None] - center_x[:, None, None]) ** 2
    bumps = torch.exp(-distance / (2 * CENTER_SIGMA**2)) * visible[:, None, None]
    offset = torch.stack([(center_y[batch, index] - y), (center_x[batch, index] - x)], dim=1)
    return DenseTargets(shape, color, bumps.amax(-1), offset * foreground[:, None], foreground)


def pocketworld_instances(split: str, size: int, count: int, seed: int = 0) -> InstanceImages:
    """The first `count` image records of a split of PocketWorld, made once and cached by `datasets`."""
    rows = load_pocketworld("image", split, size, count, seed)
    pixels = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    instances = torch.empty((len(rows), size, size), dtype=torch.uint8)
    words = torch.full((2, len(rows), MAX_OBJECTS), NO_OBJECT, dtype=torch.uint8)
    for i, row in enumerate(rows.select_columns(["image", "mask", "objects"])):
        pixels[i] = torch.from_numpy(np.array(row["image"])).permute(2, 0, 1)
        instances[i] = torch.from_numpy(np.array(row["mask"]))
        for k, thing in enumerate(row["objects"]):
            words[0, i, k] = SHAPES.index(thing["shape"])
            words[1, i, k] = tuple(COLORS).index(thing["color"])
    return InstanceImages(pixels, instances, *words)
