"""The contract of SnapGenPipeline, on tiny real components."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.callbacks import SDCFGCutoffCallback
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.pipelines.outputs import ImageOutput
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline, fuse_text_features

STEPS = {"num_inference_steps": 2}


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def state_of(component) -> dict:
    return component.state_dict() if isinstance(component, torch.nn.Module) else vars(component)


def latents_of(pipeline: SnapGenPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, **{**STEPS, "output_type": "latent", **kwargs}).images


def quiet(pipeline: SnapGenPipeline) -> SnapGenPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestResult:
    def test_sampler_is_guided_euler(self, pipeline):
        """Against the equations: x <- x + (s' - s) (v_neg + g (v - v_neg)), picture = decode(x std / scale + mean)."""
        noise = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(3))
        text, mask, no_text, no_mask = pipeline.encode_prompt("a red cube", "blue")
        shifted = [1.5 * s / (1 + 0.5 * s) for s in (1.0, 0.5, 0.001)]
        x = noise
        with torch.no_grad():
            for now, then in zip(shifted, [*shifted[1:], 0.0], strict=True):
                time = torch.tensor([1000 * now])
                v = pipeline.unet(x, time, text, mask).sample
                v_neg = pipeline.unet(x, time, no_text, no_mask).sample
                x = x + (then - now) * (v_neg + 3.0 * (v - v_neg))
            std, mean = torch.tensor([[1.0, 0.5, 2.0, 1.5], [0.1, -0.2, 0.3, 0.0]]).view(2, 4, 1, 1)
            expected = (pipeline.vae.decode(x * std / 0.8 + mean).sample / 2 + 0.5).clamp(0, 1)
        call = dict(
            negative_prompt="blue", guidance_scale=3.0, sigmas=[1.0, 0.5, 0.001], generator=seeded(3), output_type="pt"
        )
        assert torch.allclose(pipeline("a red cube", **call).images, expected, atol=2e-5)

    def test_default_steps_and_guidance(self, pipeline):
        steps = []
        images = pipeline("a cube", callback_on_step_end=lambda p, i, t, k: steps.append(p.guidance_scale) or k).images
        assert steps == [4.0] * 28
        assert images[0].size == (8, 8)

    def test_same_seed_same_result_and_nothing_is_changed(self, pipeline):
        parts = {name: part for name, part in pipeline.components.items() if not name.startswith("tokenizer")}
        before = copy.deepcopy({name: state_of(part) for name, part in parts.items()})
        sides = [pipeline.tokenizer.padding_side, pipeline.tokenizer_3.padding_side]
        first = latents_of(pipeline, "a red cube", generator=seeded(0))
        assert torch.equal(first, latents_of(pipeline, "a red cube", generator=seeded(0)))
        assert not torch.equal(first, latents_of(pipeline, "a red cube", generator=seeded(1)))
        for name, part in parts.items():
            now = state_of(part)
            assert now.keys() == before[name].keys()
            for key, value in now.items():
                same = torch.equal(value, before[name][key]) if torch.is_tensor(value) else value == before[name][key]
                assert same, f"{name}.{key}"
        assert sides == [pipeline.tokenizer.padding_side, pipeline.tokenizer_3.padding_side] == ["right", "left"]

    def test_a_sample_does_not_depend_on_its_batch(self, pipeline):
        prompts = ["a red cube", "two green cone", "the blue sphere right of a cube"]
        batch = latents_of(pipeline, prompts, generator=seeded(4, 5, 6), negative_prompt="red")
        for index, (prompt, seed) in enumerate(zip(prompts, (4, 5, 6), strict=True)):
            alone = latents_of(pipeline, prompt, generator=seeded(seed), negative_prompt="red")
            torch.testing.assert_close(batch[index], alone[0], atol=1e-4, rtol=0)

    def test_one_generator_is_drawn_picture_after_picture(self, pipeline):
        torch.manual_seed(0)
        four = latents_of(pipeline, "a cube", num_images_per_prompt=4, generator=torch.Generator().manual_seed(9))
        two = latents_of(pipeline, "a cube", num_images_per_prompt=2, generator=torch.Generator().manual_seed(9))
        torch.testing.assert_close(four[:2], two, atol=1e-4, rtol=0)
        assert (four[0] - four[1]).abs().max() > 0.1

    def test_images_of_a_prompt_stand_together(self, pipeline):
        pair = latents_of(pipeline, ["a red cube", "blue"], num_images_per_prompt=2, generator=seeded(1, 2, 1, 2))
        alone = latents_of(pipeline, "blue", num_images_per_prompt=2, generator=seeded(1, 2))
        torch.testing.assert_close(pair[2:], alone, atol=1e-4, rtol=0)

    def test_output_types(self, pipeline):
        def make(kind, **kwargs):
            return pipeline("a cube", **STEPS, height=12, width=8, generator=seeded(0), output_type=kind, **kwargs)

        tensor = make("pt").images
        assert (tensor.shape, tensor.dtype) == ((1, 3, 12, 8), torch.float32)
        assert 0 <= tensor.min() < tensor.max() <= 1
        array = make("np").images
        assert (array.shape, array.dtype) == ((1, 12, 8, 3), np.float32)
        assert np.allclose(array, tensor.permute(0, 2, 3, 1))
        output = make("pil")
        assert isinstance(output, ImageOutput) and isinstance(output.images[0], Image.Image)
        assert output.images[0].size == (8, 12) and output.images[0].mode == "RGB"
        assert np.abs(np.asarray(output.images[0]) / 255 - array[0]).max() <= 0.5 / 255 + 1e-6
        (latents,) = make("latent", return_dict=False)
        assert (latents.shape, latents.dtype) == ((1, 4, 6, 4), torch.float32)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, components, dtype):
        reference = quiet(SnapGenPipeline(**components()))
        full = reference("a red cube", **STEPS, generator=seeded(0), output_type="pt").images
        half = reference.to(dtype)("a red cube", **STEPS, generator=seeded(0), output_type="pt").images
        assert half.dtype == torch.float32 and torch.isfinite(half).all()
        assert (half - full).abs().mean() < 0.03

    def test_latents_in(self, pipeline):
        noise = torch.randn((2, 4, 6, 4), generator=torch.Generator().manual_seed(0))
        given = latents_of(pipeline, ["a cube", "blue"], latents=noise)
        assert given.shape == noise.shape
        drawn = latents_of(pipeline, ["a cube", "blue"], height=12, generator=torch.Generator().manual_seed(0))
        again = latents_of(pipeline, ["a cube", "blue"], latents=drawn * 0 + noise, height=12, width=8)
        assert torch.equal(given, again)

    def test_guidance_of_one_and_less_is_none(self, pipeline):
        plain = latents_of(pipeline, "a cube", guidance_scale=1.0, generator=seeded(0))
        assert torch.equal(plain, latents_of(pipeline, "a cube", guidance_scale=0, generator=seeded(0)))
        nearly = latents_of(pipeline, "a cube", guidance_scale=1.0001, negative_prompt="red", generator=seeded(0))
        torch.testing.assert_close(plain, nearly, atol=1e-3, rtol=0)

    def test_negative_prompt_matters_and_may_be_blank(self, pipeline):
        blank = latents_of(pipeline, "a cube", negative_prompt=" ", generator=seeded(0))
        assert torch.equal(blank, latents_of(pipeline, "a cube", generator=seeded(0)))
        assert not torch.allclose(blank, latents_of(pipeline, "a cube", negative_prompt="red", generator=seeded(0)))

    def test_dynamic_shifting_follows_the_size(self, components):
        scheduler = FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=16
        )
        pipeline = quiet(SnapGenPipeline(**{**components("l"), "scheduler": scheduler}))
        times = []
        for size in (8, 16):  # 2 x 2 and 4 x 4 patches of 2 x 2 latents: the ends of the scale
            pipeline(
                "a cube",
                **STEPS,
                height=size,
                width=size,
                callback_on_step_end=lambda p, i, t, k: times.append(float(t)),
            )
        for time, shift in ((times[1], 0.5), (times[3], 1.15)):
            expected = np.exp(shift) / (np.exp(shift) + 1 / 0.001 - 1)
            assert time == pytest.approx(1000 * expected, rel=1e-4)

    def test_other_flow_schedulers(self, components):
        heun = FlowMatchHeunDiscreteScheduler()
        pipeline = quiet(SnapGenPipeline(**{**components("l"), "scheduler": heun}))
        assert latents_of(pipeline, "a cube").isfinite().all()
        assert pipeline.num_timesteps == 3  # two evaluations a step, one for the last
        with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler takes no sigmas"):
            pipeline("a cube", sigmas=[1.0])

    def test_diffusers_vae(self, components):
        torch.manual_seed(0)
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
        vae = AutoencoderKL(latent_channels=4, block_out_channels=(8, 8, 8), norm_num_groups=4, **blocks).eval()
        pipeline = quiet(SnapGenPipeline(**{**components("l"), "vae": vae}))
        assert pipeline("a cube", **STEPS, output_type="np").images.shape == (1, 16, 16, 3)


class TestText:
    def test_three_encoders_are_fused_as_sd3_does(self, pipeline):
        embeds, mask, _, _ = pipeline.encode_prompt(["a red cube", "blue"])
        ids = pipeline.tokenizer(["a red cube", "blue"], padding="max_length", max_length=8, return_tensors="pt")
        with torch.no_grad():
            clip_l = pipeline.text_encoder(ids.input_ids, output_hidden_states=True).hidden_states[-2]
            clip_g = pipeline.text_encoder_2(ids.input_ids, output_hidden_states=True).hidden_states[-2]
            short = torch.tensor([[1, 4, 6, 9, 2], [1, 8, 2, 0, 0]])  # <s> a red cube </s>
            gemma = pipeline.text_encoder_3(short, attention_mask=(short > 0).long()).last_hidden_state
        assert embeds.shape == (2, 8 + 12, 32)
        torch.testing.assert_close(embeds[:, :8], torch.cat([clip_l, clip_g], -1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(embeds[0, 8:13], gemma[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(embeds[1, 8:11], gemma[1, :3], atol=1e-5, rtol=1e-5)
        assert mask.sum(1).tolist() == [5 + 5, 3 + 3]
        assert mask[1].nonzero().flatten().tolist() == [0, 1, 2, 8, 9, 10]

    def test_padding_does_not_reach_the_picture(self, one_encoder):
        embeds, mask, negative, negative_mask = one_encoder.encode_prompt("a red cube")
        call = {"generator": seeded(0), "negative_prompt_embeds": negative}
        whole = latents_of(one_encoder, prompt_embeds=embeds, prompt_attention_mask=mask,
                           negative_prompt_attention_mask=negative_mask, **call)  # fmt: skip
        call["generator"] = seeded(0)
        noisy = embeds + 5 * (~mask)[..., None]
        other = latents_of(one_encoder, prompt_embeds=noisy, prompt_attention_mask=mask,
                           negative_prompt_attention_mask=negative_mask, **call)  # fmt: skip
        torch.testing.assert_close(whole, other, atol=1e-5, rtol=0)

    def test_fusion_pads_and_drops(self):
        left, g, t = torch.ones(2, 3, 4), 2 * torch.ones(2, 3, 5), 3 * torch.ones(2, 6, 12)
        mask_l, mask_g, mask_t = (torch.tensor(m).bool() for m in ([[1, 1, 0]] * 2, [[1, 0, 0]] * 2, [[1] * 6] * 2))
        both, mask = fuse_text_features((left, mask_l), (g, mask_g), (t, mask_t), 12, 4)
        assert both[0, 0].tolist() == [1.0] * 4 + [2.0] * 5 + [0.0] * 3
        assert both[0, 3].tolist() == [3.0] * 12
        assert mask[0].tolist() == [True, True, False] + [True] * 6
        only_g, _ = fuse_text_features(None, (g, mask_g), None, 12, 4)
        assert only_g.shape == (2, 3, 12) and only_g[0, 0].tolist() == [0.0] * 4 + [2.0] * 5 + [0.0] * 3
        only_l, _ = fuse_text_features((left, mask_l), None, None, 12, 4)
        assert only_l[0, 0].tolist() == [1.0] * 4 + [0.0] * 8
        only_t, _ = fuse_text_features(None, None, (t, mask_t), 12, 4)
        assert only_t is not t and torch.equal(only_t, t)
        with pytest.raises(ValueError, match="no text features"):
            fuse_text_features(None, None, None, 12)
        with pytest.raises(ValueError, match="12 channels wide, but the UNet takes 8"):
            fuse_text_features(None, None, (t, mask_t), 8)

    @pytest.mark.parametrize("encoders", ["l", "g", "3", "lg", "l3", "g3"])
    def test_encoders_may_be_missing(self, components, encoders):
        pipeline = quiet(SnapGenPipeline(**components(encoders)))
        embeds, mask, negative, _ = pipeline.encode_prompt("a red cube")
        tokens = 8 * bool(set(encoders) & set("lg")) + 12 * ("3" in encoders)
        assert embeds.shape == negative.shape == (1, tokens, 32) and mask.shape == (1, tokens)
        assert latents_of(pipeline, "a red cube").shape == (1, 4, 4, 4)

    def test_clip_g_keeps_its_channels_without_clip_l(self, pipeline, tmp_path):
        whole, _, _, _ = pipeline.encode_prompt("a red cube")
        pipeline.save_pretrained(tmp_path)
        partial = SnapGenPipeline.from_pretrained(tmp_path, text_encoder=None, tokenizer=None, text_encoder_3=None)
        embeds, _, _, _ = partial.encode_prompt("a red cube")
        assert torch.equal(embeds[..., :16], torch.zeros(1, 8, 16))
        torch.testing.assert_close(embeds[..., 16:], whole[:, :8, 16:])

    @pytest.mark.parametrize("gone", [["text_encoder"], ["text_encoder_3"], ["text_encoder", "text_encoder_2"]])
    def test_dropping_in_training_is_missing_at_inference(self, pipeline, gone):
        """The UNet sees no difference between the two."""
        prompts = ["two green cone", "a red cube"]
        embeds, mask, _, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, dropped=[(), gone])
        other, other_mask, _, _ = pipeline.without(gone).encode_prompt(prompts[1])
        x, time = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([300.0])
        with torch.no_grad():
            missing = pipeline.unet(x, time, other, other_mask).sample
            dropped = pipeline.unet(x, time, embeds[1:], mask[1:]).sample
            whole = pipeline.unet(x, time, *pipeline.encode_prompt(prompts[1])[:2]).sample
        torch.testing.assert_close(dropped, missing, atol=1e-5, rtol=1e-5)
        assert (dropped - whole).abs().max() > 1e-4
        kept, kept_mask, _, _ = pipeline.encode_prompt(prompts[0])
        torch.testing.assert_close(embeds[:1], kept)
        assert torch.equal(mask[:1], kept_mask)
        assert pipeline.text_encoder is not None

    def test_dropping_every_encoder_is_the_empty_prompt(self, pipeline):
        embeds, mask, negative, negative_mask = pipeline.encode_prompt(
            "a red cube", dropped=[["text_encoder", "text_encoder_2", "text_encoder_3"]]
        )
        assert torch.equal(embeds, negative) and torch.equal(mask, negative_mask)
        with pytest.raises(ValueError, match="dropped has 1 entries, but there are 2 prompts"):
            pipeline.encode_prompt(["a", "b"], dropped=[()])
        with pytest.raises(ValueError, match="dropped must be one of text_encoder, .* not 'gemma'"):
            pipeline.encode_prompt("a", dropped=[["gemma"]])
        with pytest.raises(ValueError, match="encoders must be one of"):
            pipeline.without("gemma")

    def test_single_encoder_of_the_unets_width_passes_unchanged(self, components):
        pipeline = SnapGenPipeline(**components("3"))
        embeds, mask, _, _ = pipeline.encode_prompt("a red cube")
        ids = torch.tensor([[1, 4, 6, 9, 2] + [0] * 7])
        with torch.no_grad():
            hidden = pipeline.text_encoder_3(ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(embeds, hidden)

    def test_embeddings_in_equal_prompts(self, pipeline):
        prompts = ["a red cube", "blue"]
        call = {"num_images_per_prompt": 2, "generator": seeded(1, 2, 3, 4)}
        expected = latents_of(pipeline, prompts, negative_prompt="cone", **call)
        embeds, mask, negative, negative_mask = pipeline.encode_prompt(prompts, "cone")
        given = latents_of(
            pipeline,
            prompt_embeds=embeds,
            prompt_attention_mask=mask,
            negative_prompt_embeds=negative,
            negative_prompt_attention_mask=negative_mask,
            num_images_per_prompt=2,
            generator=seeded(1, 2, 3, 4),
        )
        assert torch.equal(expected, given)

    def test_embeddings_need_no_encoder_and_may_differ_in_length(self, components):
        pipeline = quiet(SnapGenPipeline(**components("")))
        torch.manual_seed(0)
        call = {"prompt_embeds": torch.randn(1, 3, 32), "generator": seeded(0)}
        negative = torch.randn(1, 5, 32)
        first = latents_of(pipeline, negative_prompt_embeds=negative, **call)
        padded = torch.cat([call["prompt_embeds"], torch.ones(1, 2, 32)], 1)
        mask = torch.tensor([[1, 1, 1, 0, 0]])
        call = {"prompt_embeds": padded, "prompt_attention_mask": mask, "generator": seeded(0)}
        second = latents_of(pipeline, negative_prompt_embeds=negative, **call)
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="no text encoder: pass prompt_embeds"):
            pipeline("a cube")
        with pytest.raises(ValueError, match="no text encoder: pass negative_prompt_embeds"):
            pipeline(prompt_embeds=padded)
        with pytest.raises(ValueError, match="no text encoder"):
            pipeline.encode_prompt("a cube")
        assert latents_of(pipeline, prompt_embeds=padded, guidance_scale=1.0).shape == (1, 4, 4, 4)

    def test_long_prompts_are_cut_with_a_warning(self, one_encoder, caplog):
        import diffusers

        logger = diffusers.utils.logging.get_logger("pocket_diffusers.pipelines.pipeline_snapgen")
        logger.addHandler(caplog.handler)
        latents_of(one_encoder, "a red cube and a blue sphere left of two cone")
        logger.removeHandler(caplog.handler)
        assert "text_encoder reads 8 of the 13 tokens" in caplog.text


class TestCallbacks:
    def test_callback_sees_and_replaces_tensors(self, pipeline):
        seen = []

        def zero_at_the_end(pipe, step, timestep, tensors):
            seen.append((step, float(timestep), sorted(tensors), tensors["prompt_embeds"].shape[0]))
            return {"latents": tensors["latents"] * 0} if step == 1 else {}

        names = ["latents", "prompt_embeds", "prompt_attention_mask"]
        latents = latents_of(
            pipeline, "a cube", callback_on_step_end=zero_at_the_end, callback_on_step_end_tensor_inputs=names
        )
        assert torch.equal(latents, torch.zeros(1, 4, 4, 4))
        assert [entry[0] for entry in seen] == [0, 1]
        assert seen[0][1] == 1000 and seen[0][2] == sorted(names) and seen[0][3] == 2
        assert pipeline.num_timesteps == 2

    def test_interrupt_stops_after_the_running_step(self, pipeline):
        steps = []

        def stop(pipe, step, timestep, tensors):
            steps.append(step)
            pipe._interrupt = step == 2
            return tensors

        pipeline("a cube", num_inference_steps=9, callback_on_step_end=stop)
        assert steps == [0, 1, 2] and pipeline.interrupt
        latents_of(pipeline, "a cube")
        assert not pipeline.interrupt

    def test_guidance_may_be_cut_off_on_the_way(self, pipeline):
        """diffusers' own callback, against a run that is continued without guidance by hand."""
        cut = latents_of(pipeline, "a cube", callback_on_step_end=SDCFGCutoffCallback(cutoff_step_index=0,
                         cutoff_step_ratio=None), generator=seeded(0))  # fmt: skip

        def by_hand(pipe, step, timestep, tensors):
            pipe._guidance_scale = 0.0
            return tensors

        assert torch.equal(cut, latents_of(pipeline, "a cube", callback_on_step_end=by_hand, generator=seeded(0)))
        assert not torch.equal(cut, latents_of(pipeline, "a cube", generator=seeded(0)))

    def test_progress_bar(self, pipeline, capsys):
        pipeline.set_progress_bar_config(disable=False)
        pipeline("a cube", num_inference_steps=3)
        assert "3/3" in capsys.readouterr().err


EMBEDS = torch.zeros(1, 3, 32)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": []}, "prompt must be a string or a list"),
        ({"prompt": ["a", " "]}, r"prompt \(entry 1\) is empty"),
        ({"prompt": 3}, "prompt must be a string or a list.*not 3"),
        ({"prompt": ["a", None]}, "prompt must be a string or a list"),
        ({"prompt": None}, "either prompt or prompt_embeds"),
        ({"prompt_embeds": EMBEDS}, "not both"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt is a list of 2, but there are 1"),
        ({"negative_prompt": 5}, "negative_prompt must be"),
        ({"negative_prompt": "a", "negative_prompt_embeds": EMBEDS}, "not both"),
        ({"negative_prompt_embeds": EMBEDS.repeat(2, 1, 1)}, "holds 2 prompts"),
        ({"negative_prompt_embeds": EMBEDS[..., :7]}, r"must be \[prompts, tokens, 32\], not \[1, 3, 7\]"),
        ({"prompt": None, "prompt_embeds": EMBEDS[0]}, r"prompt_embeds must be \[prompts, tokens, 32\]"),
        ({"prompt": None, "prompt_embeds": EMBEDS, "prompt_attention_mask": torch.ones(1, 4)}, r"must be \[1, 3\]"),
        ({"prompt_attention_mask": torch.ones(1, 4)}, "prompt_attention_mask needs prompt_embeds"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of at least 1, not 0"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt must be"),
        ({"guidance_scale": -1}, "guidance_scale must be a number of at least 0, not -1"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"height": 10}, "height must be a multiple of 4 pixels, not 10: the nearest is 8 or 12"),
        ({"width": 0}, "width must be a whole number of at least 1"),
        ({"width": "8"}, "width must be a whole number"),
        ({"output_type": "jpg"}, "output_type must be one of pil, np, pt, latent, not 'jpg'"),
        ({"generator": [torch.Generator()] * 2}, "generator is a list of 2, but 1 samples"),
        ({"generator": 0}, "generator must be a torch.Generator"),
        ({"latents": torch.zeros(2, 4, 4, 4)}, r"latents must be \[1, 4, 4, 4\], not \[2, 4, 4, 4\]"),
        ({"latents": torch.zeros(1, 3, 4, 4)}, "latents must be"),
        ({"latents": torch.zeros(1, 4, 4, 4), "height": 12}, r"latents must be \[1, 4, 6, 4\]"),
        ({"latents": torch.zeros(1, 4, 3, 4)}, "height must be a multiple of 4"),
        ({"latents": torch.zeros(4)}, r"latents must be \[1, 4, 4, 4\], not \[4\]"),
        ({"sigmas": []}, "sigmas must fall"),
        ({"sigmas": [0.5, 1.0]}, "sigmas must fall"),
        ({"sigmas": [1.5]}, "sigmas must be a number from 0 to 1"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "must be one of latents, prompt_embeds"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(pipeline, monkeypatch, kwargs, message):
    monkeypatch.setattr(SnapGenPipeline, "_conditioning", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(ValueError, match=message) as caught:
        pipeline(**{"prompt": "a cube", **kwargs})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": None}, "text_encoder needs its tokenizer"),
        ({"clip_l_width": 8}, "clip_l_width is 8, but text_encoder is 16 wide"),
        ({"clip_l_width": 24, "text_encoder": None}, r"24 \+ 16 \(CLIP\) and 32 \(Gemma\)"),
    ],
)
def test_components_that_do_not_fit(components, change, message):
    with pytest.raises(ValueError, match=message):
        SnapGenPipeline(**{**components(), **change})


def test_save_and_load_is_bit_exact(pipeline, tmp_path):
    before = latents_of(pipeline, "a red cube", generator=seeded(0))
    pipeline.save_pretrained(tmp_path)
    again = quiet(SnapGenPipeline.from_pretrained(tmp_path))
    assert torch.equal(before, latents_of(again, "a red cube", generator=seeded(0)))
    assert again.parameters == pipeline.parameters
    half = SnapGenPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.unet.dtype == half.text_encoder.dtype == half.vae.dtype == torch.bfloat16


def test_offload_order_names_every_model(pipeline):
    named = pipeline.model_cpu_offload_seq.split("->")
    models = [name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)]
    assert sorted(named) == sorted(models)


def test_every_model_runs_through_its_offload_hook(pipeline):
    """`enable_model_cpu_offload` moves a model when accelerate's hook on it is called."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    called = []

    class Record(ModelHook):
        def __init__(self, name):
            self.name = name

        def pre_forward(self, module, *args, **kwargs):
            called.append(self.name)
            return args, kwargs

    names = pipeline.model_cpu_offload_seq.split("->")
    for name in names:
        add_hook_to_module(getattr(pipeline, name), Record(name))
    pipeline("a red cube", **STEPS)
    assert list(dict.fromkeys(called)) == names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="offloading needs CUDA")
@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_offloading_gives_the_same_picture(components, offload):
    on_cpu = quiet(SnapGenPipeline(**components()))
    expected = latents_of(on_cpu, "a red cube", generator=seeded(0))
    getattr(on_cpu, offload)()
    torch.testing.assert_close(latents_of(on_cpu, "a red cube", generator=seeded(0)).cpu(), expected, atol=1e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_nano_model_draws_in_half_precision_on_a_gpu_what_it_draws_on_a_cpu():
    asked = {"prompt": ["a red cube", "two yellow spheres"], "num_inference_steps": 8, "output_type": "pt"}
    drawn = []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.float16)):
        nano = quiet(SnapGenPipeline.from_pretrained(checkpoint("snapgen-nano"), dtype=dtype)).to(device)
        drawn.append(nano(**asked, generator=seeded(0, 1)).images.float().cpu())
    assert psnr(*drawn, peak=1.0).min() > 45
