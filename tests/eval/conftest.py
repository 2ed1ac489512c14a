"""Tiny untrained models that take the place of the committed ones, and contests that take no time."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pocket_diffusers.eval.scores.naming import pair_prompt
from pocket_diffusers.eval.timing import cost_rows
from pocket_diffusers.eval.timing.contest import Measurement
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.unet_snapgen import SnapGenUNet2DConditionModel
from pocket_diffusers.pipelines.files import write_json
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline
from pocket_diffusers.pipelines.repository import save_repository, text_tower
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS
from pocket_diffusers.training.objectives.contrastive import ClipSize, new_clip, train_tokenizer


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Tiny untrained models in the folders that the benchmark expects."""
    folder = tmp_path_factory.mktemp("checkpoints")
    size = ClipSize(
        text_width=16, text_layers=2, vision_width=16, vision_layers=1, heads=2, image_size=16, projection=8
    )
    tokenizer = train_tokenizer(map(pair_prompt, ALL_PAIRS), size.tokens, vocabulary=300)
    for seed, name in enumerate(("clip-nano", "clip-nano-judge")):
        torch.manual_seed(seed)
        clip = new_clip(size, tokenizer)
        clip.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    unet = SnapGenUNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(16,), layers_per_block=1,
        transformer_layers_per_block=(1,), mid_transformer_depth=0, attention_head_dim=8, cross_attention_dim=16,
        temb_dim=32, norm_num_groups=8,
    )  # fmt: skip
    vae = AutoencoderSnapGen(
        latent_channels=4, encoder_channels=(8, 16), encoder_layers_per_block=1, encoder_mid_attention=False,
        decoder_channels=(16, 8), decoder_layers_per_stage=1, norm_num_groups=4, patch_size=2, sample_size=16,
    )  # fmt: skip
    parts = {"text_encoder": text_tower(clip), "tokenizer": tokenizer}
    pipeline = SnapGenPipeline(vae=vae, unet=unet, scheduler=FlowMatchEulerDiscreteScheduler(), **parts)
    save_repository(pipeline, folder / "snapgen-nano")
    return folder


@pytest.fixture
def contest(monkeypatch):
    """Replaces the processes of contenders: each takes the seconds, or has the error, that a test asks for.

    `contest(seconds, errors, facts)` returns a list of what `run_contenders` is then asked for; `seconds` and `facts`
    are functions of a contender, `errors` are names.
    """
    asked = []

    def prepare(seconds, errors=(), facts=None):
        def run(contenders, repeats, threads, output):
            asked.append((contenders, repeats, threads, output))
            write_json(output, {"date": "2025-01-31", "measurements": []})
            return [
                Measurement(
                    name=one.name, build=one.build, arguments=one.arguments,
                    error="it broke." if one.name in errors else None,
                    seconds=() if one.name in errors else tuple(seconds(one)), peak_memory_mb=100.0 * len(one.name),
                    facts={"imports_mb": 50.0, **(facts(one) if facts else {})},
                )
                for one in contenders
            ]  # fmt: skip

        monkeypatch.setattr(cost_rows, "run_contenders", run)
        return asked

    return prepare
