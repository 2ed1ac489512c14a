"""Samples: planned by the template, bound to the weights that drew them."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pocket_diffusers.hub_models.layers.low_bit import LowBitLinear
from pocket_diffusers.model_cards.samples import SamplePlan, draw_samples, sample_plan, stale_samples
from pocket_diffusers.model_cards.template import read_template
from pocket_diffusers.pipelines.motion.forward_kinematics import joints_of
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.skeleton import JOINTS
from pocket_diffusers.pipelines.outputs import ImageOutput, MotionOutput
from pocket_diffusers.training.layer_bits_plot import LayerBits


@pytest.fixture
def plan(world):
    return sample_plan(read_template(world.template))


def test_plan(world, plan):
    assert plan == SamplePlan(("a red cube", "a green cone"), {"guidance_scale": 7.0, "seed": 0})
    world.edit_template("  samples: {guidance_scale: 7.0, seed: 0}\n", "")
    assert sample_plan(read_template(world.template)) is None


def test_samples_need_prompts(world):
    world.edit_template("  - text: a green cone\n", "  - src: picture.png\n")
    with pytest.raises(ValueError, match="samples need 'widget' entries with a text each"):
        sample_plan(read_template(world.template))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights_sha256": "0"}, "drawn by other weights"),
        ({"prompts": ["a red cube"]}, "other prompts or arguments"),
        ({"arguments": {"guidance_scale": 4.0, "seed": 0}}, "other prompts or arguments"),
    ],
)
def test_stale(world, plan, changes, reason):
    folder = world.weights / "samples"
    assert "has no sample pictures" in stale_samples(plan, world.weights, folder)
    world.put_samples()
    assert stale_samples(plan, world.weights, folder) is None
    world.put_samples(**changes)
    assert reason in stale_samples(plan, world.weights, folder)


def test_lost_picture(world, plan):
    world.put_samples()
    (world.weights / "samples" / "01.png").unlink()
    assert "01.png is missing" in stale_samples(plan, world.weights, world.weights / "samples")


RECOGNIZER = "  samples: {pictures: pocketworld, count: 3, threshold: 0.4}\n"


def test_plan_of_a_recognizer(world):
    world.edit_template("  samples: {guidance_scale: 7.0, seed: 0}\n", RECOGNIZER)
    plan = sample_plan(read_template(world.template))
    assert plan.recognizes and plan.prompts == ("pocketworld 0", "pocketworld 1", "pocketworld 2")
    assert plan.files == ["00.png", "01.png", "02.png"]


@pytest.mark.parametrize(("old", "new"), [("pocketworld", "imagenet"), ("count: 3", "count: 0"), ("count: 3, ", "")])
def test_recognizer_needs_known_pictures_and_a_count(world, old, new):
    world.edit_template("  samples: {guidance_scale: 7.0, seed: 0}\n", RECOGNIZER.replace(old, new))
    with pytest.raises(ValueError, match="samples need pictures, one of pocketworld, digits, and a count of at least"):
        sample_plan(read_template(world.template))


SCENE = "  samples: {num_frames: 3, height: 8, width: 8}\n"


def test_a_scene_is_seen_from_as_many_sides(world, monkeypatch, tmp_path):
    world.edit_template("  samples: {guidance_scale: 7.0, seed: 0}\n", SCENE)
    plan = sample_plan(read_template(world.template))
    assert plan.shows_a_scene and plan.prompts == ("view 0", "view 1", "view 2") and not plan.recognizes

    def pipeline(num_frames, height, width):
        shades = [Image.new("RGB", (width, height), (9 * frame,) * 3) for frame in range(num_frames)]
        return ImageOutput(images=shades)

    loading = import_module("pocket_diffusers.pipelines.loading")
    monkeypatch.setattr(loading, "load_pipeline", lambda slug, model: pipeline)
    draw_samples("snapgen", plan, world.weights, tmp_path / "samples")
    assert [Image.open(tmp_path / "samples" / f"0{view}.png").getpixel((0, 0))[0] for view in range(3)] == [0, 9, 18]
    assert stale_samples(plan, world.weights, tmp_path / "samples") is None
    world.edit_template("num_frames: 3", "num_frames: 0")
    with pytest.raises(ValueError, match="samples need num_frames of at least 1, not 0"):
        sample_plan(read_template(world.template))


class Drawing:
    """A pipeline that paints each picture in the shade of its seed."""

    num_timesteps = 1

    def prompt_arguments(self, prompt, **options):
        return {"prompt": prompt, **options}

    def __call__(self, prompt, guidance_scale, generator, callback_on_step_end, **options):
        assert guidance_scale == 7.0
        return ImageOutput([Image.new("RGB", (8, 8), (one.initial_seed(),) * 3) for one in generator])


def test_draw(world, plan, monkeypatch, tmp_path: Path):
    import_module("pocket_diffusers.pipelines.generation")  # which would keep the name below if it came first then
    monkeypatch.setattr("pocket_diffusers.pipelines.loading.load_pipeline", lambda slug, model: Drawing())
    folder = tmp_path / "samples"
    draw_samples("snapgen", plan, world.weights, folder)
    assert stale_samples(plan, world.weights, folder) is None
    assert [Image.open(folder / name).getpixel((0, 0)) for name in plan.files] == [(0, 0, 0), (1, 1, 1)]
    assert json.loads((folder / "run.json").read_text())["inputs"]["seeds"] == [0, 1]
    draw_samples("snapgen", plan, world.weights, folder)
    (folder / "run.json").unlink()
    with pytest.raises(FileExistsError, match="no earlier result"):
        draw_samples("snapgen", plan, world.weights, folder)


MOTIONS = "  samples: {preview_size: 64, seed: 3, length: 40, controls: [{frame: 8, joints: {pelvis: [0, 1, 0]}}]}\n"


def test_motions_play_with_their_targets(world, monkeypatch, tmp_path: Path):
    asked = []

    class Moving:
        num_timesteps = 1

        def prompt_arguments(self, prompt, num_images_per_prompt=1, **options):
            return {"prompt": prompt, **options}

        def __call__(self, prompt, generator, callback_on_step_end, length=None, controls=None):
            asked.append((prompt, [one.initial_seed() for one in generator], length))
            still = torch.tensor([1.0, 0, 0, 0]).expand(length, len(JOINTS), 4)
            joints = joints_of(still, torch.tensor([0, 0.92, 0]) + torch.linspace(0, 1, length)[:, None])
            held = MotionControls.from_json({"length": length, "controls": controls})
            return MotionOutput([joints], [torch.zeros(length, 263)], [torch.zeros(length, 4)], [held])

    world.edit_template("  samples: {guidance_scale: 7.0, seed: 0}\n", MOTIONS)
    plan = sample_plan(read_template(world.template))
    assert plan.moves and plan.files == ["00.gif", "01.gif"]
    monkeypatch.setattr("pocket_diffusers.pipelines.loading.load_pipeline", lambda slug, model: Moving())
    folder = tmp_path / "samples"
    draw_samples("controlmm", plan, world.weights, folder)
    assert asked == [("a red cube", [3], 40), ("a green cone", [4], 40)]
    assert stale_samples(plan, world.weights, folder) is None
    with Image.open(folder / "00.gif") as gif:
        assert (gif.size, gif.n_frames) == ((64, 64), 20)
        gif.seek(4)
        red, green, blue = np.asarray(gif.convert("RGB")).astype(int).transpose(2, 0, 1)
        assert ((red > 150) & (green < 100) & (blue < 100)).any(), "no dot shows the target"
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 2 * 256


def test_look_at_pictures(world, monkeypatch, tmp_path: Path):
    def recognize(pipeline, **arguments):
        assert (pipeline, arguments) == ("the judge", {"pictures": "pocketworld", "count": 3, "threshold": 0.4})
        return iter([(Image.new("RGB", (8, 8), (shade,) * 3), f"caption {shade}") for shade in range(3)])

    world.edit_template("  samples: {guidance_scale: 7.0, seed: 0}\n", RECOGNIZER)
    plan = sample_plan(read_template(world.template))
    monkeypatch.setattr("pocket_diffusers.pipelines.loading.load_pipeline", lambda slug, model: "the judge")
    monkeypatch.setattr("pocket_diffusers.model_cards.samples.recognize", recognize)
    folder = tmp_path / "samples"
    draw_samples("ascan", plan, world.weights, folder)
    assert stale_samples(plan, world.weights, folder) is None
    assert [Image.open(folder / name).getpixel((0, 0)) for name in plan.files] == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    assert "seeds" not in json.loads((folder / "run.json").read_text())["inputs"]


def test_packed_weights_show_the_bits_of_each_layer(world, plan, monkeypatch, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    packed = nn.Sequential(LowBitLinear.of(nn.Linear(8, 3), 2).freeze(), nn.Linear(3, 3))
    drawing, drawn = Drawing(), []
    drawing.components = {"unet": packed, "scheduler": object()}
    monkeypatch.setattr("pocket_diffusers.pipelines.loading.load_pipeline", lambda slug, model: drawing)
    monkeypatch.setattr("pocket_diffusers.model_cards.samples.draw_layer_bits", lambda *given: drawn.append(given))
    (world.weights / "unet" / "config.json").write_text('{"quantization_config": {"bits": {"0": 2}}}')
    folder = tmp_path / "samples"
    draw_samples("snapgen", plan, world.weights, folder)
    ((path, title, layers),) = drawn
    assert (path.name, title) == ("bits.png", "Bits of each layer of snapgen-nano")
    assert layers == [LayerBits("0", 2, 24)]
    assert "bits.png is missing" in stale_samples(plan, world.weights, folder)
    (folder / "bits.png").write_bytes(b"png")
    assert stale_samples(plan, world.weights, folder) is None
