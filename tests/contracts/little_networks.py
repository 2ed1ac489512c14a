"""Networks that export in a moment, for the tests of back ends."""

import torch
from torch import nn

from pocket_diffusers.pipelines.export.back_ends import ExportJob
from pocket_diffusers.pipelines.export.contract import ComponentContract, TensorSpec
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs

PICTURE = TensorSpec("x", ("batch", 8, 6, 6), "float32", None, None, "")
COMPONENT = ComponentContract("net", (PICTURE,), (TensorSpec("y", ("batch", 8, 6, 6), "float32", None, None, ""),), "")


class Net(nn.Module):
    """Two convolutions with a norm between them; the same weights each time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv2d(8, 64, 3, padding=1)
        self.norm = nn.GroupNorm(4, 64)
        self.two = nn.Conv2d(64, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(nn.functional.silu(self.norm(self.one(x))))


class Unheard(nn.Module):
    """An operator that no back end has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def job(network: nn.Module, precision: str) -> ExportJob:
    calibration = [dummy_inputs(COMPONENT, batch=1, seed=seed) for seed in range(4)]
    return ExportJob(network.eval(), COMPONENT, precision, dummy_inputs(COMPONENT), calibration)
