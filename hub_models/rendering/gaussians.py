"""Plain 3D Gaussian splats: what every splat method makes, every splat file holds and the rasteriser renders."""

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from .spherical_harmonics import SH_C0, num_coefficients

DEGREES = {num_coefficients(degree): degree for degree in range(4)}


@dataclass(frozen=True)
class Gaussians:
    """A cloud of anisotropic Gaussians with opacity and view-dependent colour (Kerbl et al. 2023, arXiv 2308.04079).

    Values are those of a 3DGS PLY file, before activation, in OpenCV axes (x right, y down, z forward).

    Attributes:
        means: centres in scene units [gaussians, 3].
        log_scales: natural logarithms of the standard deviations along the Gaussian's own axes [gaussians, 3].
        quaternions: rotations w x y z from the Gaussian's axes to the scene's, of any length but 0 [gaussians, 4].
        opacity_logits: opacities before the sigmoid [gaussians].
        sh: spherical harmonics of red, green and blue, degree 0 first [gaussians, 1, 4, 9 or 16, 3].

    Raises:
        ValueError: for a wrong shape, naming the attribute.
    """

    means: Float[Tensor, "gaussians 3"]
    log_scales: Float[Tensor, "gaussians 3"]
    quaternions: Float[Tensor, "gaussians 4"]
    opacity_logits: Float[Tensor, " gaussians"]
    sh: Float[Tensor, "gaussians coefficients 3"]

    def __post_init__(self) -> None:
        count = len(self.means)
        wanted = {
            "means": (count, 3),
            "log_scales": (count, 3),
            "quaternions": (count, 4),
            "opacity_logits": (count,),
            "sh": (count, *self.sh.shape[1:2], 3),
        }
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} must be {list(shape)}, not {list(getattr(self, name).shape)}.")
        if self.sh.shape[1] not in DEGREES:
            raise ValueError(f"sh must hold 1, 4, 9 or 16 coefficients a channel, not {self.sh.shape[1]}.")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """0 to 3."""
        return DEGREES[self.sh.shape[1]]

    @property
    def rgb(self) -> Float[Tensor, "gaussians 3"]:
        """Colour without its dependence on the view, about [0, 1]."""
        return 0.5 + SH_C0 * self.sh[:, 0]

    def tensors(self) -> dict[str, Tensor]:
        """Attribute name -> tensor."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def select(self, index: Tensor | slice) -> Self:
        """Those of the given indices or mask, in the given order."""
        return type(self)(**{name: value[index] for name, value in self.tensors().items()})

    def to(self, device: torch.device | str) -> Self:
        """The same Gaussians on another device."""
        return type(self)(**{name: value.to(device) for name, value in self.tensors().items()})

    def detach(self) -> Self:
        """The same values without a gradient."""
        return type(self)(**{name: value.detach() for name, value in self.tensors().items()})

    def with_sh_degree(self, degree: int) -> Self:
        """The same Gaussians with higher degrees dropped, or added as zeros."""
        wanted = num_coefficients(degree)
        missing = self.sh.new_zeros(len(self), max(0, wanted - self.sh.shape[1]), 3)
        return type(self)(**{**self.tensors(), "sh": torch.cat([self.sh[:, :wanted], missing], 1)})

    def check_finite(self) -> Self:
        """Itself.

        Raises:
            ValueError: when a value is NaN or infinite, naming attribute and Gaussian.
        """
        for name, value in self.tensors().items():
            finite = torch.isfinite(value).reshape(len(self), math.prod(value.shape[1:])).all(1)
            if not finite.all():
                raise ValueError(
                    f"{name} must be finite, but Gaussian {int((~finite).nonzero()[0])} holds {name} "
                    f"{value[~finite][0].flatten().tolist()[:4]}."
                )
        return self

    @classmethod
    def concatenate(cls, parts: "list[Gaussians]") -> Self:
        """All Gaussians of `parts`, which have one SH degree, in order."""
        return cls(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()})
