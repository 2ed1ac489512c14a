"""The README of a bundle."""

import pytest

from pocket_diffusers.pipelines.export.bundle_note import bundle_note
from pocket_diffusers.pipelines.export.contract import ComponentContract, PipelineContract, TensorSpec

X = TensorSpec("x", ("batch", 3), "float32", 0, 1, "how much")
NET = ComponentContract("net", (X,), (TensorSpec("y", ("batch", 7), "float32", None, None, "which"),), "sorts")
CONTRACT = PipelineContract("snapgen", (NET,), {"class": "Euler"}, "y = net(x)\n", {"steps": 3})
RECORD = {
    "file": "net.onnx",
    "bytes": 1_500_000,
    "batch": {"min": 1, "max": None},
    "parity": {"max_abs": 0.25, "relative": 0.031},
    "not_run": None,
    "latency_ms": 2.04,
    "peak_memory_mb": 50.0,
}


def test_it_names_tensors_costs_and_the_loop():
    text = bundle_note(CONTRACT, "onnx", "int8", {"net": RECORD})
    for words in (
        "# snapgen, exported to onnx (int8)",
        "| `net.onnx` | 1.50 | 0.2 (3.1 %) | 2.0 ms | 50 MB |",
        "| in | `x` | batch x 3 | float32 | 0 to 1 | how much |",
        "| out | `y` | batch x 7 | float32 | any | which |",
        "```\ny = net(x)\n```",
        "| `steps` | 3 |",
        "from 1 up",
    ):
        assert words in text


@pytest.mark.parametrize("back_end", ["executorch", "coreml"])
def test_limits_and_what_was_not_compared_are_said(back_end):
    record = {**RECORD, "batch": {"min": 1, "max": 2}, "parity": None, "not_run": "no Mac", "latency_ms": None}
    text = bundle_note(CONTRACT, back_end, "fp32", {"net": {**record, "peak_memory_mb": None}})
    assert "from 1 to 2" in text and "| not compared: no Mac |  |  |" in text
