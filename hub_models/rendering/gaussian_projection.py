"""3D Gaussians as ellipses in a picture (Zwicker et al. 2001, EWA splatting; Kerbl et al. 2023, arXiv 2308.04079)."""

from dataclasses import dataclass, fields
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from . import spherical_harmonics
from .gaussians import Gaussians
from .quaternions import rotation_matrices

MIN_ALPHA = 1 / 255  # what adds less to a pixel is left out, so an ellipse ends where its alpha falls below
BLUR = 0.3  # variance in pixels added to every ellipse, so that none slips between pixel centres
FRUSTUM_MARGIN = 0.15  # of the picture beyond its border: there the affine approximation stops to follow


@dataclass(frozen=True)
class Ellipses:
    """Gaussians in the picture of one camera.

    Attributes:
        means: centres in pixels [ellipses, 2].
        conics: a, b, c of the quadratic form a x^2 + 2 b x y + c y^2, the inverse covariance in pixels [ellipses, 3].
        opacities: alpha at the centre in [0, 1] [ellipses].
        colors: RGB from this camera, at least 0 [ellipses, 3].
        depths: along the camera's z axis [ellipses].
        extents: half the width and height of the box in which alpha reaches MIN_ALPHA [ellipses, 2].
    """

    means: Float[Tensor, "ellipses 2"]
    conics: Float[Tensor, "ellipses 3"]
    opacities: Float[Tensor, " ellipses"]
    colors: Float[Tensor, "ellipses 3"]
    depths: Float[Tensor, " ellipses"]
    extents: Float[Tensor, "ellipses 2"]

    def __len__(self) -> int:
        return len(self.means)

    def select(self, index: Tensor) -> Self:
        """Those of a mask or of indices, in the given order."""
        return type(self)(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def project_gaussians(
    gaussians: Gaussians,
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    near: float,
    antialias: bool,
    offsets: Float[Tensor, "gaussians 2"] | None = None,
) -> Ellipses:
    """The ellipses that touch the picture, in the order of their Gaussians; everything but extents has gradients.

    Args:
        gaussians: in world axes.
        viewmat: world to camera.
        K: intrinsics in pixels.
        width, height: of the picture in pixels.
        near: smallest depth that is drawn.
        antialias: scales opacity by what BLUR adds to the area (Yu et al. 2023, arXiv 2311.16493).
        offsets: added to the centres in pixels; their gradient is that of the centres.
    """
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    points = gaussians.means @ rotation.T + translation  # [N, 3]
    ahead = (points[:, 2] >= near) & (torch.sigmoid(gaussians.opacity_logits) >= MIN_ALPHA)
    index = ahead.nonzero()[:, 0]
    seen, points = gaussians.select(index), points[index]

    a, b, c, det0 = _covariances(seen, points, rotation, K, width, height)
    det = det0 + BLUR * (a + c) + BLUR**2  # of the blurred covariance; a * c - b * b cancels for needles
    opacities = torch.sigmoid(seen.opacity_logits)
    if antialias:
        opacities = opacities * torch.sqrt((det0 / det).clamp_min(1e-12))
    x, y, z = points.unbind(-1)
    means = torch.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], -1)
    if offsets is not None:
        means = means + offsets[index]
    camera = -rotation.T @ translation
    ellipses = Ellipses(
        means,
        torch.stack([(c + BLUR) / det, -b / det, (a + BLUR) / det], -1),
        opacities,
        spherical_harmonics.colors(seen.sh, F.normalize(seen.means - camera, dim=-1)),
        z,
        _extents(opacities.detach(), a.detach(), c.detach()),
    )
    return ellipses.select(_touches(ellipses, width, height))


def _covariances(
    gaussians: Gaussians, points: Tensor, rotation: Tensor, K: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entries a, b, c of each covariance [[a, b], [b, c]] in pixels, and its determinant."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    x, y, z = points.unbind(-1)
    margin_x, margin_y = FRUSTUM_MARGIN * width / fx, FRUSTUM_MARGIN * height / fy
    slope_x = (x / z).clamp(-cx / fx - margin_x, (width - cx) / fx + margin_x)
    slope_y = (y / z).clamp(-cy / fy - margin_y, (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], -1).view(-1, 2, 3)
    axes = rotation_matrices(gaussians.quaternions) * gaussians.log_scales.exp()[:, None]  # R S
    u, v = (jacobian @ rotation @ axes).unbind(1)  # rows of T in covariance T T^t
    return (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1), torch.linalg.cross(u, v).square().sum(-1)


def _extents(opacities: Tensor, a: Tensor, c: Tensor) -> Tensor:
    reach = torch.sqrt(2 * torch.log((opacities / MIN_ALPHA).clamp_min(1)))
    return reach[:, None] * torch.sqrt(torch.stack([a, c], -1) + BLUR)


def _touches(ellipses: Ellipses, width: int, height: int) -> Tensor:
    low, high = ellipses.means - ellipses.extents, ellipses.means + ellipses.extents
    inside = (low[:, 0] < width) & (low[:, 1] < height) & (high >= 0).all(1)  # false for NaN
    return (inside & (ellipses.opacities >= MIN_ALPHA)).nonzero()[:, 0]
