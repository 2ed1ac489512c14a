"""The C++ form of the Gaussian rasteriser, projection and binning included, as one differentiable function."""

import ctypes
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int64
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..layers.compiled_twin import compiled_twin
from .gaussian_projection import BLUR
from .gaussians import Gaussians

COLUMNS, GRADIENTS, TILE = 12, 10, 16  # as in gaussian_rasterizer.cpp


class _Camera(Structure):
    _fields_ = (
        ("rotation", c_float * 9),
        ("translation", c_float * 3),
        ("center", c_float * 3),
        *((name, c_float) for name in ("fx", "fy", "cx", "cy")),
        ("width", c_int),
        ("height", c_int),
        ("near", c_float),
        ("blur", c_float),
        ("antialias", c_int),
    )

    @classmethod
    def of(cls, viewmat: Tensor, K: Tensor, width: int, height: int, near: float, antialias: bool) -> Self:
        rotation, translation = viewmat[:3, :3].float(), viewmat[:3, 3].float()
        center = -rotation.T @ translation
        values = (rotation.flatten().tolist(), translation.tolist(), center.tolist())
        arrays = ((c_float * 9)(*values[0]), (c_float * 3)(*values[1]), (c_float * 3)(*values[2]))
        fx, fy, cx, cy = (float(K[index]) for index in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return cls(*arrays, fx, fy, cx, cy, width, height, near, BLUR, antialias)


class _Scene(Structure):
    _fields_ = (
        ("count", c_int64),
        ("coefficients", c_int),
        *((name, POINTER(c_float)) for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh")),
    )

    @classmethod
    def of(cls, means: Tensor, log_scales: Tensor, quaternions: Tensor, opacity_logits: Tensor, sh: Tensor) -> Self:
        tensors = (means, log_scales, quaternions, opacity_logits, sh)
        return cls(len(means), sh.shape[1], *(_floats(tensor) for tensor in tensors))


def library() -> ctypes.CDLL | None:
    """The built library, or None where none can be built."""
    built = compiled_twin(Path(__file__).with_name("gaussian_rasterizer.cpp"))
    if built is not None:
        built.project_forward.restype = c_int64
    return built


def composite_compiled(
    gaussians: Gaussians,
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    near: float,
    antialias: bool,
    offsets: Float[Tensor, "gaussians 2"] | None,
) -> Float[Tensor, "5 height width"]:
    """What `composite(project_gaussians(...))` gives, for float32 on the CPU."""
    camera = _Camera.of(viewmat.detach(), K.detach(), width, height, near, antialias)
    planes: Tensor = _Rasterize.apply(*gaussians.tensors().values(), offsets, camera)
    return planes


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *given, offsets, camera = arguments
        scene_tensors = [tensor.contiguous() for tensor in given]
        shift = None if offsets is None else offsets.contiguous()
        count, size = len(scene_tensors[0]), (c_int(camera.width), c_int(camera.height))
        threads, scene = c_int(torch.get_num_threads()), _Scene.of(*scene_tensors)
        splats = torch.empty(count, COLUMNS)
        total = library().project_forward(
            threads, byref(scene), byref(camera), None if shift is None else _floats(shift), _floats(splats)
        )
        members, slots = torch.empty(2, total, dtype=torch.int32)
        tiles = -(-camera.width // TILE) * -(-camera.height // TILE)
        starts, firsts = torch.empty(tiles + 1, dtype=torch.int64), torch.empty(count + 1, dtype=torch.int64)
        lists = [_address(tensor) for tensor in (members, slots, starts, firsts)]
        library().bin_splats(c_int64(count), *size, _floats(splats), *lists)
        planes = torch.empty(5, camera.height, camera.width)
        library().composite_forward(threads, *size, _floats(splats), lists[0], lists[2], _floats(planes))
        ctx.save_for_backward(*scene_tensors, splats, members, slots, starts, firsts, planes)
        ctx.camera, ctx.has_offsets = camera, offsets is not None
        return planes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *scene_tensors, splats, members, slots, starts, firsts, planes = ctx.saved_tensors
        camera, gradient = ctx.camera, gradient.contiguous()
        count, size = len(splats), (c_int(camera.width), c_int(camera.height))
        threads, scene = c_int(torch.get_num_threads()), _Scene.of(*scene_tensors)
        scratch, by_splats = torch.empty(len(members), GRADIENTS), torch.empty(count, GRADIENTS)
        lists = [_address(tensor) for tensor in (members, slots, starts, firsts)]
        pictures = [_floats(tensor) for tensor in (planes, gradient, scratch, by_splats)]
        library().composite_backward(threads, c_int64(count), *size, _floats(splats), *lists, *pictures)
        by_scene = [torch.zeros_like(tensor) for tensor in scene_tensors]
        library().project_backward(
            threads, byref(scene), byref(camera), _floats(splats), _floats(by_splats), *map(_floats, by_scene)
        )
        return *by_scene, by_splats[:, :2].clone() if ctx.has_offsets else None, None


def _floats(tensor: Tensor) -> Any:
    return ctypes.cast(tensor.data_ptr(), POINTER(c_float))


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
