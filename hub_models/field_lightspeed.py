"""LightSpeed's neural light field (arXiv 2310.16832): rays to pictures, by light slabs and grids over them.

The paper's text does not give sizes. The network is that of MobileR2L (arXiv 2212.08057), on which it builds, and what
is neither there nor in the paper's figure is a config field.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from .layers.light_field_decoder import LightFieldDecoder, Tail
from .layers.plane_grid import PlaneGrid
from .presets import PresetMixin
from .rendering.cameras import camera_centres
from .rendering.light_slab import LightSlab
from .rendering.pixel_rays import pixel_rays
from .rendering.view_clusters import ViewClusters


class LightSpeedField(ModelMixin, ConfigMixin, PresetMixin):
    """One light field, or one for each part of the cameras: divide and conquer, where a single slab cannot hold all.

    Each sub-scene has a light slab of its own, in which a ray is four numbers, six grids over pairs of them on several
    levels, and a decoder. `set_slab` says where the slabs are.

    Args:
        num_sub_scenes: how many parts; 5 for an object seen from all sides are remembered of the paper, and uncertain.
        grid_resolutions: vectors along a side of the grids, of each level; the paper's are unknown.
        grid_channels: numbers of a vector; the paper's are unknown.
        grid_init: grids begin uniform in [-grid_init, grid_init].
        width: channels of the decoder's body.
        blocks: residual blocks of the decoder's body; 14 are the 30 layers remembered of the paper.
        tail: how many times larger than the bundle of rays a picture is.
        tail_channels: of the decoder behind each enlargement.
        body_skip: a shortcut around the decoder's whole body, as in MobileR2L's code.

    Raises:
        ValueError: for a value that is out of range, naming it.
    """

    _supports_gradient_checkpointing = True
    _keep_in_fp32_modules: ClassVar[list[str]] = ["slab"]

    presets = {
        "paper": {"num_sub_scenes": 5},
        "paper-frontal": {"tail": "12x"},
        "nano": {"grid_resolutions": (16, 32, 64, 128), "width": 96, "blocks": 6, "tail_channels": (32, 16, 8)},
    }

    @register_to_config
    def __init__(
        self,
        num_sub_scenes: int = 1,
        grid_resolutions: Sequence[int] = (64, 128, 256, 512),
        grid_channels: int = 4,
        grid_init: float = 0.1,
        width: int = 256,
        blocks: int = 14,
        tail: Tail = "8x",
        tail_channels: Sequence[int] = (64, 64, 16),
        body_skip: bool = True,
    ) -> None:
        super().__init__()
        _check(**self._internal_dict)
        self.sub_scenes = nn.ModuleList()
        for _ in range(num_sub_scenes):
            grid = PlaneGrid(grid_resolutions, grid_channels, init=grid_init)
            decoder = LightFieldDecoder(grid.out_channels, width, blocks, tail, tail_channels, body_skip)
            self.sub_scenes.append(SubScene(grid, decoder))

    @property
    def scale(self) -> int:
        """Pixels of a picture along a side of one ray's block."""
        return self.sub_scenes[0].decoder.scale

    def set_slab(self, sub_scene: int, slab: LightSlab, centre: Float[Tensor, " 3"]) -> None:
        """Says where a sub-scene's light slab is, and the middle of the cameras that it serves.

        Raises:
            ValueError: a sub-scene that there is not, a number that is not finite, or ends in the wrong order.
        """
        self._sub_scene(sub_scene).slab.set(slab, centre)

    def slab(self, sub_scene: int = 0) -> LightSlab:
        """The light slab of a sub-scene, of which all rays that it is given must pass `check_rays`."""
        return self._sub_scene(sub_scene).slab.slab()

    @property
    def clusters(self) -> ViewClusters:
        """Which sub-scene serves a camera, by where it stands."""
        return ViewClusters(torch.stack([part.slab.centre for part in self.sub_scenes]))

    def show(
        self, viewmats: Float[Tensor, "batch 4 4"], Ks: Float[Tensor, "batch 3 3"], height: int, width: int
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pictures in [0, 1] by the sub-scene whose cameras are nearest, or by two that share one near their border.

        Args:
            viewmats: world to camera, OpenCV axes; at least one.
            Ks: intrinsics in pixels.
            height, width: of a picture in pixels, multiples of `scale`.

        Raises:
            ValueError: for cameras of another shape, or sides that are no multiples.
        """
        shapes = [list(viewmats.shape), list(Ks.shape)]
        if not len(viewmats) or shapes != [[len(viewmats), *sides] for sides in ((4, 4), (3, 3))]:
            raise ValueError(
                f"viewmats and Ks must be [batch, 4, 4] and [batch, 3, 3], not {shapes[0]} and {shapes[1]}."
            )
        origins, directions = (rays.movedim(-1, 1) for rays in pixel_rays(viewmats, Ks, height, width, self.scale))
        return self.clusters.blended(
            camera_centres(viewmats), lambda sub_scene, mine: self(origins[mine], directions[mine], sub_scene)
        )

    def forward(
        self,
        origins: Float[Tensor, "batch 3 height width"],
        directions: Float[Tensor, "batch 3 height width"],
        sub_scene: int = 0,
    ) -> Float[Tensor, "batch 3 scale*height scale*width"]:
        """Pictures of one sub-scene, in [0, 1].

        Args:
            origins: a point of each ray, in the world.
            directions: of each ray, of any length. A ray goes through the middle of scale x scale pixels.
            sub_scene: whose light slab and network.

        Raises:
            ValueError: rays of another shape, or a sub-scene that there is not.
        """
        _check_rays(origins, directions)
        return self._sub_scene(sub_scene)(origins, directions)

    def _sub_scene(self, index: int) -> "SubScene":
        if not 0 <= index < len(self.sub_scenes):
            raise ValueError(f"sub_scene must be from 0 to {len(self.sub_scenes) - 1}, not {index!r}.")
        return self.sub_scenes[index]


class SubScene(nn.Module):
    """Rays to their coordinates in a light slab, to features from grids, to pixels."""

    def __init__(self, grid: PlaneGrid, decoder: LightFieldDecoder) -> None:
        super().__init__()
        self.slab = StoredSlab()
        self.grid = grid
        self.decoder = decoder

    def forward(
        self, origins: Float[Tensor, "batch 3 height width"], directions: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 scale*height scale*width"]:
        """Pictures in the decoder's precision; rays are placed in that of the slab, or details would move."""
        features = self.grid(self.slab(origins, directions))
        return self.decoder(features.to(self.decoder.head[0].weight.dtype))


class StoredSlab(nn.Module):
    """A light slab and the middle of its cameras as they are saved with weights; they keep their precision."""

    frame: Tensor
    near: Tensor
    far: Tensor
    low: Tensor
    high: Tensor
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frame", torch.eye(4))
        self.register_buffer("near", torch.zeros(()))
        self.register_buffer("far", torch.ones(()))
        self.register_buffer("low", -torch.ones(4))
        self.register_buffer("high", torch.ones(4))
        self.register_buffer("centre", torch.zeros(3))

    def slab(self) -> LightSlab:
        return LightSlab(self.frame, self.near, self.far, self.low, self.high)

    def set(self, slab: LightSlab, centre: Float[Tensor, " 3"]) -> None:
        values = {**vars(slab), "centre": centre}
        values = {name: torch.as_tensor(value).to(self.frame) for name, value in values.items()}
        for name, value in values.items():
            if value.shape != getattr(self, name).shape or not torch.isfinite(value).all():
                shape = list(getattr(self, name).shape)
                raise ValueError(f"{name} must be finite and {shape}, not {value.tolist()}.")
        for lower, upper in (("near", "far"), ("low", "high")):
            if not (values[lower] < values[upper]).all():
                raise ValueError(
                    f"{upper} must be above {lower}, {values[lower].tolist()}, not {values[upper].tolist()}."
                )
        for name, value in values.items():
            getattr(self, name).copy_(value)

    def forward(
        self, origins: Float[Tensor, "batch 3 height width"], directions: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 4 height width"]:
        """x, y, u, v of rays, under autocast too in the slab's own precision."""
        rays = (value.to(self.frame.dtype).movedim(1, -1) for value in (origins, directions))
        device = origins.device.type
        exact = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with exact:
            return self.slab().coordinates(*rays).movedim(-1, 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, value in exact.items():
            buffer = getattr(self, name)
            if buffer.dtype.itemsize < value.dtype.itemsize:
                setattr(self, name, value.to(buffer.device))
        return self


def _check_rays(origins: Tensor, directions: Tensor) -> None:
    shapes = list(origins.shape), list(directions.shape)
    if origins.ndim != 4 or origins.shape[1] != 3 or origins.shape != directions.shape:
        raise ValueError(f"origins and directions must be [batch, 3, height, width], not {shapes[0]}, {shapes[1]}.")


def _check(**options: Any) -> None:
    resolutions, channels = options["grid_resolutions"], options["tail_channels"]
    ranges = {
        "num_sub_scenes": (options["num_sub_scenes"] >= 1, "at least 1"),
        "grid_resolutions": (len(resolutions) >= 1 and min(resolutions) >= 2, "one number or more of at least 2"),
        "grid_channels": (options["grid_channels"] >= 1, "at least 1"),
        "grid_init": (0 <= options["grid_init"] < math.inf, "at least 0 and finite"),
        "width": (options["width"] >= 1, "at least 1"),
        "blocks": (options["blocks"] >= 1, "at least 1"),
        "tail_channels": (len(channels) == 3 and min(channels) >= 1, "three numbers of at least 1"),
    }
    for name, (right, wanted) in ranges.items():
        if not right:
            raise ValueError(f"{name} must be {wanted}, not {options[name]!r}.")
