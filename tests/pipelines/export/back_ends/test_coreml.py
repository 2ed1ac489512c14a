"""Core ML: what is converted, as far as a machine without macOS can tell."""

import json
import platform

import pytest
import torch
from little_networks import COMPONENT, Unheard
from torch import nn

from pocket_diffusers.hub_models.layers.relative_attention import RelativeTransformerBlock
from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs

for package in ("optimum", "coremltools"):
    pytest.importorskip(package, reason="needs the extra 'export'")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 8, 3, padding=1)).eval()


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
    assert list(given.type.multiArrayType.shape) == [1, 8, 6, 6]
    assert coreml.graph_text(path).count("conv ->") == 2


def test_attention_with_a_relative_position_bias_converts_in_int8(tmp_path):
    coreml, network = back_end_module("coreml", "int8"), RelativeTransformerBlock(8, 8, grid=(6, 6), head_dim=4).eval()
    coreml.export(ExportJob(network, COMPONENT, "int8", dummy_inputs(COMPONENT), ()), tmp_path / "net.mlpackage")
    assert coreml.graph_text(tmp_path / "net.mlpackage").count("linear ->") == 5


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
def test_without_macos_it_says_so():
    assert back_end_module("coreml").can_run() == "Core ML runs on macOS only"


def test_a_whole_model_converts(folder, tmp_path):
    """Its group norms, attention and `alias` are what the converter stumbles over when a batch is left open."""
    import coremltools

    bundle = export_pipeline("snapgen", str(folder), "coreml", "fp32", tmp_path / "bundle")
    contract = json.loads((bundle / "contract.json").read_text())
    for component in contract["components"]:
        record = json.loads((bundle / f"{component['name']}.json").read_text())
        if platform.system() == "Darwin":
            assert record["parity"]["max_abs"] <= 1e-4 * max(1, record["parity"]["largest"])
        else:
            assert record["parity"] is None and record["not_run"] == "Core ML runs on macOS only"
        assert record["batch"] == {"min": 1, "max": 1}
        description = coremltools.utils.load_spec(str(bundle / record["file"])).description
        found = {given.name: list(given.type.multiArrayType.shape) for given in description.input}
        assert found == {spec["name"]: [1, *spec["shape"][1:]] for spec in component["inputs"]}
        assert [made.name for made in description.output] == [spec["name"] for spec in component["outputs"]]
    note = (bundle / "README.md").read_text()
    assert note.count("not compared: Core ML runs on macOS only") == (0 if platform.system() == "Darwin" else 3)


def test_an_operator_that_core_ml_lacks_is_named(tmp_path):
    job = ExportJob(Unheard(), COMPONENT, "fp32", dummy_inputs(COMPONENT), ())
    with pytest.raises(ValueError, match=r"net cannot be exported to Core ML.*bessel_j0.*onnx"):
        back_end_module("coreml").export(job, tmp_path / "net.mlpackage")
    assert not list(tmp_path.iterdir())
