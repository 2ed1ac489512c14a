"""Measuring in a process of its own."""

import numpy as np
import pytest

from pocket_diffusers.pipelines.export.contract import read_contract
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs
from pocket_diffusers.pipelines.export.measurement import measure


def test_memory_is_the_component_s_not_the_caller_s(onnx_bundle, tmp_path):
    component = read_contract(onnx_bundle).component("vae_decoder")
    np.savez(tmp_path / "inputs.npz", latents=dummy_inputs(component, batch=1)[0].numpy())
    ballast = np.ones(60_000_000)  # 480 MB here, which must not show there
    found = measure(onnx_bundle, "onnx", "vae_decoder", tmp_path / "inputs.npz")
    assert found["latency_ms"] > 0 and found["threads"] == 1
    if found["peak_memory_mb"] is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert found["runtime_memory_mb"] <= found["peak_memory_mb"] < ballast.nbytes / 1e6


def test_a_process_that_fails_says_why(onnx_bundle, tmp_path):
    with pytest.raises(OSError, match=r"vae_decoder could not be measured.*No such file"):
        measure(onnx_bundle, "onnx", "vae_decoder", tmp_path / "nothing.npz")
