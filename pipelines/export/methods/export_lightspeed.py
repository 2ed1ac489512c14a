"""How LightSpeed is exported: a camera in, its picture out, with the rays and the grids' look-up inside."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....hub_models.field_lightspeed import SubScene
from ..gathered_grid import GatheredGrid


class Camera(nn.Module):
    """A sub-scene as seen by cameras.

    Rays are sums of products, as `pixel_rays` and the slab make them by products of matrices: in int8 a back end would
    round those.

    Args:
        sub_scene: whose slab and decoder are shared.
        height, width: of a picture in pixels, multiples of the decoder's scale.
    """

    def __init__(self, sub_scene: SubScene, height: int, width: int) -> None:
        super().__init__()
        self.slab = sub_scene.slab
        self.grid = GatheredGrid(sub_scene.grid)
        self.decoder = sub_scene.decoder
        self.height, self.width = height, width

    def forward(
        self, viewmat: Float[Tensor, "batch 4 4"], K: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        features = self.grid(self.coordinates(viewmat, K).movedim(-1, 1))
        return self.decoder(features.to(self.decoder.head[0].weight.dtype))

    def coordinates(
        self, viewmat: Float[Tensor, "batch 4 4"], K: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch rows columns 4"]:
        """x, y, u, v of the rays through the middles of blocks of pixels."""
        rotation, translation, slab = viewmat[:, :3, :3], viewmat[:, :3, 3:], self.slab.slab()
        linear, shift = slab.frame[:, :3], slab.frame[:, 3]
        place = -(rotation * translation).sum(1)  # of the camera in the world [batch, 3]
        start = (linear * place[:, None]).sum(-1) + shift  # [batch, 4]
        axes = (linear * rotation[:, :, None]).sum(-1)  # of the camera in the slab's frame, one a row [batch, 3, 4]
        x, y = self._slopes(K)
        steps = x * axes[:, None, None, 0] + y * axes[:, None, None, 1] + axes[:, None, None, 2]
        return slab.hits(start[:, None, None], steps)

    def _slopes(self, K: Float[Tensor, "batch 3 3"]) -> tuple[Tensor, Tensor]:
        """x and y of rays where z of the camera is 1, [batch, rows, columns, 1] and [batch, rows, 1, 1]."""
        scale = self.decoder.scale
        u = (torch.arange(self.width // scale)[:, None] + 0.5) * scale
        v = (torch.arange(self.height // scale)[:, None, None] + 0.5) * scale
        fx, skew, cx, fy, cy = (K[:, i, j, None, None, None] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
        y = (v - cy) / fy
        return (u - cx - skew * y) / fx, y
