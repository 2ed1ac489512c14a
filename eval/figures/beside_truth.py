"""Pictures of a scene above what they should be, a column for each camera."""

from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...pipelines.files import whole_file


def draw_beside_truth(
    path: str | Path, pictures: Float[Tensor, "views 3 height width"], truths: Float[Tensor, "views 3 height width"]
) -> Path:
    """Writes a PNG, whole or not at all; pictures in [0, 1] above the truth of the same camera.

    Raises:
        ValueError: no pictures, or truths of another shape.
        OSError: it cannot be written.
    """
    if not len(pictures) or pictures.shape != truths.shape:
        raise ValueError(f"pictures and truths must be alike, not {list(pictures.shape)} and {list(truths.shape)}.")
    columns = torch.cat((pictures, truths.to(pictures)), 2)  # [views, 3, 2 height, width]
    sheet = torch.cat(columns.unbind(), 2)
    pixels = (sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    with whole_file(path) as draft:
        Image.fromarray(pixels.cpu().numpy()).save(draft, format="PNG")
    return Path(path)
