"""Which Gaussians of a scene its pictures need most, and the scene without the others."""

import torch
from jaxtyping import Float
from torch import Tensor

from .gaussian_rasterizer import Form, rasterize_gaussians
from .gaussians import Gaussians
from .spherical_harmonics import SH_C0


def blending_weights(
    gaussians: Gaussians,
    viewmats: Float[Tensor, "cameras 4 4"],
    Ks: Float[Tensor, "cameras 3 3"],
    width: int,
    height: int,
    near: float = 0.01,
    form: Form = "auto",
) -> Float[Tensor, " gaussians"]:
    """Each Gaussian's share of the pictures: the sum over cameras and pixels of its opacity there times the
    transmittance before it, in pixels. Where nothing shows behind, the weights of a pixel sum to its alpha.

    Args:
        gaussians: the scene.
        viewmats, Ks, width, height, near, form: as in `rasterize_gaussians`.

    Raises:
        ValueError: as `rasterize_gaussians`.
    """
    # A picture is linear in the colours, so that its gradient by a Gaussian's colour is the Gaussian's weight.
    colors = torch.zeros_like(gaussians.sh[:, :1]).requires_grad_()
    plain = Gaussians(**{**gaussians.detach().tensors(), "sh": colors})
    weights = torch.zeros_like(gaussians.opacity_logits)
    for viewmat, K in zip(viewmats, Ks, strict=True):
        rendering = rasterize_gaussians(plain, viewmat[None], K[None], width, height, near=near, form=form)
        (gradient,) = torch.autograd.grad(rendering.rgb[:, 0].sum(), colors)
        weights += gradient[:, 0, 0] / SH_C0
    return weights


def prune(gaussians: Gaussians, importance: Float[Tensor, " gaussians"], count: int) -> Gaussians:
    """The `count` most important Gaussians, in their order; of equally important ones the first.

    Raises:
        ValueError: when there are not so many, or not one importance a Gaussian.
    """
    if importance.shape != (len(gaussians),):
        raise ValueError(f"importance must be [{len(gaussians)}], not {list(importance.shape)}.")
    if not 0 <= count <= len(gaussians):
        raise ValueError(f"count must be from 0 to {len(gaussians)}, not {count}.")
    return gaussians.select(importance.argsort(descending=True, stable=True)[:count].sort().values)
