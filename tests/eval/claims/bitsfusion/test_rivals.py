"""Rivals' rows out of contests that take no time, what a budget of bytes buys, and GGUF's UNet, which needs none."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pocket_diffusers import checkpoint
from pocket_diffusers.eval.benchmark import Benchmark, MissingData, Run
from pocket_diffusers.eval.claims.bitsfusion import rival_contenders, rival_libraries, rivals
from pocket_diffusers.eval.claims.bitsfusion.settings import Settings
from pocket_diffusers.eval.claims.bitsfusion.shape import FULL, empty_unet, write_shape
from pocket_diffusers.eval.drawing import load_committed
from pocket_diffusers.eval.timing.contest import Measurement
from pocket_diffusers.eval.timing.cost_rows import Costs
from pocket_diffusers.training.datasets.captioned_images import pocketworld_images

SETTINGS = Settings(shape="nano", latent_size=8, repeats=1, threads=1)


@pytest.fixture
def run(tmp_path):
    return Run(Benchmark("bitsfusion", SETTINGS, {}), "rivals", tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_shape(tmp_path / "shape", "nano")
    (tmp_path / "shape" / "unet").rename(tmp_path / FULL)
    monkeypatch.chdir(tmp_path)
    probes = {
        "sample": torch.randn(2, 16, 8, 8), "timestep": torch.tensor([1, 501]),
        "encoder_hidden_states": torch.randn(2, 5, 128),
    }  # fmt: skip
    save_file(probes, tmp_path / rival_contenders.PROBES)
    return tmp_path


@pytest.mark.parametrize("value", [None, "", "/nowhere/python"])
def test_without_an_environment_of_rivals_it_says_how_to_have_one(value, monkeypatch, run):
    monkeypatch.delenv(rivals.PYTHON, raising=False)
    if value is not None:
        monkeypatch.setenv(rivals.PYTHON, value)
    for measure in (rivals.measure_rivals, rivals.measure_rival_costs):
        with pytest.raises(MissingData, match=r"^POCKET_RIVALS_PYTHON is .*made by eval/claims/bitsfusion/rivals.txt"):
            next(measure(SETTINGS, run))
    assert (Path(rivals.__file__).parents[3] / rivals.REQUIREMENTS).is_file()


def test_a_budget_buys_the_ends_first_then_bits_of_small_layers():
    unet = empty_unet("nano")
    layers = {name: unet.get_submodule(name).weight.numel() for name in rival_libraries.bits_within(unet, 0)}
    assert set(rival_libraries.bits_within(unet, 0).values()) == {1}
    some = rival_libraries.bits_within(unet, 750_000)
    assert some["conv_in"] == some["conv_out"] == 8
    small, large = min(layers, key=layers.get), max(layers, key=layers.get)
    assert some[small] > some[large] == 1
    assert set(rival_libraries.bits_within(unet, 10**8).values()) == {8}


@pytest.mark.parametrize("budget", [700_000, 1_500_000])
def test_ours_keeps_to_its_budget_and_errs_less_with_more(folder, budget):
    less, more = (
        rival_contenders.build_output(FULL, "ours", {"bytes": count}, "made").facts
        for count in (budget, budget + 300_000)
    )
    assert budget * 0.97 < less["bytes"] <= budget < more["bytes"] <= budget + 300_000
    assert more["error"] < less["error"] and less["probes"] == 2
    assert less["bytes"] < rival_libraries.folder_bytes(folder / "made")


def test_a_gguf_unet_is_its_blocks_and_computes_as_they_say(folder):
    facts = rival_contenders.build_output(FULL, "gguf", {"type": "Q4_0"}, "made").facts
    unet = rival_libraries.LIBRARIES["gguf"].load(folder / "made")
    full = rival_libraries.load_float32(FULL)
    packed = sum(layer.weight.numel() for layer in full.modules() if type(layer) in rival_libraries.LOW_BIT)
    rest = sum(value.numel() for value in full.parameters()) - packed
    assert facts["bytes"] == pytest.approx(packed / 32 * 18 + 2 * rest, rel=0.03)
    relative = rival_contenders.relative_rms(unet.conv_in.weight, full.conv_in.weight)
    assert 0.03 < relative < 0.12 and torch.equal(unet.conv_in.bias, full.conv_in.bias)
    step = rival_contenders.build_rival_step("gguf", "made", 8)
    assert step.call().sample.shape == (2, 16, 8, 8) and step.facts["load_seconds"] > 0


def test_relative_rms_by_hand():
    assert rival_contenders.relative_rms(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)


def found(name, error=None, **facts):
    return Measurement(name=name, build="a:b", arguments={}, seconds=(1.0,), facts=facts, error=error)


def test_rows_beside_a_rival(run):
    ours, rival = found("ours", bytes=900, error_=0), found("SDNQ uint2", bytes=1000, error_=0)
    ours.facts["error"], rival.facts["error"], rival.facts["probes"] = 0.2, 0.5, 32
    error, count = rivals.output_rows(run, "SDNQ uint2", ours, rival)
    assert (error.id, error.measured, error.rival_measured, error.target) == ("rival-error-sdnq-uint2", 0.2, 0.5, 0.5)
    assert error.passed and error.n == 32 and error.ratio == 2.5
    assert (count.measured, count.target, count.unit, count.passed) == (0.9, 1.0, "KB", True)
    eight, _ = rivals.output_rows(run, "quanto int8", ours, rival)
    assert eight.target is None, "beyond the bits of the comparison"
    lost, _ = rivals.output_rows(run, "SDNQ uint2", found("ours", "no luck."), rival)
    assert lost.measured is None and "failed: no luck." in lost.claim and not lost.passed
    row = rivals.failed_row(run, "torchao int4", Costs((found("torchao int4", "it broke."),), 1, "2025-01-31"))
    assert row.measured is None and "torchao int4 failed: it broke." in row.claim


def test_costs_are_asked_for_in_the_rivals_environment(contest, run, monkeypatch):
    monkeypatch.setenv(rivals.PYTHON, "/bin/sh")
    facts = {"bytes": 250_000_000, "load_seconds": 2.0}
    asked = contest(lambda one: (3.0,), errors=["quanto int2"], facts=lambda one: facts)
    rows = {row.id: row for row in rivals.measure_rival_costs(SETTINGS, run)}
    assert {str(one.python) for call in asked for one in call[0]} == {"/bin/sh"}
    assert [call[3].stem for call in asked] == ["rivals-making", "rivals-ours", "rivals-step"]
    assert {"rival-step-sdnq-uint2", "rival-memory-gguf-q4-0", "rival-loading-quanto-int4"} <= set(rows)
    assert not any("quanto-int2" in name for name in rows)
    assert rows["rival-folder-sdnq-uint4"].rival_measured == 250
    assert json.dumps([one.arguments for call in asked for one in call[0]]).count("/tmp") == 0
    assert (run.output / "bitsfusion-rival-costs.png").is_file()


def test_probes_are_pictures_at_every_noise_with_their_captions():
    pipeline = load_committed("bitsfusion", checkpoint(rivals.FULL_NANO))
    probes = rivals.noisy_pictures(pipeline, 3, 64)
    assert probes["timestep"].tolist() == [1, 491, 981]
    data = pocketworld_images("test", 64, 3)
    wanted, _ = pipeline.encode_prompt(list(data.captions), do_classifier_free_guidance=False)
    torch.testing.assert_close(probes["encoder_hidden_states"], wanted)
    with torch.no_grad():
        clean = pipeline.vae.encode(data.images(torch.arange(3))).latent_dist.mode()

    def likeness(i):  # of each channel, which has a scale of its own
        pairs = zip(probes["sample"][i].flatten(1), clean[i].flatten(1), strict=True)
        return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])

    assert likeness(0).mean() > 0.95, "hardly any noise"
    assert likeness(2).abs().mean() < 0.3, "hardly anything else"
    pipeline.unet(**probes)
