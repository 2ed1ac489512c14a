"""SnapGen's contract, compared with what the pipeline itself does."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from pocket_diffusers.pipelines.export.contract import PipelineContract
from pocket_diffusers.pipelines.export.methods.export_snapgen import assemble, contract, modules, rehearse
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline


def make(components, encoders: str = "l", **replaced) -> SnapGenPipeline:
    pipeline = SnapGenPipeline(**{**components(encoders), **replaced})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def eager_runners(pipeline) -> dict:
    def runner(network):
        return lambda *tensors: (network(*tensors),)

    return {name: runner(network) for name, network in modules(pipeline).items()}


@pytest.mark.parametrize("encoders", ["l", "g", "3", "lg", "l3", "g3", "lg3"])
def test_the_original_networks_behind_the_contract_make_the_same_pictures(components, encoders):
    pipeline = make(components, encoders)
    promised = PipelineContract.from_record(contract(pipeline).to_record())  # as an app reads it
    parts = {name: getattr(pipeline, name) for name in promised.parts}
    with torch.no_grad():
        again = rehearse(assemble(promised, eager_runners(pipeline), parts))
    np.testing.assert_allclose(again, rehearse(pipeline), atol=1e-6)


@pytest.mark.parametrize("encoders", ["l", "lg3"])
def test_networks_take_and_make_what_the_contract_says(components, encoders):
    pipeline = make(components, encoders)
    promised, networks = contract(pipeline), modules(pipeline)
    names = {"l": "text_encoder", "g": "text_encoder_2", "3": "text_encoder_3"}
    assert list(networks) == [*(names[one] for one in encoders), "unet", "vae_decoder"]
    assert [component.name for component in promised.components] == list(networks)
    for component in promised.components:
        inputs = []
        for spec in component.inputs:
            shape = [5 if size == "batch" else size for size in spec.shape]
            inputs.append(torch.ones(shape, dtype=getattr(torch, spec.dtype)))
        with torch.no_grad():
            output = networks[component.name](*inputs)
        (spec,) = component.outputs
        assert tuple(output.shape) == tuple(5 if size == "batch" else size for size in spec.shape)
        assert str(output.dtype) == f"torch.{spec.dtype}"


def test_networks_share_the_weights_and_leave_the_pipeline_as_it_was(components):
    pipeline = make(components, "lg3")
    forms = [module.form for module in pipeline.unet.modules() if hasattr(module, "form")]
    own = {
        id(tensor)
        for part in pipeline.components.values()
        if hasattr(part, "parameters")
        for tensor in part.parameters()
    }
    for network in modules(pipeline).values():
        assert {id(tensor) for tensor in network.parameters()} <= own
    assert forms == [module.form for module in pipeline.unet.modules() if hasattr(module, "form")] and "fused" in forms


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=1.0),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"),
    ],
    ids=["plain", "shifted", "dynamic", "linear"],
)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_rule_for_noise_levels_is_the_scheduler_s(components, scheduler, steps):
    pipeline = make(components, scheduler=scheduler)
    record = contract(pipeline).scheduler
    rule = record["formula"].split(" with ")[0].partition("= ")[2]
    levels = []
    for i in range(steps):
        u = 1.0 if steps == 1 else 1 + (record["lowest"] - 1) * i / (steps - 1)
        levels.append(eval(rule, {"shift": record["shift"], "u": u}))
    truth = pipeline._scheduled(steps, None, (4, 4))
    np.testing.assert_allclose([*levels, 0], truth.sigmas, atol=1e-6)
    np.testing.assert_allclose(1000 * np.array(levels), truth.timesteps, rtol=1e-5)


def test_levels_of_another_kind_get_no_rule_but_an_example(components):
    record = contract(make(components, scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True))).scheduler
    assert record["formula"] is None and len(record["example"]["sigmas"]) == record["example"]["steps"] + 1


def test_pipelines_that_cannot_be_exported_say_why(components):
    with pytest.raises(ValueError, match="no text encoder: an export needs at least one"):
        contract(make(components, ""))
    with pytest.raises(ValueError, match="the scheduler is DDIMScheduler, but an export knows only"):
        contract(make(components, scheduler=DDIMScheduler()))
    with pytest.raises(ValueError, match="stochastic_sampling=True"):
        contract(make(components, scheduler=FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)))


def test_fusion_of_several_encoders_is_told_in_the_loop(components):
    loop = contract(make(components, "lg3")).loop
    for words in ("text_encoder at channel 0 and hidden of text_encoder_2 at channel 16", "clip then gemma"):
        assert words in loop
    assert "clip" not in contract(make(components, "3")).loop.replace("text_encoder_3", "")
