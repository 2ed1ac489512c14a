"""ONNX: precisions, sizes, and operators that it does not have."""

import numpy as np
import pytest
import torch
from little_networks import COMPONENT, Net, Unheard, job
from torch import nn

from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs

for package in ("optimum", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="needs the extra 'export'")


@pytest.mark.parametrize(
    ("precision", "difference", "bytes_a_weight"), [("fp32", 1e-6, 4), ("fp16", 2e-3, 2), ("int8", 0.05, 1)]
)
def test_each_precision_computes_the_same_and_weighs_what_it_should(tmp_path, precision, difference, bytes_a_weight):
    network, onnx = Net(), back_end_module("onnx", precision)
    onnx.export(job(network, precision), tmp_path / "net.onnx")
    x = dummy_inputs(COMPONENT, batch=5, seed=9)[0]
    (found,) = onnx.load(tmp_path / "net.onnx", COMPONENT)(x.numpy())
    with torch.no_grad():
        reference = network(x).numpy()
    assert found.dtype == np.float32  # in every precision
    assert np.linalg.norm(found - reference) / np.linalg.norm(reference) < difference
    weights = sum(value.numel() for value in network.parameters())
    assert bytes_a_weight * weights < (tmp_path / "net.onnx").stat().st_size < bytes_a_weight * weights + 20_000
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"], "weights are inside, nothing else stays"


def test_the_file_names_no_place_on_this_disk(tmp_path):
    onnx = back_end_module("onnx")
    onnx.export(job(Net(), "fp32"), tmp_path / "net.onnx")
    content = (tmp_path / "net.onnx").read_bytes()
    assert b".py" not in content and b"/site-packages" not in content


def test_graph_text_names_operators_and_not_weights(tmp_path):
    onnx = back_end_module("onnx")
    texts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        onnx.export(job(Net(), "fp32"), tmp_path / f"{seed}.onnx")
        texts.append(onnx.graph_text(tmp_path / f"{seed}.onnx"))
    assert texts[0] == texts[1] and texts[0].count("Conv ") == 2


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"net cannot be exported to ONNX.*bessel_j0.*executorch"):
        back_end_module("onnx").export(job(Unheard(), "fp32"), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_two_gigabytes_are_refused(tmp_path):
    with torch.device("meta"):
        network = nn.Linear(30_000, 20_000)
    with pytest.raises(ValueError, match=r"net has 2.4 GB of weights, but one ONNX file holds 2 GB"):
        back_end_module("onnx").export(ExportJob(network, COMPONENT, "fp32", (), ()), tmp_path / "net.onnx")


def test_unknown_back_ends_and_precisions_are_refused():
    with pytest.raises(ValueError, match="back end 'tflite' is unknown: use one of onnx, executorch, coreml"):
        back_end_module("tflite")
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, int8 for onnx, not 'int3'"):
        back_end_module("onnx", "int3")
