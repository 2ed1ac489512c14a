"""What the export of every pipeline of `METHODS` promises, on tiny real components."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib import import_module

import numpy as np
import pytest
import torch
from contract_cases import noise_levels
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from pocket_diffusers.hub_models.layers.low_bit import LowBitLayer
from pocket_diffusers.pipelines import METHODS, pipeline_class
from pocket_diffusers.pipelines.export.back_ends import artefact
from pocket_diffusers.pipelines.export.contract import CONTRACT, PipelineContract
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs
from pocket_diffusers.pipelines.export.methods import export_behind, export_of, method_exports
from pocket_diffusers.pipelines.export.methods.latents import LatentExport
from pocket_diffusers.pipelines.export.rehearsal import CALIBRATION_ROWS, RehearsedRows, rehearse
from pocket_diffusers.pipelines.export.runtime import LIBRARIES, load_bundle
from pocket_diffusers.pipelines.export.samplers.flow_match_euler import FlowMatchEuler

TASKS = [(slug, task) for slug in METHODS for task in METHODS[slug]]
LATENT = [
    (slug, task) for slug, task in TASKS if isinstance(method_exports(slug)[pipeline_class(slug, task)], LatentExport)
]
EVERY_PIPELINE = pytest.mark.parametrize(("slug", "task"), TASKS)
FLOWS = [
    (slug, task)
    for slug, task in LATENT
    if isinstance(method_exports(slug)[pipeline_class(slug, task)].sampler, FlowMatchEuler)
]
EVERY_SAMPLER = pytest.mark.parametrize(("slug", "task"), LATENT)
EVERY_FLOW = pytest.mark.parametrize(("slug", "task"), FLOWS)


def made(slug: str, task: str) -> DiffusionPipeline:
    pipeline = import_module(f"tiny_{slug}").PIPELINES[task].make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def shared(slug: str, task: str) -> DiffusionPipeline:
    """A pipeline that tests leave as it was."""
    return made(slug, task)


def contract_of(pipeline: DiffusionPipeline) -> PipelineContract:
    return export_of(pipeline).contract(pipeline)


def tensors(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def runner(network: nn.Module) -> Callable[..., tuple[Tensor, ...]]:
    return lambda *given: tensors(network(*given))


def is_packed(module: nn.Module) -> bool:
    return isinstance(module, LowBitLayer) and module.levels is not None and module.is_frozen


def parts_of(pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


@pytest.mark.parametrize("slug", METHODS)
def test_every_pipeline_has_an_export_and_contracts_tell_which(slug):
    exports = method_exports(slug)
    assert set(exports) == {pipeline_class(slug, task) for task in METHODS[slug]}
    for task in METHODS[slug]:
        pipeline = shared(slug, task)
        assert export_of(pipeline) is export_behind(contract_of(pipeline)) is exports[type(pipeline)]


def test_a_class_that_inherits_is_exported_as_its_parent(monkeypatch):
    slug, task = TASKS[0]
    pipeline = made(slug, task)
    pipeline.__class__ = type("Mine", (type(pipeline),), {})
    assert export_of(pipeline) is method_exports(slug)[pipeline_class(slug, task)]
    monkeypatch.setitem(METHODS, slug, {})
    with pytest.raises(ValueError, match="Mine has no export"):
        export_of(pipeline)


def test_unknown_methods_and_methods_without_exports(monkeypatch):
    with pytest.raises(ValueError, match=r"method 'snapgem' is unknown: .*nearest: 'snapgen'"):
        method_exports("snapgem")
    monkeypatch.setitem(METHODS, "eleventh", {"text-to-image": "pipeline_eleventh:EleventhPipeline"})
    with pytest.raises(
        ValueError, match=r"eleventh has no exports yet: pipelines/export/methods/export_eleventh\.py is missing"
    ):
        method_exports("eleventh")


@EVERY_PIPELINE
def test_a_contract_is_whole(slug, task):
    pipeline = shared(slug, task)
    contract = contract_of(pipeline)
    assert contract.slug == slug and set(contract.configs) >= {"pipeline"} and contract.constants
    assert [component.name for component in contract.components] == list(export_of(pipeline).modules(pipeline))
    for component in contract.components:
        assert f"{component.name}(" in contract.loop, "the loop calls every network"
        assert component.purpose and component.inputs and component.outputs
        for spec in (*component.inputs, *component.outputs):
            assert spec.shape[0] == "batch" and all(isinstance(size, int) for size in spec.shape[1:]) and spec.meaning
            assert spec.dtype == "float32" or (spec.dtype == "int32" and spec.low == 0 < spec.high)
            assert spec.low is None or spec.low < spec.high
    for name, (library, kind) in contract.parts.items():
        assert library in LIBRARIES and kind.isidentifier() and hasattr(getattr(pipeline, name), "save_pretrained")
    assert bool(contract.scheduler) == ("scheduler" in contract.parts)


@EVERY_PIPELINE
def test_a_contract_survives_json(slug, task):
    contract = contract_of(shared(slug, task))
    text = json.dumps(contract.to_record(), allow_nan=False)
    again = PipelineContract.from_record(json.loads(text))
    assert again.to_record() == contract.to_record() and again.components == contract.components


@EVERY_PIPELINE
def test_networks_take_and_make_what_the_contract_says(slug, task):
    pipeline = shared(slug, task)
    networks = export_of(pipeline).modules(pipeline)
    for component in contract_of(pipeline).components:
        network = networks[component.name]
        assert not network.training
        with torch.no_grad():
            outputs = tensors(network(*dummy_inputs(component, batch=5)))
        for spec, output in zip(component.outputs, outputs, strict=True):
            assert tuple(output.shape) == (5, *spec.shape[1:]) and str(output.dtype) == f"torch.{spec.dtype}"
            assert output.isfinite().all()


@EVERY_PIPELINE
def test_networks_share_the_weights_and_leave_the_pipeline_as_it_was(slug, task):
    pipeline = shared(slug, task)
    own = {id(tensor) for part in parts_of(pipeline).values() for tensor in part.parameters()}

    def forms() -> list[str]:
        parts = parts_of(pipeline).values()
        return [module.form for part in parts for module in part.modules() if hasattr(module, "form")]

    before = forms()
    packed = [module for part in parts_of(pipeline).values() for module in part.modules() if is_packed(module)]
    networks = export_of(pipeline).modules(pipeline)
    decoded = {id(tensor) for network in networks.values() for tensor in network.parameters()} - own
    assert len(decoded) == len(packed), "nothing else is a copy"
    for network in networks.values():
        assert "fused" not in {module.form for module in network.modules() if hasattr(module, "form")}
    has_forms = any(hasattr(part, "set_attention_form") for part in parts_of(pipeline).values())
    assert forms() == before and set(before) == ({"fused"} if has_forms else set())


@EVERY_PIPELINE
def test_the_original_networks_behind_the_contract_do_the_same(slug, task):
    pipeline = shared(slug, task)
    export, promised = export_of(pipeline), PipelineContract.from_record(contract_of(pipeline).to_record())
    runners = {name: runner(network) for name, network in export.modules(pipeline).items()}
    again = export.assemble(promised, runners, {name: getattr(pipeline, name) for name in promised.parts})
    again.set_progress_bar_config(disable=True)
    with torch.no_grad():
        result = export.rehearse(again, range(6))
    assert type(again) is type(pipeline) and not [p for part in parts_of(again).values() for p in part.parameters()]
    np.testing.assert_allclose(result, export.rehearse(pipeline, range(6)), atol=1e-5, rtol=1e-5)
    assert len(result) == 6 and result.std() > 1e-3, "a blank result would prove nothing"


@EVERY_PIPELINE
def test_a_sample_of_a_rehearsal_is_the_same_whatever_the_others_are(slug, task):
    pipeline = shared(slug, task)
    export = export_of(pipeline)
    alone, among = export.rehearse(pipeline, range(4, 5)), export.rehearse(pipeline, range(2, 6))
    np.testing.assert_allclose(alone[0], among[2], atol=1e-5)


def calibrated(pipeline: DiffusionPipeline) -> dict[str, RehearsedRows]:
    export = export_of(pipeline)
    return rehearse(export, pipeline, export.contract(pipeline), export.modules(pipeline), calibrated=True)


@EVERY_PIPELINE
def test_every_component_is_calibrated_on_enough_different_inputs(slug, task):
    pipeline = shared(slug, task)
    found = calibrated(pipeline)
    assert list(found) == [component.name for component in contract_of(pipeline).components]
    for rows in found.values():
        taken = {tuple(tensor.numpy().tobytes() for tensor in row) for row in rows.calibration}
        compared = {tuple(tensor.numpy().tobytes() for tensor in row) for row in rows.trials}
        assert len(taken) == len(rows.calibration) >= CALIBRATION_ROWS == 64
        assert len(compared) == len(rows.trials) >= 32 and not taken & compared


@EVERY_PIPELINE
def test_too_few_inputs_to_calibrate_on_are_refused(slug, task, monkeypatch):
    pipeline = shared(slug, task)
    kind = type(export_of(pipeline))
    of_samples = kind.rehearse
    monkeypatch.setattr(kind, "rehearse", lambda self, pipeline, samples: of_samples(self, pipeline, range(5)))
    with pytest.raises(ValueError, match=r"needs 64 different inputs .* int8 from, but the rehearsal gave it \d\d?\."):
        calibrated(pipeline)


@EVERY_PIPELINE
def test_a_damaged_or_foreign_bundle_is_refused(slug, task, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    pipeline = shared(slug, task)
    contract = contract_of(pipeline)

    def write(record: dict) -> None:
        (tmp_path / CONTRACT).write_text(json.dumps(record))

    write(contract.to_record())
    with pytest.raises(FileNotFoundError, match=f"lacks the file of its component '{contract.components[0].name}'"):
        load_bundle(tmp_path)
    for component in contract.components:
        artefact(tmp_path, "onnx", component.name).write_bytes(b"no network")
        (tmp_path / f"{component.name}.json").write_text(json.dumps({"sha256": sha256(b"no network").hexdigest()}))
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=f"is an export of {slug}, not of another"):
        load_bundle(tmp_path, slug="another")
    with pytest.raises(ValueError, match=r"\.onnx cannot be loaded by onnx"):
        load_bundle(tmp_path)
    artefact(tmp_path, "onnx", component.name).write_bytes(b"no netwerk")
    with pytest.raises(ValueError, match=rf"{component.name}\.onnx was changed or damaged after its export"):
        load_bundle(tmp_path)
    with pytest.raises(ValueError, match="contract.json cannot be read: the contract is damaged"):
        write({key: value for key, value in contract.to_record().items() if key != "loop"})
        load_bundle(tmp_path)
    foreign = replace(contract.components[0], name="oracle")
    with pytest.raises(ValueError, match=f"the contract is none of {slug}'s: its components are oracle"):
        export_behind(replace(contract, components=(foreign,)))


# Pipelines that denoise latents


@EVERY_FLOW
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_rule_for_noise_levels_is_the_scheduler_s(slug, task, shift):
    pipeline, scheduler = made(slug, task), FlowMatchEulerDiscreteScheduler(shift=shift)
    pipeline.register_modules(scheduler=scheduler)
    record = contract_of(pipeline).scheduler
    for steps in (1, 2, 7):
        scheduler.set_timesteps(steps)
        levels = noise_levels(record, steps)
        np.testing.assert_allclose([*levels, 0], scheduler.sigmas, atol=1e-6)
        np.testing.assert_allclose(1000 * np.array(levels), scheduler.timesteps, rtol=1e-5)
    steps = contract_of(pipeline).constants["num_inference_steps"]
    assert record["example"]["steps"] == steps
    np.testing.assert_allclose([*noise_levels(record, steps), 0], record["example"]["sigmas"], atol=2e-6)


@EVERY_FLOW
def test_levels_of_another_kind_get_no_rule_but_an_example(slug, task):
    pipeline = made(slug, task)
    pipeline.register_modules(scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True))
    record = contract_of(pipeline).scheduler
    assert record["formula"] is record["shift"] is record["lowest"] is None
    assert len(record["example"]["sigmas"]) == record["example"]["steps"] + 1


@EVERY_FLOW
@pytest.mark.parametrize(
    ("scheduler", "sentence"),
    [
        (DDIMScheduler(), "the scheduler is DDIMScheduler, but an export knows only"),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "stochastic_sampling=True"),
    ],
    ids=["DDIM", "stochastic"],
)
def test_schedulers_with_other_steps_are_refused(slug, task, scheduler, sentence):
    pipeline = made(slug, task)
    pipeline.register_modules(scheduler=scheduler)
    with pytest.raises(ValueError, match=sentence):
        contract_of(pipeline)


@EVERY_SAMPLER
def test_a_rehearsal_is_of_the_default_size_in_four_steps_with_guidance(slug, task):
    pipeline, steps = made(slug, task), []
    unet = pipeline.unet.forward
    pipeline.unet.forward = lambda sample, *given, **named: (steps.append(len(sample)), unet(sample, *given, **named))[
        1
    ]
    pictures = export_of(pipeline).rehearse(pipeline, range(6))
    contract = contract_of(pipeline)
    assert pictures.shape == (6, contract.constants["height"], contract.constants["width"], 3)
    assert pictures.min() >= 0 and pictures.max() <= 1 and steps == [12] * 4
