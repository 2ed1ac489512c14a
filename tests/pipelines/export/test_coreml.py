"""Core ML: what is converted, as far as a machine without macOS can tell."""

import platform

import pytest
import torch
from torch import nn

from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.contract import ComponentContract, TensorSpec
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs

for package in ("optimum", "coremltools"):
    pytest.importorskip(package, reason="needs the extra 'export'")

PICTURE = TensorSpec("x", ("batch", 8, 6, 6), "float32", None, None, "")
COMPONENT = ComponentContract("net", (PICTURE,), (TensorSpec("y", ("batch", 8, 6, 6), "float32", None, None, ""),), "")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 8, 3, padding=1)).eval()


class Unheard(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(("precision", "bytes_a_weight"), [("fp32", 4), ("fp16", 2), ("int8", 1)])
def test_each_precision_weighs_what_it_should(tmp_path, precision, bytes_a_weight):
    import coremltools

    coreml, network = back_end_module("coreml", precision), net()
    path = tmp_path / "net.mlpackage"
    coreml.export(ExportJob(network, COMPONENT, precision, dummy_inputs(COMPONENT), ()), path)
    weights = sum(value.numel() for value in network.parameters())
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert bytes_a_weight * weights < size < bytes_a_weight * weights + 20_000
    description = coremltools.utils.load_spec(str(path)).description
    (given,), (made,) = description.input, description.output
    assert (given.name, made.name) == ("x", "y")
    limits = given.type.multiArrayType.shapeRange.sizeRanges
    assert [(limit.lowerBound, limit.upperBound) for limit in limits] == [(1, 2), (8, 8), (6, 6), (6, 6)]
    assert coreml.graph_text(path).count("conv ->") == 2


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
def test_without_macos_it_says_so():
    assert back_end_module("coreml").can_run() == "Core ML runs on macOS only"


def test_an_operator_that_core_ml_lacks_is_named(tmp_path):
    job = ExportJob(Unheard(), COMPONENT, "fp32", dummy_inputs(COMPONENT), ())
    with pytest.raises(ValueError, match=r"net cannot be exported to Core ML.*bessel_j0.*onnx"):
        back_end_module("coreml").export(job, tmp_path / "net.mlpackage")
    assert not list(tmp_path.iterdir())
