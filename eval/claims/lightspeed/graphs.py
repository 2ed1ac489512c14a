"""Graphs from a camera's pose to its pixels, of fields of full size with random weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....hub_models.field_lightspeed import LightSpeedField
from ....hub_models.layers.light_field_decoder import Tail
from ....hub_models.rendering.cameras import intrinsics
from ....hub_models.rendering.light_slab import LightSlab
from ....hub_models.rendering.pixel_rays import pixel_rays
from ....pipelines.files import whole_file
from ...timing.onnx_session import onnx_graph
from .rival_networks import MOBILE_R2L, MobileR2L

FIELD_OF_VIEW = 40.0
NEAR, FAR = 2.0, 6.0  # of MobileR2L's points, and of the light slab's second plane


@dataclass(frozen=True)
class Frame:
    """A picture whose cost is measured.

    Attributes:
        preset: of LightSpeed's field.
        tail: of it, and of MobileR2L's network.
        height, width: in pixels.
    """

    preset: str
    tail: Tail
    height: int
    width: int


FRONTAL = Frame("paper-frontal", "12x", height=756, width=1008)


class CameraView(nn.Module):
    """Pictures of a field from cameras that may stand anywhere: rays, their encoding and the network in one."""

    def __init__(self, field: nn.Module, scale: int, frame: Frame) -> None:
        super().__init__()
        self.field, self.scale, self.frame = field, scale, frame
        self.register_buffer("K", intrinsics(FIELD_OF_VIEW, frame.height, frame.width))

    def forward(self, viewmats: Float[Tensor, "batch 4 4"]) -> Float[Tensor, "batch 3 height width"]:
        rays = pixel_rays(viewmats, self.K, self.frame.height, self.frame.width, self.scale)
        return self.field(*(value.movedim(-1, 1) for value in rays))


def write_graph(view: CameraView, path: Path) -> None:
    """The ONNX graph of one picture, in float32.

    Raises:
        ImportError: onnx is missing (extra export).
        OSError: the file cannot be written.
    """
    with whole_file(path) as draft:
        draft.write_bytes(onnx_graph(view.eval(), torch.eye(4)[None]))


def lightspeed_view(frame: Frame) -> CameraView:
    """By a field of one slab, the part of a divided field that shows a camera away from borders."""
    torch.manual_seed(0)
    field = LightSpeedField.from_preset(frame.preset, num_sub_scenes=1, tail=frame.tail)
    reach = float(FAR / intrinsics(FIELD_OF_VIEW, 2, 2)[1, 1]) * frame.width / frame.height
    ends = torch.tensor([1.0, 1.0, reach, reach])
    field.set_slab(0, LightSlab(torch.eye(4), 0.0, FAR, -ends, ends), torch.zeros(3))
    return CameraView(field, field.scale, frame)


def mobile_r2l_view(frame: Frame) -> CameraView:
    """By MobileR2L's network of 29 blocks."""
    torch.manual_seed(0)
    network = MobileR2L(NEAR, FAR, tail=frame.tail, **MOBILE_R2L)
    return CameraView(network, network.decoder.scale, frame)
