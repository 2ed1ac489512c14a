"""What is timed of the rasteriser: its torch form and its compiled one, of a real scene and of random clouds."""

import torch

from ....hub_models.rendering.gaussian_rasterizer import Form, rasterize_gaussians
from ....hub_models.rendering.gaussians import Gaussians
from ....pipelines.scene_cameras import turntable
from ...timing.contender_process import Work
from .scenes import BIKER

# Of `BIKER`: typical size of a Gaussian in radii of the scene, how far logarithms of sizes spread, typical opacity.
CLOUD_SIZE, CLOUD_SPREAD, CLOUD_OPACITY_LOGIT = 0.0018, 1.5, -1.6


def build_scene(form: Form, backward: bool, side: int) -> Work:
    """A picture of the biker from a camera that sees all of it; with `backward`, the gradients of its sum too."""
    return rendering_work(BIKER.read(), form, backward, side)


def build_cloud(form: Form, count: int, side: int) -> Work:
    """A picture of a random cloud, without gradients."""
    return rendering_work(random_cloud(count), form, False, side)


def rendering_work(gaussians: Gaussians, form: Form, backward: bool, side: int) -> Work:
    """A call that draws `side` x `side` pixels; with `backward`, it differentiates their sum by every attribute."""
    camera = turntable(gaussians, 1, side, side)
    drawing = (camera.viewmats, camera.Ks, side, side)
    attributes = {name: value.clone().requires_grad_(backward) for name, value in gaussians.tensors().items()}

    def call() -> None:
        drawn = rasterize_gaussians(Gaussians(**attributes), *drawing, near=camera.near, form=form)
        if backward:
            torch.autograd.grad(drawn.rgb.sum(), list(attributes.values()))

    return Work(call, {"gaussians": len(gaussians)})


def random_cloud(count: int, seed: int = 0) -> Gaussians:
    """So many Gaussians in a ball of radius 1, of sizes and opacities as the biker has them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    radii = torch.rand(count, 1, generator=generator) ** (1 / 3)
    return Gaussians(
        means=torch.nn.functional.normalize(normal(count, 3), dim=1) * radii,
        log_scales=torch.tensor(CLOUD_SIZE).log() + CLOUD_SPREAD * normal(count, 3),
        quaternions=normal(count, 4),
        opacity_logits=CLOUD_OPACITY_LOGIT + 1.5 * normal(count),
        sh=normal(count, 1, 3),
    )
