"""BitsFusion's contract and bundles: packed weights decoded, cached timesteps as a table, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers import DDIMScheduler
from shallow_bitsfusion import save_shallow, shallow_bundle
from tiny_bitsfusion import make_packed_pipeline, make_pipeline, packed

from pocket_diffusers.cli import main
from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig
from pocket_diffusers.pipelines.export.contract import PipelineContract
from pocket_diffusers.pipelines.export.methods.export_bitsfusion import EXPORTS
from pocket_diffusers.pipelines.export.runtime import load_bundle
from pocket_diffusers.pipelines.pipeline_bitsfusion import BitsFusionPipeline

EXPORT = EXPORTS[BitsFusionPipeline]
TEN_STEPS = BitsFusionConfig({"conv_in": 8}, 2, cached_timesteps=[100 * step + 1 for step in reversed(range(10))])
CALL = {"num_inference_steps": 5, "output_type": "np"}


def ten_steps() -> BitsFusionPipeline:
    """Ten timesteps cached, which are those of 10, 5, 2 and 1 steps."""
    pipeline = make_pipeline()
    packed(pipeline.unet, TEN_STEPS)
    return pipeline


def draw(pipeline: BitsFusionPipeline, **options) -> np.ndarray:
    return pipeline("a red cube", generator=torch.Generator().manual_seed(3), **{**CALL, **options}).images


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_shallow(tmp_path_factory.mktemp("own") / "mine")


@pytest.fixture(scope="module")
def bundle(folder, tmp_path_factory) -> Path:
    return shallow_bundle(folder, tmp_path_factory)


def test_the_table_in_place_of_a_cache_has_its_rows_and_the_nearest_one_s():
    pipeline = ten_steps()
    twin, unet = EXPORT.modules(pipeline)["unet"], pipeline.unet
    draw = torch.Generator().manual_seed(0)
    latents, text = torch.randn(3, 4, 4, 4, generator=draw), torch.randn(3, 8, 16, generator=draw)
    known = torch.tensor([901.0, 1.0, 301.0])
    with torch.no_grad():
        expected = unet(latents, known, text).sample
        torch.testing.assert_close(twin(latents, known, text), expected, rtol=1e-5, atol=1e-6)
        near = twin(latents, known + torch.tensor([49.0, -1.0, -40.0]), text)
    torch.testing.assert_close(near, expected, rtol=1e-5, atol=1e-6)


def test_the_contract_names_the_timesteps_and_a_pipeline_behind_it_refuses_others():
    pipeline = ten_steps()
    promised = PipelineContract.from_record(EXPORT.contract(pipeline).to_record())
    assert promised.constants["cached_timesteps"] == TEN_STEPS.cached_timesteps
    assert promised.component("unet").inputs[1].meaning.endswith("; one of the 10 of cached_timesteps")
    runners = {name: lambda *given, run=network: (run(*given),) for name, network in EXPORT.modules(pipeline).items()}
    again = EXPORT.assemble(promised, runners, {name: getattr(pipeline, name) for name in promised.parts})
    np.testing.assert_allclose(draw(again), draw(pipeline), atol=1e-5)
    for one in (again, pipeline):
        with pytest.raises(ValueError, match="num_inference_steps must be 1.* or 10, whose timesteps .*, not 4"):
            draw(one, num_inference_steps=4)
    with pytest.raises(ValueError, match=r"timestep must be one of the 10 that are cached \(901, .*\), not 7"):
        again.unet(torch.zeros(1, 4, 4, 4), torch.tensor([7]), encoder_hidden_states=torch.zeros(1, 8, 16))


def test_a_model_without_a_cache_has_no_such_words():
    contract = EXPORT.contract(make_pipeline())
    assert "cached_timesteps" not in {*contract.constants, *contract.configs["unet"]}
    assert "cached" not in contract.component("unet").inputs[1].meaning


def test_the_loop_says_ddim_and_every_token_of_the_prompt():
    contract = EXPORT.contract(make_packed_pipeline())
    for words in (
        "ids = tokenizer(prompt), cut or padded on the right to 8 tokens", "features = text_encoder(ids)",
        "t = timesteps[i]", "noise = both[first half] + guidance_scale",
        "clean = (latents - sqrt(1 - kept[t]) * noise) / sqrt(kept[t])",
    ):  # fmt: skip
        assert words in contract.loop
    assert contract.scheduler["example"]["timesteps"][:2] == [961, 921]
    assert contract.component("unet").outputs[0].name == "noise"


def test_what_cannot_be_exported_is_said():
    with pytest.raises(ValueError, match="no text encoder: an export needs it"):
        EXPORT.contract(make_pipeline(text_encoder=None, tokenizer=None))
    with pytest.raises(ValueError, match="prediction_type='v_prediction', but an export knows only 'epsilon'"):
        EXPORT.contract(make_pipeline(scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False)))


def test_a_cache_that_fits_no_number_of_steps_is_said():
    pipeline = make_pipeline()
    packed(pipeline.unet, BitsFusionConfig(cached_timesteps=[3, 999]))
    with pytest.raises(ValueError, match="2 cached timesteps must be some of the scheduler's for some number of steps"):
        EXPORT.rehearse(pipeline, range(2))


def test_a_bundle_of_packed_weights_draws_what_the_model_draws(folder, bundle):
    original = BitsFusionPipeline.from_pretrained(folder)
    original.set_progress_bar_config(disable=True)
    exported = load_bundle(bundle, "onnx", "bitsfusion")
    np.testing.assert_allclose(draw(exported), draw(original), atol=1e-4)
    np.testing.assert_allclose(
        draw(exported, num_inference_steps=10, guidance_scale=1.0),
        draw(original, num_inference_steps=10, guidance_scale=1.0),
        atol=1e-4,
    )
    with pytest.raises(ValueError, match="num_inference_steps must be 1.* 50, whose timesteps .*, not 3"):
        draw(exported, num_inference_steps=3)
    halves = [
        list(item.dims)
        for item in onnx.load(bundle / "unet.onnx").graph.initializer
        if item.data_type == onnx.TensorProto.FLOAT16
    ]
    assert halves == [[50, 48]], "the table stays as small as it was"
    note = (bundle / "README.md").read_text()
    assert "kept[t - stride]" in note and "`DDIMScheduler`" in note and "For 25 steps the timesteps" in note


def test_the_command_draws_with_a_bundle(bundle, tmp_path):
    options = ["--prompt", "a red cube", "--runtime", "onnx", "--model", str(bundle), "--steps", "5"]
    main(["generate", "bitsfusion", *options, "--output", str(tmp_path / "out")])
    assert list((tmp_path / "out").glob("*.png"))
