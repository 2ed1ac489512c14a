"""The README of a bundle."""

from dataclasses import replace

import pytest

from pocket_diffusers.pipelines.export.bundle_note import bundle_note
from pocket_diffusers.pipelines.export.contract import ComponentContract, PipelineContract, TensorSpec

X = TensorSpec("x", ("batch", 3), "float32", 0, 1, "how much")
NET = ComponentContract("unet", (X,), (TensorSpec("y", ("batch", 7), "float32", None, None, "which"),), "sorts")
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
    text = bundle_note(CONTRACT, "onnx", "int8", {"unet": RECORD})
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


@pytest.mark.parametrize(
    ("back_end", "most", "words"), [("executorch", 2, "from 1 to 2"), ("coreml", 1, "always 1 here")]
)
def test_limits_and_what_was_not_compared_are_said(back_end, most, words):
    record = {**RECORD, "batch": {"min": 1, "max": most}, "parity": None, "not_run": "no Mac", "latency_ms": None}
    text = bundle_note(CONTRACT, back_end, "fp32", {"unet": {**record, "peak_memory_mb": None}})
    assert words in text and "| not compared: no Mac |  |  |" in text


@pytest.mark.parametrize(
    ("slug", "network", "command"),
    [
        ("ascan", "unet", "`pocket generate ascan --runtime onnx --model THIS_FOLDER`"),
        ("lpgs", "trees", "`pocket render THIS_FOLDER --output frames`"),
        ("lightspeed", "field_0", "`pocket render THIS_FOLDER --output frames`"),
        ("ascan", "classifier", None),
    ],
)
def test_the_command_is_that_of_what_the_bundle_does(slug, network, command):
    component = replace(NET, name=network)
    text = bundle_note(replace(CONTRACT, slug=slug, components=(component,)), "onnx", "fp32", {network: RECORD})
    assert "`pocket " not in text if command is None else command in text


def test_a_pipeline_without_a_scheduler_names_none():
    drawing, looking = (
        bundle_note(replace(CONTRACT, scheduler=scheduler), "onnx", "fp32", {"unet": RECORD})
        for scheduler in ({"class": "Euler"}, {})
    )
    assert "## The scheduler" in drawing and "## The scheduler" not in looking
