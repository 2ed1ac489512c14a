"""Differentiable rendering of 3D Gaussian splats on any machine (Kerbl et al. 2023, arXiv 2308.04079).

One definition has three forms: torch operations, C++ for the CPU, and gsplat for CUDA where that is installed.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from . import compiled_rasterizer
from .gaussian_compositing import composite
from .gaussian_projection import project_gaussians
from .gaussians import Gaussians
from .gsplat_compositing import composite_gsplat

Form = Literal["auto", "torch", "compiled", "gsplat"]
MAX_PIXELS = 2**26  # a picture


@dataclass(frozen=True)
class Rendering:
    """Pictures of splats.

    Attributes:
        rgb: [cameras, 3, height, width], at least 0; not clamped above.
        depth: expected distance along the camera's z axis in scene units [cameras, height, width]; 0 = nothing there.
        alpha: [cameras, height, width] in [0, 1].
    """

    rgb: Float[Tensor, "cameras 3 height width"]
    depth: Float[Tensor, "cameras height width"]
    alpha: Float[Tensor, "cameras height width"]


def rasterize_gaussians(
    gaussians: Gaussians,
    viewmats: Float[Tensor, "cameras 4 4"],
    Ks: Float[Tensor, "cameras 3 3"],
    width: int,
    height: int,
    background: Float[Tensor, "3"] | None = None,
    antialias: bool = False,
    near: float = 0.01,
    offsets: Float[Tensor, "cameras gaussians 2"] | None = None,
    form: Form = "auto",
) -> Rendering:
    """Renders splats from each camera, with gradients of everything by everything but the cameras.

    A pixel takes alpha_i = min(0.999, opacity_i exp(-q_i / 2)) of each Gaussian from near to far, leaves out what is
    below 1/255, and ends before its transmittance would reach 1e-4. Memory grows with Gaussians and with pixels, not
    with their product.

    Args:
        gaussians: the scene.
        viewmats: world to camera, OpenCV axes.
        Ks: intrinsics in pixels, without skew; pixel centres at +0.5.
        width, height: of each picture in pixels.
        background: RGB behind the scene; black if left out.
        antialias: weakens Gaussians smaller than a pixel instead of widening them (Mip-Splatting, arXiv 2311.16493).
        near: smallest depth that is drawn.
        offsets: zeros whose gradient, after `backward`, is that of the centres in pixels: what densification looks at.
        form: "torch" anywhere, "compiled" for float32 on a CPU with g++, "gsplat" on CUDA with that library; "auto"
            takes the fastest that is there.

    Raises:
        ValueError: for sizes, cameras or a form that cannot be.
    """
    _check(gaussians, viewmats, Ks, width, height, near, offsets)
    composited = _COMPOSITED[_form(form, gaussians)]
    shifts = [None] * len(viewmats) if offsets is None else offsets
    drawing = {"width": width, "height": height, "near": near, "antialias": antialias}
    views = zip(viewmats, Ks, shifts, strict=True)
    planes = [composited(gaussians, viewmat, K, offsets=shift, **drawing) for viewmat, K, shift in views]
    rgb, depth, alpha = torch.stack(planes).split((3, 1, 1), 1)  # [C, 3 or 1, H, W]
    if background is not None:
        rgb = rgb + (1 - alpha) * background.to(rgb)[:, None, None]
    expected = torch.where(alpha > 0, depth / alpha.clamp_min(1e-10), 0)
    return Rendering(rgb, expected[:, 0], alpha[:, 0])


def _torch(gaussians: Gaussians, *view: Any, **drawing: Any) -> Tensor:
    ellipses = project_gaussians(gaussians, *view, **drawing)
    return composite(ellipses, drawing["width"], drawing["height"])


def _gsplat(gaussians: Gaussians, *view: Any, **drawing: Any) -> Tensor:
    ellipses = project_gaussians(gaussians, *view, **drawing)
    return composite_gsplat(ellipses, drawing["width"], drawing["height"])


_COMPOSITED = {"gsplat": _gsplat, "compiled": compiled_rasterizer.composite_compiled, "torch": _torch}


def _form(form: Form, gaussians: Gaussians) -> Form:
    means = gaussians.means
    on_cpu = means.device.type == "cpu" and means.dtype == torch.float32
    possible = {
        "gsplat": means.is_cuda and find_spec("gsplat") is not None,
        "compiled": on_cpu and form != "torch" and compiled_rasterizer.library() is not None,
        "torch": True,
    }
    if form == "auto":
        return next(name for name, can in possible.items() if can)
    if form not in possible:
        raise ValueError(f"form must be one of auto, {', '.join(possible)}, not {form!r}.")
    if not possible[form]:
        needs = {"gsplat": "a CUDA device and the package gsplat", "compiled": "float32 on a CPU, and g++"}[form]
        raise ValueError(f"form must be one that this machine has, not {form!r}, which needs {needs}.")
    return form


def _check(
    gaussians: Gaussians,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near: float,
    offsets: Tensor | None,
) -> None:
    if not (width >= 1 and height >= 1 and width * height <= MAX_PIXELS):
        raise ValueError(f"width and height must make 1 to {MAX_PIXELS} pixels, not {width} x {height}.")
    if not near > 0:
        raise ValueError(f"near must be above 0, not {near}.")
    count = len(viewmats)
    wanted = {"viewmats": (viewmats, (count, 4, 4)), "Ks": (Ks, (count, 3, 3))}
    if offsets is not None:
        wanted["offsets"] = (offsets, (count, len(gaussians), 2))
    for name, (value, shape) in wanted.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must be {list(shape)}, not {list(value.shape)}.")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    if count and bool((Ks[:, 0, 1] != 0).any() or (Ks[:, [0, 1], [0, 1]] <= 0).any()):
        raise ValueError("Ks must hold positive focal lengths and no skew.")
