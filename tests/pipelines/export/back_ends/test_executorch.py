"""ExecuTorch: precisions, open batch, and operators that it does not have."""

import numpy as np
import pytest
import torch
from little_networks import COMPONENT, Net, Unheard, job
from torch import nn

from pocket_diffusers.hub_models.layers.relative_attention import RelativeTransformerBlock
from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.contract import ComponentContract, TensorSpec
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs
from pocket_diffusers.pipelines.export.methods import export_of
from pocket_diffusers.pipelines.loading import load_pipeline

for package in ("optimum", "executorch"):
    pytest.importorskip(package, reason="needs the extra 'export'")


@pytest.mark.parametrize(
    ("precision", "difference", "bytes_a_weight"), [("fp32", 1e-5, 4), ("fp16", 5e-3, 4), ("int8", 0.05, 1)]
)
def test_each_precision_computes_the_same_and_weighs_what_it_should(tmp_path, precision, difference, bytes_a_weight):
    network, executorch = Net(), back_end_module("executorch", precision)
    path = tmp_path / "net.pte"
    executorch.export(job(network, precision), path)
    run = executorch.load(path, COMPONENT)
    for batch in (1, 2, 1):
        x = dummy_inputs(COMPONENT, batch=batch, seed=9)[0]
        (found,) = run(x.numpy())
        with torch.no_grad():
            reference = network(x).numpy()
        assert found.dtype == np.float32 and found.shape == reference.shape
        assert np.linalg.norm(found - reference) / np.linalg.norm(reference) < difference
    weights = sum(value.numel() for value in network.parameters())
    assert bytes_a_weight * weights < path.stat().st_size < bytes_a_weight * weights + 20_000


class Shortcut(nn.Module):
    """The first convolution is read by a batch norm and by the shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.fill_(3)
        self.norm.running_var.fill_(9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        return h + self.two(self.norm(h))


def test_int8_keeps_a_shortcut_apart_from_the_batch_norm_beside_it(tmp_path, monkeypatch):
    # torchao looks for what training in eight bits leaves, of which there is nothing: 20 seconds for any batch norm.
    monkeypatch.setattr("torchao.quantization.pt2e.quantize_pt2e._fold_conv_bn_qat", lambda graph: graph)
    torch.manual_seed(0)
    network, executorch = Shortcut(), back_end_module("executorch", "int8")
    executorch.export(job(network, "int8"), tmp_path / "net.pte")
    (x,) = dummy_inputs(COMPONENT, batch=1, seed=9)
    (found,) = executorch.load(tmp_path / "net.pte", COMPONENT)(x.numpy())
    reference = network(x).detach().numpy()
    assert np.linalg.norm(found - reference) / np.linalg.norm(reference) < 0.05


def test_int8_keeps_attention_with_a_relative_position_bias(tmp_path):
    torch.manual_seed(0)
    network, executorch = RelativeTransformerBlock(8, 8, grid=(6, 6), head_dim=4), back_end_module("executorch", "int8")
    torch.nn.init.normal_(network.bias.table)
    executorch.export(job(network, "int8"), tmp_path / "net.pte")
    (x,) = dummy_inputs(COMPONENT, batch=1, seed=9)
    (found,) = executorch.load(tmp_path / "net.pte", COMPONENT)(x.numpy())
    with torch.no_grad():
        reference = network(x).numpy()
    assert np.linalg.norm(found - reference) / np.linalg.norm(reference) < 0.05


class Rows(nn.Module):
    """Rows of a table, their numbers reckoned from others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.mix = nn.Parameter(torch.randn(20, 8)), nn.Linear(8, 8)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return self.mix(self.table[2 + 3 * index.long()])


def test_int8_leaves_indices_alone(tmp_path):
    network, executorch = Rows().eval(), back_end_module("executorch", "int8")
    index = TensorSpec("index", ("batch",), "int32", 0, 5, "")
    component = ComponentContract("rows", (index,), (TensorSpec("y", ("batch", 8), "float32", None, None, ""),), "")
    calibration = [(torch.tensor([value], dtype=torch.int32),) for value in range(6)]
    job = ExportJob(network, component, "int8", dummy_inputs(component), calibration)
    executorch.export(job, tmp_path / "rows.pte")
    run = executorch.load(tmp_path / "rows.pte", component)
    with torch.no_grad():
        for value in range(6):
            reference = network.mix(network.table[[2, 5, 8, 11, 14, 17][value]]).numpy()
            (found,) = run(np.array([value], np.int32))
            assert np.linalg.norm(found[0] - reference) / np.linalg.norm(reference) < 0.05


class Twice(Net):
    """Two outputs, as a detector's feature maps."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.one(x)
        return self.two(h), h


def test_half_precision_takes_a_network_with_several_outputs(tmp_path):
    torch.manual_seed(0)
    network, executorch = Twice(), back_end_module("executorch", "fp16")
    executorch.export(job(network, "fp16"), tmp_path / "net.pte")
    (x,) = dummy_inputs(COMPONENT, batch=2, seed=9)
    found = executorch.load(tmp_path / "net.pte", COMPONENT)(x.numpy())
    with torch.no_grad():
        references = [output.numpy() for output in network.eval()(x)]
    assert [output.dtype for output in found] == [np.float32, np.float32]
    for output, reference in zip(found, references, strict=True):
        assert np.linalg.norm(output - reference) / np.linalg.norm(reference) < 5e-3


def test_results_outlive_the_next_call(tmp_path):
    network, executorch = Net(), back_end_module("executorch")
    executorch.export(job(network, "fp32"), tmp_path / "net.pte")
    run = executorch.load(tmp_path / "net.pte", COMPONENT)
    first = run(dummy_inputs(COMPONENT, batch=1, seed=1)[0].numpy())[0]
    kept = first.copy()
    run(dummy_inputs(COMPONENT, batch=1, seed=2)[0].numpy())
    assert np.array_equal(first, kept)
    text = executorch.graph_text(tmp_path / "net.pte")
    assert "XnnpackBackend" in text and "aten::native_group_norm.out" in text


def test_an_operator_that_executorch_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"net cannot be exported to ExecuTorch.*bessel_j0.*onnx"):
        back_end_module("executorch").export(job(Unheard(), "fp32"), tmp_path / "net.pte")
    assert not list(tmp_path.iterdir())


def test_a_trained_decoder_turns_latents_into_the_same_pictures(tmp_path):
    pipeline, executorch = load_pipeline("snapgen", "snapgen-nano", on_cpu=True), back_end_module("executorch")
    export = export_of(pipeline)
    component, network = export.contract(pipeline).component("vae_decoder"), export.modules(pipeline)["vae_decoder"]
    executorch.export(ExportJob(network, component, "fp32", dummy_inputs(component), ()), tmp_path / "net.pte")
    run = executorch.load(tmp_path / "net.pte", component)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    drawn = {"num_inference_steps": 4, "generator": seeds, "output_type": "latent"}
    latents = pipeline(["a red cube", "two blue spheres"], **drawn).images
    for batch in (latents, latents[1:]):
        with torch.no_grad():
            wanted = network(batch).numpy()
        (found,) = run(batch.numpy())
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert found.shape[1:] == (3, 64, 64) and found.std() > 0.1, "a blank picture would prove nothing"
