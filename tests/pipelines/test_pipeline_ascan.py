"""What AsCANPipeline computes, on tiny real components; what all pipelines promise is in `tests/contracts`."""

import copy
import json

import numpy as np
import pytest
import torch
from contract_cases import seeded
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from tiny_ascan import CLASSES, make_generator

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline

STEPS = {"num_inference_steps": 2}
TEXT = {"num_classes": None, "cross_attention_dim": 12}


def tiny_vae():
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return AutoencoderTiny(latent_channels=4, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), **widths)


def snapgen_vae():
    return AutoencoderSnapGen(
        latent_channels=4, encoder_channels=(8, 16, 16), encoder_layers_per_block=1, encoder_mid_attention=False,
        decoder_channels=(16, 8, 8), decoder_layers_per_stage=1, norm_num_groups=4, sample_size=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pipeline() -> AsCANPipeline:
    """Six classes, 8 x 8 pixels, multiples of 4."""
    return make_generator()


@pytest.fixture(scope="module")
def of_text() -> AsCANPipeline:
    return make_generator(id2label=None, **TEXT)


def latents_of(pipeline: AsCANPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, **{**STEPS, "output_type": "latent", **kwargs}).images


class TestResult:
    def test_flow_is_guided_euler(self, pipeline):
        """x <- x + (s' - s) (v_null + g (v - v_null)), picture = decode(x / scale + shift)."""
        x = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(3))
        shifted = [1.5 * s / (1 + 0.5 * s) for s in (1.0, 1.5 * 0.001 / (1 + 0.5 * 0.001))]
        with torch.no_grad():
            for now, then in zip(shifted, [*shifted[1:], 0.0], strict=True):
                time = torch.tensor([1000 * now])
                v, v_null = (pipeline.unet(x, time, torch.tensor([label])).sample for label in (2, 6))
                x = x + (then - now) * (v_null + 3.0 * (v - v_null))
            expected = (pipeline.vae.decode(x / 0.5 + 0.1).sample / 2 + 0.5).clamp(0, 1)
        images = pipeline(2, **STEPS, guidance_scale=3.0, generator=seeded(3), output_type="pt").images
        torch.testing.assert_close(images, expected, atol=2e-4, rtol=0)

    @pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
    def test_ddim(self, kind):
        """Against equations 12 (with sigma = 0) of arXiv 2010.02502 and the v of arXiv 2202.00512."""
        scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, set_alpha_to_one=True)
        pipeline = make_generator(scheduler=scheduler)
        x = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(3))
        alphas = [scheduler.alphas_cumprod[500], scheduler.alphas_cumprod[0], torch.tensor(1.0)]
        with torch.no_grad():
            for time, now, then in zip((500, 0), alphas, alphas[1:], strict=False):
                y, y_null = (pipeline.unet(x, torch.tensor([time]), torch.tensor([label])).sample for label in (1, 6))
                y = y_null + 2.0 * (y - y_null)
                noise = y if kind == "epsilon" else now.sqrt() * y + (1 - now).sqrt() * x
                clean = (x - (1 - now).sqrt() * noise) / now.sqrt()
                x = then.sqrt() * clean + (1 - then).sqrt() * noise
        found = latents_of(pipeline, "red cone", guidance_scale=2.0, generator=seeded(3))
        torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)

    def test_noise_is_scaled_for_schedulers_that_want_it(self):
        """Euler's sigmas reach 14.6: its noise starts there, and what the UNet sees is scaled back."""
        scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
        pipeline, seen = make_generator(scheduler=scheduler), []
        pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        latents_of(pipeline, 0, generator=seeded(0))
        assert seen[0].shape[0] == 2 and 0.7 < seen[0].std() < 1.3
        noise = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(0))
        twin = copy.deepcopy(scheduler)
        twin.set_timesteps(2)
        expected = twin.scale_model_input(noise * twin.init_noise_sigma, twin.timesteps[0])
        torch.testing.assert_close(seen[0][:1], expected)

    @pytest.mark.parametrize("scheduler", [DPMSolverMultistepScheduler(), DDPMScheduler(), DDIMScheduler()])
    def test_schedulers_of_diffusers(self, scheduler):
        pipeline = make_generator(scheduler=scheduler)
        pair = latents_of(pipeline, [0, 1], generator=seeded(1, 2))
        assert pair.isfinite().all()
        torch.testing.assert_close(pair[1:], latents_of(pipeline, 1, generator=seeded(2)), atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize(("vae", "side"), [(tiny_vae, 8), (snapgen_vae, 16)])
    def test_other_autoencoders(self, vae, side):
        assert make_generator(vae=vae().eval())(0, **STEPS, output_type="np").images.shape == (1, side, side, 3)


class TestClasses:
    def test_labels_and_their_numbers(self, pipeline):
        assert pipeline.labels == {
            "azure cube": 2, "blue cone": 3, "blue cube": 2, "crane": 4, "red cone": 1, "red cube": 0,
        }  # fmt: skip
        assert list(pipeline.labels) == sorted(pipeline.labels)
        assert pipeline.get_label_ids(["azure cube", "blue cube", "red cube"]) == [2, 2, 0]
        assert pipeline.get_label_ids("red cone") == [1]

    @pytest.mark.parametrize(
        "labels", [[2, 0], ["blue cube", "red cube"], ["azure cube", 0], torch.tensor([2, 0]), np.array([2, 0])]
    )
    def test_ways_to_say_a_class(self, pipeline, labels):
        expected = latents_of(pipeline, [2, 0], generator=seeded(0, 1))
        assert torch.equal(expected, latents_of(pipeline, labels, generator=seeded(0, 1)))

    def test_without_names_classes_are_numbers(self):
        pipeline = make_generator(id2label=None)
        assert pipeline.labels == {str(number): number for number in range(6)}

    def test_names_are_kept_as_json_keeps_them(self):
        as_json = json.loads(json.dumps({str(number): name for number, name in CLASSES.items()}))
        assert make_generator(id2label=as_json).labels == make_generator().labels
        assert make_generator(id2label=as_json).config.id2label == make_generator().config.id2label

    @pytest.mark.parametrize(
        ("id2label", "message"),
        [
            ({0: "a"}, r"id2label must name the 6 classes 0 to 5, but it names \[0\]"),
            ({**CLASSES, 6: "b"}, "must name the 6 classes"),
            ({**CLASSES, "x": "b"}, "id2label must be a dictionary, number -> name"),
            (["a"] * 6, "id2label must be a dictionary"),
            ({**CLASSES, 3: 7}, r"id2label\[3\] must be a name, not 7"),
            ({**CLASSES, 3: " "}, r"id2label\[3\] must be a name"),
        ],
    )
    def test_names_that_are_not_complete(self, id2label, message):
        with pytest.raises(ValueError, match=message):
            make_generator(id2label=id2label)


class TestText:
    def test_text_steers(self, of_text):
        torch.manual_seed(0)
        embeds, negative = torch.randn(2, 3, 12), torch.randn(2, 5, 12)
        call = {"negative_prompt_embeds": negative, "generator": seeded(0, 1)}
        both = latents_of(of_text, prompt_embeds=embeds, **call)
        alone = latents_of(of_text, prompt_embeds=embeds[1:], negative_prompt_embeds=negative[1:], generator=seeded(1))
        torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=0)
        assert not torch.allclose(
            both, latents_of(of_text, prompt_embeds=embeds + 1, **{**call, "generator": seeded(0, 1)})
        )

    def test_masked_tokens_do_not_count(self, of_text):
        torch.manual_seed(0)
        embeds, mask = torch.randn(1, 3, 12), torch.tensor([[1, 1, 0]])
        call = {"prompt_attention_mask": mask, "guidance_scale": 1}
        first = latents_of(of_text, prompt_embeds=embeds, **call, generator=seeded(0))
        other = embeds + 5 * (1 - mask)[..., None]
        torch.testing.assert_close(first, latents_of(of_text, prompt_embeds=other, **call, generator=seeded(0)))
        short = latents_of(of_text, prompt_embeds=embeds[:, :2], guidance_scale=1, generator=seeded(0))
        torch.testing.assert_close(first, short, atol=1e-5, rtol=0)

    def test_text_and_classes_together(self):
        pipeline = make_generator(cross_attention_dim=12)
        embeds = torch.ones(2, 3, 12)
        call = {"prompt_embeds": embeds, "negative_prompt_embeds": 0 * embeds, "num_images_per_class": 2}
        found = latents_of(pipeline, [0, 1], **call, generator=seeded(0, 1, 0, 1))
        assert found.shape[0] == 4 and not torch.allclose(found[:2], found[2:])

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({}, "prompt_embeds are needed: this UNet attends to text features 12 wide"),
            ({"class_labels": 0}, "class_labels cannot be used: this UNet was made for text alone"),
            ({"prompt_embeds": torch.zeros(1, 3, 12)}, "negative_prompt_embeds are needed for guidance"),
            ({"prompt_embeds": torch.zeros(1, 3, 7)}, r"must be \[prompts, tokens, 12\], not \[1, 3, 7\]"),
            ({"prompt_embeds": torch.zeros(1, 3, 12), "prompt_attention_mask": torch.ones(1, 2)}, r"must be \[1, 3\]"),
            ({"prompt_attention_mask": torch.ones(1, 2)}, "prompt_attention_mask needs prompt_embeds"),
            ({"prompt_embeds": torch.zeros(1, 3, 12), "negative_prompt_embeds": torch.zeros(2, 3, 12)},
             "equally many, but there are 1 prompt_embeds, 2 negative_prompt_embeds"),
            ({"callback_on_step_end_tensor_inputs": ["class_labels"]}, "must be one of latents, prompt_embeds"),
        ],
    )  # fmt: skip
    def test_bad_text(self, of_text, kwargs, message):
        with pytest.raises(ValueError, match=message) as caught:
            of_text(**kwargs)
        assert len(str(caught.value).splitlines()) == 1


def test_components_that_do_not_fit():
    with pytest.raises(ValueError, match="the UNet takes 5 and makes 4 latent channels, but the vae has 4"):
        make_generator(in_channels=5)
    with pytest.raises(ValueError, match="takes 4 and makes 8 latent channels"):
        make_generator(out_channels=8)
    with pytest.raises(ValueError, match="neither num_classes nor cross_attention_dim"):
        make_generator(id2label=None, num_classes=None)
    with pytest.raises(ValueError, match="id2label cannot be used"):
        make_generator(**TEXT)
    with pytest.raises(ValueError, match="use_dynamic_shifting=True"):
        make_generator(scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))(0)


def test_text_pipeline_survives_saving(of_text, tmp_path):
    of_text.save_pretrained(tmp_path)
    assert AsCANPipeline.from_pretrained(tmp_path).labels == {}
