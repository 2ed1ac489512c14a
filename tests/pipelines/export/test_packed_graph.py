"""A graph whose weights were taken out: with those of the layout put back, it computes the same to the last bit."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import UNet2DConditionModel
from shallow_bitsfusion import CACHED, save_shallow, shallow_bundle

from pocket_diffusers.pipelines.export.packed_graph import take_weights_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_shallow(tmp_path_factory.mktemp("own") / "mine")


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    return shallow_bundle(folder, tmp_path_factory) / "unet.onnx"


@pytest.fixture(scope="module")
def network(folder) -> UNet2DConditionModel:
    return load(folder)


def load(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)


def data_of(layout: dict, network: UNet2DConditionModel) -> bytes:
    """What a reader of the layout puts together."""
    data = bytearray(layout["bytes"])
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for entry in layout["tensors"]:
        if "bits" in entry:
            layer = network.get_submodule(entry["name"])
            assert layer.levels.bits == entry["bits"] and list(layer.weight_shape) == entry["shape"]
            weight = layer.rounded_weight()
            values = weight.T.contiguous() if entry["transposed"] else weight
        else:
            values = tensors[entry["name"]].detach()
            assert values.dtype == (torch.float16 if entry["half"] else torch.float32)
        data[entry["offset"] : entry["offset"] + entry["length"]] = values.numpy().tobytes()
    return bytes(data)


def run(graph: Path) -> np.ndarray:
    random = np.random.default_rng(0)
    inputs = {
        "latents": random.standard_normal((2, 4, 4, 4), np.float32),
        "timestep": np.array([CACHED[0], CACHED[-1]], np.float32),
        "encoder_hidden_states": random.standard_normal((2, 8, 16), np.float32),
    }
    return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_it_computes_the_same_with_the_weights_put_back(whole, network, tmp_path):
    layout = take_weights_out(whole, network, tmp_path / "bare.onnx", "weights")
    (tmp_path / "weights").write_bytes(data_of(layout, network))
    np.testing.assert_array_equal(run(tmp_path / "bare.onnx"), run(whole))
    assert layout["data"] == "weights" and sum(entry["length"] for entry in layout["tensors"]) == layout["bytes"]
    kept = whole.stat().st_size - (tmp_path / "bare.onnx").stat().st_size
    assert 0.9 * layout["bytes"] < kept <= layout["bytes"]
    packed = [name for name, module in network.named_modules() if hasattr(module, "words")]
    assert sorted(entry["name"] for entry in layout["tensors"] if "bits" in entry) == sorted(packed)


def test_nothing_large_stays_inside(whole, network, tmp_path):
    take_weights_out(whole, network, tmp_path / "bare.onnx", "weights")
    inside = [
        int(np.prod(item.dims))
        for item in onnx.load(tmp_path / "bare.onnx", load_external_data=False).graph.initializer
        if item.data_location != onnx.TensorProto.EXTERNAL
    ]
    assert inside and max(inside) <= 64


def test_a_graph_of_other_weights_is_refused(whole, folder, tmp_path):
    other = load(folder)
    other.conv_in.words = other.conv_in.words.flip(0)
    with pytest.raises(
        ValueError, match=r"unet\.onnx must be of the packed weights, but those of conv_in are not in it"
    ):
        take_weights_out(whole, other, tmp_path / "bare.onnx", "weights")
    assert list(tmp_path.iterdir()) == []
