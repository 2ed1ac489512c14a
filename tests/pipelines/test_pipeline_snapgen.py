"""What SnapGenPipeline computes, on tiny real components; what all pipelines promise is in `tests/contracts`."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from contract_cases import seeded
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.callbacks import SDCFGCutoffCallback
from tiny_snapgen import make_pipeline

from pocket_diffusers import checkpoint
from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline, fuse_text_features

STEPS = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipeline() -> SnapGenPipeline:
    """All three text encoders, shared by tests that leave it as it was."""
    return make_pipeline()


@pytest.fixture(scope="module")
def one_encoder() -> SnapGenPipeline:
    """CLIP-L alone, as the nano checkpoint has it; likewise."""
    return make_pipeline("l")


def latents_of(pipeline: SnapGenPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, **{**STEPS, "output_type": "latent", **kwargs}).images


def test_threads_do_not_mix_each_other_s_tokens(one_encoder):
    def tokens(words: int) -> torch.Tensor:
        return one_encoder._tokens("text_encoder", ["a red cube " * words], length=16)[0]

    counts = [1 + index % 8 for index in range(400)]
    alone = {count: tokens(count) for count in set(counts)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(tokens, counts))
    assert all(torch.equal(ids, alone[count]) for ids, count in zip(found, counts, strict=True))


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

    def test_negative_prompt_matters_and_may_be_blank(self, pipeline):
        blank = latents_of(pipeline, "a cube", negative_prompt=" ", generator=seeded(0))
        assert torch.equal(blank, latents_of(pipeline, "a cube", generator=seeded(0)))
        assert not torch.allclose(blank, latents_of(pipeline, "a cube", negative_prompt="red", generator=seeded(0)))

    def test_dynamic_shifting_follows_the_size(self):
        scheduler = FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=16
        )
        pipeline = make_pipeline("l", scheduler=scheduler)
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

    def test_other_flow_schedulers(self):
        heun = FlowMatchHeunDiscreteScheduler()
        pipeline = make_pipeline("l", scheduler=heun)
        assert latents_of(pipeline, "a cube").isfinite().all()
        assert pipeline.num_timesteps == 3  # two evaluations a step, one for the last
        with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler takes no sigmas"):
            pipeline("a cube", sigmas=[1.0])

    def test_diffusers_vae(self):
        torch.manual_seed(0)
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
        vae = AutoencoderKL(latent_channels=4, block_out_channels=(8, 8, 8), norm_num_groups=4, **blocks).eval()
        pipeline = make_pipeline("l", vae=vae)
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
    def test_encoders_may_be_missing(self, encoders):
        pipeline = make_pipeline(encoders)
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

    def test_single_encoder_of_the_unets_width_passes_unchanged(self):
        pipeline = make_pipeline("3")
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

    def test_embeddings_need_no_encoder_and_may_differ_in_length(self):
        pipeline = make_pipeline("")
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

        logger = diffusers.utils.logging.get_logger("pocket_diffusers.pipelines.sampling.prompted")
        logger.addHandler(caplog.handler)
        latents_of(one_encoder, "a red cube and a blue sphere left of two cone")
        logger.removeHandler(caplog.handler)
        assert "text_encoder reads 8 of the 13 tokens" in caplog.text


class TestCallbacks:
    def test_diffusers_own_callback_cuts_guidance_off(self, pipeline):
        """diffusers' own callback, against a run that is continued without guidance by hand."""
        cut = latents_of(pipeline, "a cube", callback_on_step_end=SDCFGCutoffCallback(cutoff_step_index=0,
                         cutoff_step_ratio=None), generator=seeded(0))  # fmt: skip

        def by_hand(pipe, step, timestep, tensors):
            pipe._guidance_scale = 0.0
            return tensors

        assert torch.equal(cut, latents_of(pipeline, "a cube", callback_on_step_end=by_hand, generator=seeded(0)))
        assert not torch.equal(cut, latents_of(pipeline, "a cube", generator=seeded(0)))


def test_every_model_runs_through_its_offload_hook():
    """`enable_model_cpu_offload` moves a model when accelerate's hook on it is called."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    called, pipeline = [], make_pipeline()

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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="offloading needs CUDA: run on a machine with an NVIDIA GPU")
@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_offloading_gives_the_same_picture(offload, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # whose 10 bits are not what a CPU computes
    on_cpu = make_pipeline()
    expected = latents_of(on_cpu, "a red cube", generator=seeded(0))
    getattr(on_cpu, offload)()
    torch.testing.assert_close(latents_of(on_cpu, "a red cube", generator=seeded(0)).cpu(), expected, atol=1e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: run on a machine with an NVIDIA GPU")
def test_the_nano_model_draws_in_half_precision_on_a_gpu_what_it_draws_on_a_cpu():
    asked = {"prompt": ["a red cube", "two yellow spheres"], "num_inference_steps": 8, "output_type": "pt"}
    drawn = []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.float16)):
        nano = SnapGenPipeline.from_pretrained(checkpoint("snapgen-nano"), dtype=dtype).to(device)
        drawn.append(nano(**asked, generator=seeded(0, 1)).images.float().cpu())
    assert psnr(*drawn, peak=1.0).min() > 45
