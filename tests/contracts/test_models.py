"""What every model of a method promises, at a size that a test can afford."""

import copy
import json
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from contract_cases import ModelCase
from torch import nn

from pocket_diffusers.hub_models.presets import PresetMixin
from pocket_diffusers.pipelines import METHODS

HUB_MODELS = Path(__file__).parents[2] / "hub_models"
CASES: dict[str, ModelCase] = {
    f"{slug}-{name}": case for slug in METHODS for name, case in import_module(f"tiny_{slug}").MODELS.items()
}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
EVERY_LAYOUT = pytest.mark.parametrize(
    ("case", "changes"),
    [(case, changes) for case in CASES.values() for changes in case.layouts.values()],
    ids=[f"{name}-{layout}" for name, case in CASES.items() for layout in case.layouts],
)


@cache
def shared(case_id: int) -> nn.Module:
    """A model that tests leave as it was."""
    return next(case for case in CASES.values() if id(case) == case_id).make()


def untouched(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def loss_of(case: ModelCase, model: nn.Module) -> torch.Tensor:
    return sum(value.float().square().mean() for value in case.run(model))


def test_every_model_has_a_case():
    files = {f"pocket_diffusers.hub_models.{file.stem}" for slug in METHODS for file in HUB_MODELS.glob(f"*_{slug}.py")}
    models = {
        cls
        for module in map(import_module, files)
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, PresetMixin) and cls.__module__ == module.__name__
    }
    assert models and models == {case.cls for case in CASES.values()}


@EVERY
def test_presets_build_without_memory_in_their_remembered_sizes(case):
    found = {}
    for preset in case.cls.presets:
        with torch.device("meta"):
            model = case.cls.from_preset(preset)
        assert all(parameter.is_meta for parameter in model.parameters())
        found[preset] = sum(parameter.numel() for parameter in model.parameters())
    assert found == case.presets and "nano" in found
    assert found["nano"] < 4_000_000, "a repository in half precision must stay below 8 MB"


@EVERY_LAYOUT
def test_forward_is_finite_and_backward_reaches_every_parameter(case, changes):
    model = case.make(**changes)
    outputs = case.run(model)
    assert all(len(value) == 2 and value.isfinite().all() for value in outputs)
    sum(value.square().mean() for value in outputs).backward()
    assert untouched(model) == []
    if hasattr(model, "set_attention_form"):
        model.set_attention_form("explicit")
        for fused, explicit in zip(outputs, case.run(model), strict=True):
            torch.testing.assert_close(explicit, fused, atol=1e-5, rtol=1e-5)


@EVERY
def test_gradients_are_the_same_with_checkpointing(case):
    plain, spared = case.make().train(), case.make().train()
    spared.enable_gradient_checkpointing()
    for model in (plain, spared):
        loss_of(case, model).backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), spared.named_parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)


@EVERY
def test_samples_do_not_mix(case):
    model = shared(id(case))
    inputs = case.inputs(model, 3)
    with torch.no_grad():
        together = case.outputs(model, **inputs)
        alone = case.outputs(model, **{name: value[1:2] for name, value in inputs.items()})
    for value, wanted in zip(alone, together, strict=True):
        torch.testing.assert_close(value, wanted[1:2], atol=1e-5, rtol=1e-5)


@EVERY
@torch.no_grad()
def test_channels_last_and_half_precision_agree(case):
    model = shared(id(case))
    inputs, wanted = case.inputs(model, 2), case.run(model)
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    last = {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in inputs.items()}
    for value, full in zip(case.outputs(twin, **last), wanted, strict=True):
        torch.testing.assert_close(value, full, atol=1e-4, rtol=1e-4)
    timestep = {"timestep": inputs["timestep"]} if "timestep" in inputs else {}
    halved = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()} | timestep
    with torch.autocast("cpu", torch.bfloat16):
        mixed = case.run(model)
    half = case.outputs(twin.bfloat16(), **halved)
    assert {value.dtype for value in half} == {torch.bfloat16}
    if hasattr(twin, "set_attention_form"):
        twin.set_attention_form("explicit")
    for values in (half, mixed, case.outputs(twin, **halved)):
        for value, full in zip(values, wanted, strict=True):
            assert (value - full).norm() < 0.05 * full.norm()


@EVERY_LAYOUT
def test_a_config_makes_the_same_network_again(case, changes):
    with torch.device("meta"):
        model = case.cls(**{**case.options, **changes})
        again = case.cls.from_config(json.loads(model.to_json_string()))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert again.to_json_string() == model.to_json_string()


@EVERY
@torch.no_grad()
def test_saved_weights_come_back_bit_for_bit(case, tmp_path):
    model = case.make(**list(case.layouts.values())[-1])
    model.save_pretrained(tmp_path)
    loaded = case.cls.from_pretrained(tmp_path)
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    for parameter in loaded.parameters():
        parameter.data = parameter.data.clone()  # kernels round by alignment, in the last bit
    for value, wanted in zip(case.run(loaded), case.run(model), strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)


def rows_of(kind: str) -> dict:
    rows = [(case, *row) for case in CASES.values() for row in getattr(case, kind)]
    return {"argvalues": rows, "ids": [f"{case.cls.__name__}-{message}" for case, _, message in rows]}


@pytest.mark.parametrize(("case", "changes", "message"), **rows_of("refused_inputs"))
def test_bad_input_is_refused_in_one_sentence(case, changes, message):
    model = shared(id(case))
    with pytest.raises(ValueError, match=message) as caught:
        case.outputs(model, **{**case.inputs(model, 2), **changes})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("case", "changes", "message"), **rows_of("refused_options"))
def test_bad_options_are_refused_in_one_sentence(case, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        case.make(**changes)
    assert len(str(caught.value).splitlines()) == 1
