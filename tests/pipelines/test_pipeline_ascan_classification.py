"""The contract of AsCANImageClassificationPipeline, on a tiny model."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines import pipeline_utils
from diffusers.utils import dynamic_modules_utils
from PIL import Image

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.pipelines.outputs import ImageClassificationOutput
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.repository import save_repository

NAMES = {0: "zero", 1: "one", 2: "two"}
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)


def make_model(**changes) -> AsCANModel:
    options = {
        "stages": ("C", "T"), "widths": (8, 16), "stem_width": 8, "strides": (2, 2, 2), "image_size": 16,
        "head_dim": 8, "ffn_ratio": 2, "expansion": 2, "num_classes": 3,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AsCANModel(**{**options, **changes}).eval()
    for parameter in model.parameters():  # branches of a new model are nothing
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def make(id2label=NAMES, image_size=None, resize_mode="stretch", **model) -> AsCANImageClassificationPipeline:
    pipeline = AsCANImageClassificationPipeline(make_model(**model), id2label, image_size, resize_mode)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline() -> AsCANImageClassificationPipeline:
    """Three classes, 16 x 16 pixels, multiples of 8."""
    return make()


def test_result_is_the_models(pipeline):
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = pipeline.model(2 * pixels[None] - 1).logits
    output = pipeline(pixels)
    assert isinstance(output, ImageClassificationOutput)
    torch.testing.assert_close(output.logits, logits)
    order = logits[0].argsort(descending=True).tolist()
    assert output.labels == [tuple(NAMES[number] for number in order)]
    assert output.scores[0] == pytest.approx(logits[0].softmax(0)[order].tolist(), rel=1e-5)
    assert sum(output.scores[0]) == pytest.approx(1) and list(output.scores[0]) == sorted(output.scores[0])[::-1]


def test_every_kind_of_picture_gives_one_result(pipeline):
    pixels = torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255
    expected = pipeline(pixels).logits
    for images in (PIXELS, Image.fromarray(PIXELS), [PIXELS], pixels[None], PIXELS.astype(np.float32) / 255):
        torch.testing.assert_close(pipeline(images).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_picture_does_not_depend_on_its_batch(pipeline):
    images = [PIXELS, PIXELS[:9], PIXELS[:, :5], Image.fromarray(PIXELS).rotate(90)]
    whole = pipeline(images).logits
    assert whole.shape == (4, 3) and whole.dtype == torch.float32
    torch.testing.assert_close(whole, torch.cat([pipeline(image).logits for image in images]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole, pipeline(images, batch_size=3).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(whole, pipeline(images).logits)


def test_top_k_and_tuple(pipeline):
    assert len(pipeline(PIXELS, top_k=99).labels[0]) == 3
    labels, scores, logits = pipeline([PIXELS] * 2, top_k=1, return_dict=False)
    best = NAMES[int(logits[0].argmax())]
    assert labels == [(best,), (best,)] and len(scores[1]) == 1 and logits.shape == (2, 3)
    assert make(id2label=None)(PIXELS, top_k=1).labels[0][0] == str(int(logits[0].argmax()))


def test_grey_models_read_colour_pictures():
    pipeline = make(in_channels=1)
    grey = np.array(Image.fromarray(PIXELS).convert("L"))
    torch.testing.assert_close(pipeline(PIXELS).logits, pipeline(grey).logits, atol=0.02, rtol=0)
    assert torch.equal(pipeline(grey).logits, pipeline(np.dstack([grey] * 3)[..., :1]).logits)


def test_padding_keeps_proportions():
    wide = np.repeat(PIXELS[:8, :16], 1, 0)  # 8 x 16 in 16 x 16: four rows above and below repeat the edge
    by_hand = wide[np.clip(np.arange(16) - 4, 0, 7)]
    padded, stretched = make(resize_mode="pad"), make()
    torch.testing.assert_close(padded(wide).logits, padded(by_hand).logits)
    assert not torch.allclose(stretched(wide).logits, padded(wide).logits)


def test_image_size_is_a_setting():
    large = make(image_size=32)
    seen = []
    large.model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    large(PIXELS)
    assert seen == [(1, 3, 32, 32)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(pipeline, dtype):
    full = pipeline(PIXELS)
    half = pipeline.to(dtype)(PIXELS)
    assert half.logits.dtype == torch.float32 and half.logits.isfinite().all()
    assert (half.logits.softmax(1) - full.logits.softmax(1)).abs().max() < 0.05


def test_progress_bar(pipeline, capsys):
    pipeline.set_progress_bar_config(disable=False)
    pipeline([PIXELS] * 3, batch_size=2)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"images": [PIXELS, None]}, r"images\[1\] must be a PIL picture"),
        ({"images": np.full((4, 4, 3), np.nan)}, "holds NaN"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
    ],
)
def test_bad_input(pipeline, monkeypatch, kwargs, message):
    monkeypatch.setattr(AsCANModel, "forward", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(ValueError, match=message) as caught:
        pipeline(**{"images": PIXELS, **kwargs})
    assert len(str(caught.value).splitlines()) == 1


def test_models_and_settings_that_do_not_fit(pipeline):
    with pytest.raises(ValueError, match="the model has no classifier"):
        make(num_classes=None)
    with pytest.raises(ValueError, match="takes 4 channels, but pictures have 1 or 3"):
        make(in_channels=4)
    with pytest.raises(ValueError, match="id2label must name the 3 classes"):
        make(id2label={0: "a"})
    with pytest.raises(ValueError, match="image_size must be a multiple of 8 pixels, not 20"):
        make(image_size=20)
    with pytest.raises(ValueError, match="resize_mode must be one of stretch, pad, not 'crop'"):
        make(resize_mode="crop")
    pipeline.model.train()
    with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\) first"):
        pipeline(PIXELS)


def realigned(pipeline):
    """A loaded pipeline with its weights at addresses like new ones': kernels round by alignment, in the last bit."""
    for part in pipeline.components.values():
        for tensor in (*part.parameters(), *part.buffers()) if isinstance(part, torch.nn.Module) else ():
            tensor.data = tensor.data.clone()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_save_and_load_is_bit_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_utils.logger, "warning", pytest.fail)
    pipeline = make(resize_mode="pad", image_size=24)
    pipeline.save_pretrained(tmp_path)
    again = realigned(AsCANImageClassificationPipeline.from_pretrained(tmp_path))
    assert torch.equal(again(PIXELS).logits, pipeline(PIXELS).logits)
    assert again.labels == pipeline.labels == ("zero", "one", "two")
    assert dict(again.config)["resize_mode"] == "pad" and again.config.image_size == 24


def test_plain_diffusers_loads_the_repository(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = save_repository(pipeline, tmp_path / "ascan-tiny", dtype=torch.float32, readme="a card")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_ascan_classification", "AsCANImageClassificationPipeline"]
    loaded = realigned(DiffusionPipeline.from_pretrained(folder, trust_remote_code=True))
    assert type(loaded) is AsCANImageClassificationPipeline
    assert torch.equal(loaded(PIXELS).logits, pipeline(PIXELS).logits)
