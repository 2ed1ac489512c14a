"""`pocket fit lightspeed`: a repository with the light field of photographs, and how far its pictures are off."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...hub_models.field_lightspeed import LightSpeedField
from ...hub_models.losses.photometric import psnr
from ..contact_sheet import contact_sheet
from ..files import whole_file
from ..inputs import Captures, PosedImages
from ..pipeline_lightspeed import LightSpeedPipeline
from ..repository import component_weights, refuse_other_folder, save_repository
from ..scene_cameras import UP
from .field_lightspeed import LightSpeedFit
from .light_field_fitting import whole_blocks
from .slabs_lightspeed import SceneHints, is_from_all_around

PICTURE_OPTIONS = {
    "steps": LightSpeedFit.steps,
    "size": 384,
    "preset": LightSpeedFit.preset,
    "slab": LightSpeedFit.slab,
    "sub_scenes": None,
    "field_of_view": None,
    "focus_distance": None,
    "teacher_steps": LightSpeedFit.teacher_steps,
    "pseudo_views": LightSpeedFit.pseudo_views,
    "up": UP,
    "seed": LightSpeedFit.seed,
}
"""What `pocket fit` may be told, and what holds if it is not."""
SUB_SCENES = LightSpeedField.presets["paper"]["num_sub_scenes"]
"""Of a scene that is seen from all around, where nothing else is wished."""
SHEET = "sheet.png"
SHEET_VIEWS = 4


@dataclass(frozen=True)
class FitReport:
    """What a fit made.

    Attributes:
        sub_scenes: with a light slab each.
        parameters: of the field.
        bytes: of its file.
        psnr: in dB, the mean over views that the fit never saw.
        held_out: their number.
    """

    sub_scenes: int
    parameters: int
    bytes: int
    psnr: float
    held_out: int

    def told(self, output: Path) -> str:
        """One line for who asked for the fit."""
        parts = "" if self.sub_scenes == 1 else f" in {self.sub_scenes} sub-scenes"
        views = f"{self.held_out} view{'s' if self.held_out > 1 else ''}"
        return (
            f"Fitted a light field of {self.parameters:,} parameters{parts}: {self.bytes:,} bytes; {self.psnr:.2f} dB "
            f"on {views} that it never saw: look at {output / SHEET}"
        )


def pictures_to_folder(
    seen: Captures, held_out: Captures, output: Path, wishes: Mapping[str, Any], resume: bool
) -> FitReport:
    """Fits a field to photographs, and saves its pipeline. A fit that is stopped goes on where it was.

    Args:
        seen: what is learned from.
        held_out: of the same scene, to measure the result.
        output: folder of the repository, which shows some held-out views beside the field's on `sheet.png`; the run
            is beside it, in `run_folder(output)`.
        wishes: values of all `PICTURE_OPTIONS`.
        resume: whether to go on with what an earlier run left.

    Raises:
        ValueError: a wish is not as it must be, cameras to which no light slab can be given, or `output` is something
            else than an earlier result.
        OSError: a folder cannot be written to.
    """
    refuse_other_folder(output)
    hints = SceneHints.of_captures(seen)
    fitted = LightSpeedPipeline.fit(
        seen.posed, hints.points, hints.nearest, wishes["up"], run_folder(output), resume,
        **_settings(seen.posed, wishes),
    )  # fmt: skip
    save_repository(fitted, output)
    field = LightSpeedPipeline.from_pretrained(output).field  # in the precision in which it is kept
    held_out_views = whole_blocks(held_out.posed, field.scale)
    shown = _shown(field, held_out_views)
    errors = psnr(shown, held_out_views.images, peak=1.0)
    with whole_file(output / SHEET) as draft:
        _sheet(held_out_views.images, shown, errors).save(draft, format="PNG")
    num_bytes = sum(path.stat().st_size for path in component_weights(output / "field", LightSpeedField))
    return FitReport(field.config.num_sub_scenes, field.num_parameters(), num_bytes, float(errors.mean()), len(errors))


def run_folder(output: Path) -> Path:
    """Where checkpoints, metrics and previews of the fit for a result are."""
    return output.with_name(f"{output.name}-fit")


def _settings(posed: PosedImages, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `LightSpeedFit`."""
    sub_scenes = wishes["sub_scenes"] or (SUB_SCENES if is_from_all_around(posed) else None)
    options = {} if sub_scenes is None else {"num_sub_scenes": sub_scenes}
    names = ("steps", "preset", "slab", "teacher_steps", "pseudo_views", "seed")
    return {"options": options, **{name: wishes[name] for name in names}}


@torch.no_grad()
def _shown(field: LightSpeedField, posed: PosedImages) -> Float[Tensor, "views 3 height width"]:
    """What a field shows from the cameras of pictures."""
    cameras = zip(posed.viewmats.split(1), posed.Ks.split(1), strict=True)
    return torch.cat([field.show(*camera, posed.height, posed.width) for camera in cameras])


def _sheet(
    photographs: Float[Tensor, "views 3 height width"],
    shown: Float[Tensor, "views 3 height width"],
    errors: Float[Tensor, " views"],
) -> Image.Image:
    """Some of the photographs, spread over all, above what the field shows."""
    some = torch.linspace(0, len(errors) - 1, min(SHEET_VIEWS, len(errors))).round().long()
    captions = [f"light field, {error:.1f} dB" for error in errors[some].tolist()]
    pictures = [_picture(pixels) for pixels in torch.cat((photographs[some], shown[some]))]
    return contact_sheet(pictures, ["photograph"] * len(some) + captions, columns=len(some))


def _picture(pixels: Float[Tensor, "3 height width"]) -> Image.Image:
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
