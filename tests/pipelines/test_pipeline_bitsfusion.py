"""What BitsFusionPipeline computes, on tiny real components; what all pipelines promise is in `tests/contracts`."""

import json
import math
from pathlib import Path

import pytest
import torch
from contract_cases import seeded
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.quantizers import auto
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_bitsfusion import OPTIONS, TOKENS, WIDTH, make_components, make_packed_pipeline, make_pipeline
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPTextModel

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.layers.low_bit import LowBitLayer
from pocket_diffusers.hub_models.unet_bitsfusion import BitsFusionUNet2DConditionModel
from pocket_diffusers.pipelines import pipeline_bitsfusion
from pocket_diffusers.pipelines.pipeline_bitsfusion import BitsFusionPipeline
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder
from pocket_diffusers.pipelines.repository import save_repository

STEPS = {"num_inference_steps": 2}
PROMPTS = ["a red cube", "two green cone"]


@pytest.fixture(scope="module")
def pipeline() -> BitsFusionPipeline:
    """In full precision, shared by tests that leave it as it was."""
    return make_pipeline()


@pytest.fixture(scope="module")
def stable_diffusion() -> StableDiffusionPipeline:
    """diffusers' pipeline with the same parts."""
    return silent(StableDiffusionPipeline(**make_components(), safety_checker=None, feature_extractor=None,
                                          requires_safety_checker=False))  # fmt: skip


@pytest.fixture(scope="module")
def stable_diffusion_folder(tmp_path_factory) -> Path:
    """As Stable Diffusion 1.5 is published: with a safety checker, and older names of tensors in two files."""
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**size, "image_size": 8, "patch_size": 4}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(text_config={**size, "vocab_size": 9}, vision_config=vision, projection_dim=8)
    )
    extractor = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    place = tmp_path_factory.mktemp("published") / "sd"
    StableDiffusionPipeline(**make_components(), safety_checker=checker, feature_extractor=extractor).save_pretrained(
        place
    )
    rename(place / "text_encoder" / "model.safetensors", lambda key: f"text_model.{key}")
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def once_called(key: str) -> str:
        for new, old in older.items():
            key = key.replace(f".{new}.", f".{old}.")
        return key

    rename(place / "vae" / "diffusion_pytorch_model.safetensors", once_called)
    return place


@pytest.fixture(scope="module")
def folders(stable_diffusion_folder, tmp_path_factory) -> tuple[Path, Path]:
    """Stable Diffusion's folder, and what `pocket quantize` makes of it with a cache of 50 steps."""
    target = tmp_path_factory.mktemp("packed") / "two"
    quantize_folder(stable_diffusion_folder, target, bits=2, cache_steps=50)
    return stable_diffusion_folder, target


@pytest.fixture(scope="module")
def fifty(folders) -> BitsFusionPipeline:
    return silent(BitsFusionPipeline.from_pretrained(folders[1]))


def rename(path: Path, once_called) -> None:
    tensors = load_file(path)
    save_file({once_called(key): value for key, value in tensors.items()}, path, {"format": "pt"})


def silent(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents_of(pipeline: BitsFusionPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, **{**STEPS, "output_type": "latent", **kwargs}).images


def noise(count: int = 1, height: int = 4) -> torch.Tensor:
    return torch.randn(count, 4, height, 4, generator=torch.Generator().manual_seed(3))


class TestResult:
    def test_sampler_is_guided_ddim(self, pipeline):
        """Against the equations (arXiv 2010.02502, equation 12, without noise) and guidance, step by step."""
        text, no_text = pipeline.encode_prompt("a red cube", "blue")
        betas = [(math.sqrt(0.00085) + i / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2 for i in range(1000)]
        alphas = [math.prod(1 - beta for beta in betas[: i + 1]) for i in range(1000)]
        x, times = noise(), [667, 334, 1]  # 1000 // 3 = 333 apart, from an offset of 1
        with torch.no_grad():
            for now, then in zip(times, [334, 1, 1 - 333], strict=True):
                eps, eps_neg = (pipeline.unet(x, now, features).sample for features in (text, no_text))
                eps = eps_neg + 3.0 * (eps - eps_neg)
                a, b = alphas[now], alphas[max(then, 0)]
                x = math.sqrt(b) * (x - math.sqrt(1 - a) * eps) / math.sqrt(a) + math.sqrt(1 - b) * eps
            expected = (pipeline.vae.decode(x / 0.6).sample / 2 + 0.5).clamp(0, 1)
        call = dict(negative_prompt="blue", guidance_scale=3.0, num_inference_steps=3, output_type="pt")
        torch.testing.assert_close(pipeline("a red cube", **call, latents=noise()).images, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            pipeline("a red cube", **call, generator=seeded(3)).images, expected, atol=1e-5, rtol=0
        )

    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
    @pytest.mark.parametrize(
        "kind", [DDIMScheduler, PNDMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler]
    )
    def test_pictures_are_those_of_stable_diffusion(self, stable_diffusion, kind, prediction):
        """diffusers' own pipeline on the same parts is the oracle, with every scheduler that it takes."""
        more = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
        config = {**make_components()["scheduler"].config, "prediction_type": prediction, **more}
        scheduler = kind.from_config(config)
        ours, stable_diffusion.scheduler = make_pipeline(scheduler=scheduler), scheduler
        call = dict(
            prompt=PROMPTS, negative_prompt=["blue", ""], num_inference_steps=7, guidance_scale=5.0,
            num_images_per_prompt=2, height=16, width=8,
        )  # fmt: skip
        start = noise(4, height=8)
        expected = stable_diffusion(**call, latents=start.clone(), output_type="pt").images
        found = ours(**call, latents=start, output_type="pt").images
        assert found.shape == (4, 3, 16, 8) and found.std() > 0.05
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)

    def test_features_are_those_of_stable_diffusion(self, pipeline, stable_diffusion):
        expected = stable_diffusion.encode_prompt(PROMPTS, torch.device("cpu"), 2, True, ["blue", "cone"])
        found = pipeline.encode_prompt(PROMPTS, ["blue", "cone"], 2)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == (4, TOKENS, WIDTH)
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert pipeline.encode_prompt("a cube", do_classifier_free_guidance=False)[1] is None
        with pytest.raises(ValueError, match="no text encoder: pass prompt_embeds"):
            make_pipeline(text_encoder=None, tokenizer=None).encode_prompt("a cube")

    def test_any_autoencoder(self):
        torch.manual_seed(0)
        vae = AutoencoderSnapGen(
            latent_channels=4, encoder_channels=(8, 8, 8), encoder_layers_per_block=1, decoder_channels=(8, 8, 8),
            decoder_layers_per_stage=1, norm_num_groups=4,
        ).eval()  # fmt: skip
        assert make_pipeline(vae=vae)("a cube", **STEPS, output_type="np").images.shape == (1, 16, 16, 3)

    def test_negative_prompt_matters_and_may_be_blank(self, pipeline):
        blank = latents_of(pipeline, "a cube", negative_prompt=" ", generator=seeded(0))
        assert torch.equal(blank, latents_of(pipeline, "a cube", generator=seeded(0)))
        assert not torch.allclose(blank, latents_of(pipeline, "a cube", negative_prompt="red", generator=seeded(0)))


class TestGivenFeatures:
    def test_in_place_of_equal_prompts(self, pipeline):
        call = {"num_images_per_prompt": 2, "generator": seeded(1, 2, 3, 4)}
        expected = latents_of(pipeline, PROMPTS, negative_prompt="cone", **call)
        embeds, negative = pipeline.encode_prompt(PROMPTS, "cone")
        call["generator"] = seeded(1, 2, 3, 4)
        given = latents_of(pipeline, prompt_embeds=embeds, negative_prompt_embeds=negative, **call)
        assert torch.equal(expected, given)

    def test_they_need_no_encoder(self, pipeline):
        without = make_pipeline(text_encoder=None, tokenizer=None)
        embeds, negative = pipeline.encode_prompt("a red cube")
        call = {"prompt_embeds": embeds, "negative_prompt_embeds": negative, "generator": seeded(0)}
        assert torch.equal(latents_of(without, **call), latents_of(pipeline, "a red cube", generator=seeded(0)))
        with pytest.raises(ValueError, match="no text encoder: pass prompt_embeds"):
            without("a cube")
        with pytest.raises(ValueError, match="no text encoder: pass negative_prompt_embeds"):
            without(prompt_embeds=embeds)
        assert latents_of(without, prompt_embeds=embeds[:, :3], guidance_scale=1.0).shape == (1, 4, 4, 4)


class TestScheduler:
    @pytest.mark.parametrize(
        ("scheduler", "found"),
        [(FlowMatchEulerDiscreteScheduler(), "None"), (DDIMScheduler(prediction_type="sample"), "'sample'")],
    )
    def test_another_prediction_is_refused(self, scheduler, found):
        with pytest.raises(ValueError, match=f"prediction_type must be epsilon or v_prediction, not {found}"):
            make_pipeline(scheduler=scheduler)("a cube")

    def test_the_registered_one_stays_as_it_was(self, pipeline):
        before = pipeline.scheduler.timesteps.clone()
        latents_of(pipeline, "a cube")
        assert torch.equal(pipeline.scheduler.timesteps, before)


class TestPacked:
    def test_a_folder_of_stable_diffusion_loads(self, folders, stable_diffusion):
        stable_diffusion.scheduler = make_components()["scheduler"]
        loaded = silent(BitsFusionPipeline.from_pretrained(folders[0]))
        assert "safety_checker" not in loaded.components
        call = dict(prompt="a red cube", num_inference_steps=3, output_type="pt")
        expected = stable_diffusion(**call, latents=noise(), guidance_scale=4.0).images
        torch.testing.assert_close(loaded(**call, latents=noise()).images, expected, atol=1e-4, rtol=0)

    def test_its_packed_form_draws_as_stable_diffusion_with_it(self, folders, fifty):
        theirs = silent(StableDiffusionPipeline.from_pretrained(folders[1], safety_checker=None))
        layers = [module for module in fifty.unet.modules() if isinstance(module, LowBitLayer)]
        assert len(layers) > 20 and all(layer.is_frozen for layer in layers)
        call = dict(prompt="a red cube", num_inference_steps=5, output_type="pt")
        expected = theirs(**call, latents=noise(), guidance_scale=4.0).images
        torch.testing.assert_close(fifty(**call, latents=noise()).images, expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("steps", [1, 2, 5, 10, 25, 48, 50])
    def test_steps_that_are_cached(self, fifty, steps):
        assert latents_of(fifty, "a cube", num_inference_steps=steps, guidance_scale=1.0).isfinite().all()

    @pytest.mark.parametrize("steps", [3, 24, 51, 1000])
    def test_steps_that_are_not(self, fifty, steps, monkeypatch):
        monkeypatch.setattr(type(fifty.text_encoder), "forward", lambda *a, **k: pytest.fail("a model ran"))
        with pytest.raises(ValueError) as error:
            fifty("a cube", num_inference_steps=steps)
        assert str(error.value) == (
            "num_inference_steps must be 1, 2, 5, 10, 25 or 48 to 50, whose timesteps the UNet has cached, not "
            f"{steps}: for others, quantise the pipeline that this one was made of again with --cache-steps {steps}."
        )

    def test_a_scheduler_that_is_not(self, folders):
        scheduler = EulerDiscreteScheduler(timestep_spacing="linspace")
        other = BitsFusionPipeline.from_pretrained(folders[1], scheduler=scheduler)
        with pytest.raises(ValueError, match="^scheduler must be one whose timesteps .* not this EulerDiscreteSched"):
            other("a cube", num_inference_steps=7)

    def test_half_precision_on_the_disk_is_bit_exact(self, fifty, tmp_path):
        """Words and scales are no numbers that half precision rounds; a table of projections is of that type."""
        save_repository(fifty, tmp_path / "half")
        again = silent(BitsFusionPipeline.from_pretrained(tmp_path / "half"))
        save_repository(again, tmp_path / "twice")
        file = Path("unet") / "diffusion_pytorch_model.safetensors"
        assert (tmp_path / "half" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()
        for key, value in fifty.unet.state_dict().items():
            found = again.unet.state_dict()[key]
            kept = key.endswith((".words", ".scales", ".projections"))
            assert found.dtype == value.dtype and torch.equal(found, value if kept else value.half().float()), key

    def test_lora_acts_beside_packed_weights_and_leaves_no_trace(self, tmp_path):
        pipeline, twin = make_packed_pipeline(), make_packed_pipeline()
        config = LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "conv1"], init_lora_weights=False)
        torch.manual_seed(1)
        adapted = get_peft_model(twin.unet, config)
        pipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(adapted), config.to_dict())
        before = latents_of(pipeline, "a cube", generator=seeded(0))
        pipeline.load_lora_weights(tmp_path, adapter_name="style")
        changed = latents_of(pipeline, "a cube", generator=seeded(0))
        assert (changed - before).abs().max() > 1e-3
        torch.testing.assert_close(changed, latents_of(twin, "a cube", generator=seeded(0)), atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="packed weights cannot be written to"):
            pipeline.fuse_lora()
        pipeline.unload_lora_weights()
        assert torch.equal(latents_of(pipeline, "a cube", generator=seeded(0)), before)


def test_importing_the_pipeline_registers_the_quantiser():
    registered = auto.AUTO_QUANTIZER_MAPPING["bitsfusion"]
    assert registered is pipeline_bitsfusion.quantizer_bitsfusion.BitsFusionQuantizer


def test_a_unet_of_stable_diffusion_xl_is_refused():
    unet = BitsFusionUNet2DConditionModel(
        **OPTIONS, addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=40
    )
    with pytest.raises(ValueError, match="conditioned on text alone, not by addition_embed_type='text_time' too"):
        make_pipeline(unet=unet)


def test_the_parts_of_the_nano_model_fit_together():
    """Untrained, beside the decoder and the text encoder that SnapGen's nano model has."""
    place = checkpoint("snapgen-nano")
    torch.manual_seed(0)
    nano = silent(
        BitsFusionPipeline(
            AutoencoderSnapGen.from_pretrained(place, subfolder="vae"),
            BitsFusionUNet2DConditionModel.from_preset("nano").eval(),
            make_components()["scheduler"],
            CLIPTextModel.from_pretrained(place, subfolder="text_encoder", dtype=torch.float32),
            AutoTokenizer.from_pretrained(place, subfolder="tokenizer"),
        )
    )
    assert nano("a red cube", **STEPS, output_type="pt").images.shape == (1, 3, 64, 64)


def test_index_names_parts_of_plain_diffusers(tmp_path):
    make_packed_pipeline().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_bitsfusion", "BitsFusionPipeline"]
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
