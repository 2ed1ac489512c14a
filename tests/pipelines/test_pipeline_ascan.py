"""The contract of AsCANPipeline, on tiny real components."""

import copy
import json

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines import pipeline_utils
from diffusers.utils import dynamic_modules_utils
from PIL import Image

from pocket_diffusers.hub_models.autoencoder_snapgen import AutoencoderSnapGen
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.outputs import ImageOutput
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.repository import save_repository

STEPS = {"num_inference_steps": 2}
NAMES = {0: "red cube", 1: "red cone", 2: "blue cube, azure cube", 3: "blue cone", 4: "crane", 5: "crane"}
TEXT = {"num_classes": None, "cross_attention_dim": 12}


def make_unet(**changes):
    torch.manual_seed(0)
    options = {
        "sample_size": 4, "in_channels": 4, "out_channels": 4, "down_stages": ("C", "T"), "widths": (16, 32),
        "expansion": 2, "head_dim": 8, "ffn_ratio": 2, "num_classes": 6, "emb_dim": 16,
    }  # fmt: skip
    unet = AsCANUNet2DModel(**{**options, **changes}).eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)  # a new UNet predicts nothing
    return unet


def make_vae():
    torch.manual_seed(1)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, scaling_factor=0.5, shift_factor=0.1, **blocks
    ).eval()


def tiny_vae():
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return AutoencoderTiny(latent_channels=4, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), **widths)


def snapgen_vae():
    return AutoencoderSnapGen(
        latent_channels=4, encoder_channels=(8, 16, 16), encoder_layers_per_block=1, encoder_mid_attention=False,
        decoder_channels=(16, 8, 8), decoder_layers_per_stage=1, norm_num_groups=4, sample_size=16,
    )  # fmt: skip


def make(id2label=NAMES, vae=None, scheduler=None, **unet) -> AsCANPipeline:
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=1.5)
    pipeline = AsCANPipeline(make_unet(**unet), vae or make_vae(), scheduler, id2label)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline() -> AsCANPipeline:
    """Six classes, 8 x 8 pixels, multiples of 4."""
    return make()


@pytest.fixture
def of_text() -> AsCANPipeline:
    return make(id2label=None, **TEXT)


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def latents_of(pipeline: AsCANPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, **{**STEPS, "output_type": "latent", **kwargs}).images


def state_of(component) -> dict:
    return component.state_dict() if isinstance(component, torch.nn.Module) else vars(component)


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
        pipeline = make(scheduler=scheduler)
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
        pipeline, seen = make(scheduler=scheduler), []
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
        pipeline = make(scheduler=scheduler)
        pair = latents_of(pipeline, [0, 1], generator=seeded(1, 2))
        assert pair.isfinite().all()
        torch.testing.assert_close(pair[1:], latents_of(pipeline, 1, generator=seeded(2)), atol=1e-4, rtol=1e-4)

    def test_default_steps_and_guidance(self, pipeline):
        steps = []
        images = pipeline(4, callback_on_step_end=lambda p, i, t, k: steps.append(p.guidance_scale) or k)
        assert steps == [4.0] * 50 and images.images[0].size == (8, 8)

    def test_same_seed_same_result_and_nothing_is_changed(self, pipeline):
        before = copy.deepcopy({name: state_of(part) for name, part in pipeline.components.items()})
        first = latents_of(pipeline, 0, generator=seeded(0))
        assert torch.equal(first, latents_of(pipeline, 0, generator=seeded(0)))
        assert not torch.equal(first, latents_of(pipeline, 0, generator=seeded(1)))
        assert not torch.equal(first, latents_of(pipeline, 1, generator=seeded(0)))
        for name, part in pipeline.components.items():
            now = state_of(part)
            assert now.keys() == before[name].keys()
            for key, value in now.items():
                same = torch.equal(value, before[name][key]) if torch.is_tensor(value) else value == before[name][key]
                assert same, f"{name}.{key}"

    def test_a_sample_does_not_depend_on_its_batch(self, pipeline):
        batch = latents_of(pipeline, [3, "red cube", 5], generator=seeded(4, 5, 6))
        for index, (label, seed) in enumerate(zip((3, 0, 5), (4, 5, 6), strict=True)):
            alone = latents_of(pipeline, label, generator=seeded(seed))
            torch.testing.assert_close(batch[index], alone[0], atol=1e-4, rtol=0)

    def test_one_generator_is_drawn_picture_after_picture(self, pipeline):
        four = latents_of(pipeline, [1] * 4, generator=torch.Generator().manual_seed(9))
        two = latents_of(pipeline, [1] * 2, generator=torch.Generator().manual_seed(9))
        torch.testing.assert_close(four[:2], two, atol=1e-4, rtol=0)
        assert (four[0] - four[1]).abs().max() > 0.1

    def test_images_of_a_class_stand_together(self, pipeline):
        pair = latents_of(pipeline, [0, 3], num_images_per_class=2, generator=seeded(1, 2, 1, 2))
        alone = latents_of(pipeline, 3, num_images_per_class=2, generator=seeded(1, 2))
        torch.testing.assert_close(pair[2:], alone, atol=1e-4, rtol=0)

    def test_output_types(self, pipeline):
        def draw(kind, **kwargs):
            return pipeline(1, **STEPS, height=12, width=8, generator=seeded(0), output_type=kind, **kwargs)

        tensor = draw("pt").images
        assert (tensor.shape, tensor.dtype) == ((1, 3, 12, 8), torch.float32)
        assert 0 <= tensor.min() < tensor.max() <= 1
        array = draw("np").images
        assert (array.shape, array.dtype) == ((1, 12, 8, 3), np.float32)
        assert np.allclose(array, tensor.permute(0, 2, 3, 1))
        output = draw("pil")
        assert isinstance(output, ImageOutput) and isinstance(output.images[0], Image.Image)
        assert output.images[0].size == (8, 12) and output.images[0].mode == "RGB"
        (latents,) = draw("latent", return_dict=False)
        assert (latents.shape, latents.dtype) == ((1, 4, 6, 4), torch.float32)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, pipeline, dtype):
        full = pipeline(0, **STEPS, generator=seeded(0), output_type="pt").images
        half = pipeline.to(dtype)(0, **STEPS, generator=seeded(0), output_type="pt").images
        assert half.dtype == torch.float32 and torch.isfinite(half).all()
        assert (half - full).abs().mean() < 0.03

    def test_latents_in(self, pipeline):
        noise = torch.randn((2, 4, 6, 4), generator=torch.Generator().manual_seed(0))
        given = latents_of(pipeline, [0, 1], latents=noise)
        assert given.shape == noise.shape
        drawn = latents_of(pipeline, [0, 1], height=12, width=8, generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(drawn).all()
        one = latents_of(pipeline, 0, height=12, generator=torch.Generator().manual_seed(0))
        same = latents_of(pipeline, 0, latents=torch.randn((1, 4, 6, 4), generator=torch.Generator().manual_seed(0)))
        assert torch.equal(one, same)

    def test_guidance_of_one_and_less_is_none(self, pipeline):
        plain = latents_of(pipeline, 0, guidance_scale=1.0, generator=seeded(0))
        assert torch.equal(plain, latents_of(pipeline, 0, guidance_scale=0, generator=seeded(0)))
        nearly = latents_of(pipeline, 0, guidance_scale=1.0001, generator=seeded(0))
        torch.testing.assert_close(plain, nearly, atol=1e-3, rtol=0)

    @pytest.mark.parametrize(("vae", "side"), [(tiny_vae, 8), (snapgen_vae, 16)])
    def test_other_autoencoders(self, vae, side):
        assert make(vae=vae().eval())(0, **STEPS, output_type="np").images.shape == (1, side, side, 3)


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
        pipeline = make(id2label=None)
        assert pipeline.labels == {str(number): number for number in range(6)}

    def test_names_are_kept_as_json_keeps_them(self):
        as_json = json.loads(json.dumps({str(number): name for number, name in NAMES.items()}))
        assert make(id2label=as_json).labels == make().labels
        assert make(id2label=as_json).config.id2label == make().config.id2label

    @pytest.mark.parametrize(
        ("id2label", "message"),
        [
            ({0: "a"}, r"id2label must name the 6 classes 0 to 5, but it names \[0\]"),
            ({**NAMES, 6: "b"}, "must name the 6 classes"),
            ({**NAMES, "x": "b"}, "id2label must be a dictionary, number -> name"),
            (["a"] * 6, "id2label must be a dictionary"),
            ({**NAMES, 3: 7}, r"id2label\[3\] must be a name, not 7"),
            ({**NAMES, 3: " "}, r"id2label\[3\] must be a name"),
        ],
    )
    def test_names_that_are_not_complete(self, id2label, message):
        with pytest.raises(ValueError, match=message):
            make(id2label=id2label)


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
        pipeline = make(cross_attention_dim=12)
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


class TestCallbacks:
    def test_callback_sees_and_replaces_tensors(self, pipeline):
        seen = []

        def zero_at_the_end(pipe, step, timestep, tensors):
            seen.append((step, float(timestep), tensors["class_labels"].tolist()))
            return {"latents": tensors["latents"] * 0} if step == 1 else {}

        names = ["latents", "class_labels"]
        latents = latents_of(
            pipeline, [3, 1], callback_on_step_end=zero_at_the_end, callback_on_step_end_tensor_inputs=names
        )
        assert torch.equal(latents, torch.zeros(2, 4, 4, 4))
        assert [entry[0] for entry in seen] == [0, 1] and seen[0][1] == 1000 and seen[0][2] == [6, 6, 3, 1]
        assert pipeline.num_timesteps == 2

    def test_interrupt_stops_after_the_running_step(self, pipeline):
        steps = []

        def stop(pipe, step, timestep, tensors):
            steps.append(step)
            pipe._interrupt = step == 2
            return tensors

        pipeline(0, num_inference_steps=9, callback_on_step_end=stop)
        assert steps == [0, 1, 2] and pipeline.interrupt
        latents_of(pipeline, 0)
        assert not pipeline.interrupt

    def test_guidance_may_be_cut_off_on_the_way(self, pipeline):
        def cut(pipe, step, timestep, tensors):
            pipe._guidance_scale = 1.0
            return tensors

        shortened = latents_of(pipeline, [0, 1], callback_on_step_end=cut, generator=seeded(0, 1))
        assert not torch.equal(shortened, latents_of(pipeline, [0, 1], generator=seeded(0, 1)))

    def test_progress_bar(self, pipeline, capsys):
        pipeline.set_progress_bar_config(disable=False)
        pipeline(0, num_inference_steps=3)
        assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"class_labels": None}, "class_labels are needed: numbers from 0 to 5, or names out of `labels`"),
        ({"class_labels": []}, "class_labels is empty"),
        ({"class_labels": 6}, "class_labels must be numbers from 0 to 5 or class names, not 6"),
        ({"class_labels": [0, -1]}, "not -1"),
        ({"class_labels": 1.5}, "not 1.5"),
        ({"class_labels": torch.tensor([0.5])}, "not 0.5"),
        ({"class_labels": True}, "not True"),
        ({"class_labels": [None]}, "not None"),
        ({"class_labels": "red kube"}, "no class is named 'red kube': the nearest are 'red cube', "),
        ({"class_labels": ["zzz"]}, "no class is named 'zzz': the nearest are 'azure cube', 'blue cone', 'blue cube'"),
        ({"class_labels": "crane"}, "the name 'crane' belongs to the classes 4 and 5: pass the number"),
        (
            {"prompt_embeds": torch.zeros(1, 3, 12)},
            "prompt_embeds cannot be used: this UNet was made for classes alone",
        ),
        ({"negative_prompt_attention_mask": torch.zeros(1, 3)}, "negative_prompt_embeds cannot be used"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of at least 1, not 0"),
        ({"num_images_per_class": 0}, "num_images_per_class must be"),
        ({"guidance_scale": -1}, "guidance_scale must be a number of at least 0, not -1"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"height": 10}, "height must be a multiple of 4 pixels, not 10: the nearest is 8 or 12"),
        ({"width": "8"}, "width must be a whole number"),
        ({"output_type": "jpg"}, "output_type must be one of pil, np, pt, latent, not 'jpg'"),
        ({"generator": [torch.Generator()] * 2}, "generator is a list of 2, but 1 samples"),
        ({"generator": 0}, "generator must be a torch.Generator"),
        ({"latents": torch.zeros(2, 4, 4, 4)}, r"latents must be \[1, 4, 4, 4\], not \[2, 4, 4, 4\]"),
        ({"latents": torch.zeros(1, 4, 3, 4)}, "height must be a multiple of 4"),
        ({"latents": torch.zeros(4)}, r"latents must be \[1, 4, 4, 4\], not \[4\]"),
        ({"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}, "must be one of latents, class_labels, not"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(pipeline, monkeypatch, kwargs, message):
    monkeypatch.setattr(AsCANPipeline, "_predict", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(ValueError, match=message) as caught:
        pipeline(**{"class_labels": 0, **kwargs})
    assert len(str(caught.value).splitlines()) == 1


def test_components_that_do_not_fit():
    with pytest.raises(ValueError, match="the UNet takes 5 and makes 4 latent channels, but the vae has 4"):
        make(in_channels=5)
    with pytest.raises(ValueError, match="takes 4 and makes 8 latent channels"):
        make(out_channels=8)
    with pytest.raises(ValueError, match="neither num_classes nor cross_attention_dim"):
        make(id2label=None, num_classes=None)
    with pytest.raises(ValueError, match="id2label cannot be used"):
        make(**TEXT)
    with pytest.raises(ValueError, match="use_dynamic_shifting=True"):
        make(scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))(0)


def realigned(pipeline):
    """A loaded pipeline with its weights at addresses like new ones': kernels round by alignment, in the last bit."""
    for part in pipeline.components.values():
        for tensor in (*part.parameters(), *part.buffers()) if isinstance(part, torch.nn.Module) else ():
            tensor.data = tensor.data.clone()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_save_and_load_is_bit_exact(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_utils.logger, "warning", pytest.fail)
    before = latents_of(pipeline, "azure cube", generator=seeded(0))
    pipeline.save_pretrained(tmp_path)
    again = realigned(AsCANPipeline.from_pretrained(tmp_path))
    assert torch.equal(before, latents_of(again, "azure cube", generator=seeded(0)))
    assert again.labels == pipeline.labels and again.config.id2label == pipeline.config.id2label
    assert AsCANPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_text_pipeline_survives_saving(of_text, tmp_path):
    of_text.save_pretrained(tmp_path)
    assert AsCANPipeline.from_pretrained(tmp_path).labels == {}


def test_plain_diffusers_loads_the_repository(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = save_repository(pipeline, tmp_path / "ascan-tiny", dtype=torch.float32, readme="a card")
    assert (folder / "pipeline_ascan.py").is_file()
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_ascan", "AsCANPipeline"]
    assert index["unet"] == ["pocket_diffusers.hub_models.unet_ascan", "AsCANUNet2DModel"]
    loaded = realigned(DiffusionPipeline.from_pretrained(folder, trust_remote_code=True))
    assert type(loaded) is AsCANPipeline
    expected = latents_of(pipeline, "red cube", generator=seeded(0))
    assert torch.equal(expected, latents_of(loaded, "red cube", generator=seeded(0)))


def test_offload_order_names_every_model(pipeline):
    named = pipeline.model_cpu_offload_seq.split("->")
    models = [name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)]
    assert sorted(named) == sorted(models)
