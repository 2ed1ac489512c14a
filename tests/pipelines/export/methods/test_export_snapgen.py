"""SnapGen's contract: any set of text encoders, their fusion in words, and noise that follows the picture's size."""

import numpy as np
import pytest
import torch
from contract_cases import noise_levels
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny_snapgen import make_pipeline

from pocket_diffusers.pipelines.export.contract import PipelineContract
from pocket_diffusers.pipelines.export.methods.export_snapgen import EXPORTS
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline

EXPORT = EXPORTS[SnapGenPipeline]


@pytest.mark.parametrize("encoders", ["l", "g", "3", "lg", "l3", "g3"])
def test_any_encoders_behind_the_contract_make_the_same_pictures(encoders):
    pipeline = make_pipeline(encoders)
    networks = EXPORT.modules(pipeline)
    names = {"l": "text_encoder", "g": "text_encoder_2", "3": "text_encoder_3"}
    assert list(networks) == [*(names[one] for one in encoders), "unet", "vae_decoder"]
    promised = PipelineContract.from_record(EXPORT.contract(pipeline).to_record())  # as an app reads it
    runners = {name: lambda *given, run=network: (run(*given),) for name, network in networks.items()}
    parts = {name: getattr(pipeline, name) for name in promised.parts}
    with torch.no_grad():
        again = EXPORT.rehearse(EXPORT.assemble(promised, runners, parts), range(6))
    np.testing.assert_allclose(again, EXPORT.rehearse(pipeline, range(6)), atol=1e-6)


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_levels_that_follow_the_size_are_those_of_the_default_size(shape):
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=shape)
    pipeline = make_pipeline("l", scheduler=scheduler)
    record = EXPORT.contract(pipeline).scheduler
    for steps in (1, 2, 7):
        seen = []  # by a real call

        def watch(pipeline, step, timestep, tensors, seen=seen):
            seen.append(timestep.item())
            return tensors

        pipeline("a red cube", num_inference_steps=steps, callback_on_step_end=watch)
        np.testing.assert_allclose(1000 * np.array(noise_levels(record, steps)), seen, rtol=1e-5)


def test_a_pipeline_without_text_encoders_cannot_be_exported():
    with pytest.raises(ValueError, match="no text encoder: an export needs at least one"):
        EXPORT.contract(make_pipeline(""))


def test_fusion_of_several_encoders_is_told_in_the_loop():
    loop = EXPORT.contract(make_pipeline("lg3")).loop
    for words in ("text_encoder at channel 0 and hidden of text_encoder_2 at channel 16", "clip then gemma"):
        assert words in loop
    assert "clip" not in EXPORT.contract(make_pipeline("3")).loop.replace("text_encoder_3", "")
