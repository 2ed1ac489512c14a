"""LightSpeed's recipe: a field is fitted to the views of its scene and leaves what it promises."""

import json
from dataclasses import replace

import datasets
import pytest
import torch
from PIL import Image
from tiny_lightspeed import TEACHER

from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.radiance_lightspeed import LightSpeedRadianceField
from pocket_diffusers.hub_models.rendering.cameras import camera_centres
from pocket_diffusers.pipelines.fitting.light_field_fitting import RayViews
from pocket_diffusers.pipelines.fitting.loop import load_run
from pocket_diffusers.pipelines.fitting.teacher_lightspeed import RadianceFit
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.view_ranges import GridViews, OrbitViews
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training.datasets.world_orbits import world_orbit
from pocket_diffusers.training.recipe_lightspeed import FIELD, STAGES, FieldPreset, run

FEW = {"steps": "12", "image_size": "32", "num_pictures": "24", "held_out": "2", "sub_scenes": "3"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        assert run("field", "nano", folder, overrides=FEW) == folder / "field" / "model"
        yield folder / "field"


def test_the_field_is_a_pipeline_that_shows_its_scene_from_around(folder):
    pipeline = LightSpeedPipeline.from_pretrained(folder / "model")
    field, views = pipeline.field, pipeline.view_range
    nano = LightSpeedField.presets["nano"]
    assert (
        len(field.sub_scenes) == 3
        and {name: field.config[name] for name in ("width", "blocks")}.items() <= nano.items()
    )
    assert isinstance(views, OrbitViews) and (views.up, views.width, views.height) == ("y", 32, 32)
    assert views.center == pytest.approx((0, 0.55, 0), abs=1e-3) and views.distance == pytest.approx(5.8, abs=1e-3)
    images = pipeline(num_frames=2, output_type="pt").images
    assert images.shape == (2, 3, 32, 32) and images.isfinite().all() and images.std() > 0.01


def test_its_slabs_stand_where_the_scene_s_objects_are(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    seen, _ = world_orbit("test", FIELD["nano"].scene, 32, 24, 2)
    pipeline = LightSpeedPipeline.from_pretrained(folder / "model")
    field, views = pipeline.field, pipeline.view_range
    heights = (camera_centres(seen.posed.viewmats)[:, 1] - 0.55) / 5.8
    ends = heights.aminmax()
    assert (views.low, views.high) == pytest.approx([float(end.asin().rad2deg()) for end in ends], abs=0.01)
    served = field.clusters.weights(camera_centres(seen.posed.viewmats)) > 0
    assert served.any(0).all()
    for index in range(3):
        slab = field.slab(index)
        depths = seen.positions @ slab.frame[2, :3] + slab.frame[2, 3]
        between = (depths > slab.near) & (depths < slab.far)
        assert between.float().mean() > 0.85 and 0 < slab.near < depths.median() < slab.far


def test_the_record_replays_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (record,) = json.loads((folder / "training.json").read_text())
    assert record["command"] == (
        "pocket train lightspeed --stage field --preset nano --set steps=12 --set image_size=32 --set num_pictures=24 "
        "--set held_out=2 --set sub_scenes=3"
    )
    assert record["data"] == "pocketworld, scene 35 of split test, size 32"
    assert record["digest_out"] == weights_digest(folder / "model")
    again = run("field", "nano", tmp_path / "again", overrides=FEW)
    assert weights_digest(again) == record["digest_out"]


def test_a_teacher_learns_first_and_its_pictures_are_made_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setitem(LightSpeedRadianceField.presets, "nano", TEACHER)
    seen, batches, rendered, render = [], RayViews.batches, [], LightSpeedRadianceField.render
    monkeypatch.setattr(RayViews, "batches", lambda views, *rest: seen.append(views) or batches(views, *rest))
    monkeypatch.setattr(
        LightSpeedRadianceField,
        "render",
        lambda self, viewmats, *rest: rendered.append(viewmats) or render(self, viewmats, *rest),
    )
    monkeypatch.setattr(RadianceFit, "preview", lambda *_: None)
    taught = {**FEW, "steps": "3", "teacher_steps": "5", "pseudo_views": "20"}
    model = run("field", "nano", tmp_path, overrides=taught)
    (views,), left = seen, tmp_path / "field" / "teacher"
    assert len(views) == 44 and list(map(len, rendered)) == [16, 4]
    teacher = LightSpeedRadianceField.from_preset("nano")
    assert load_run(left, {"teacher": teacher}) == 5 and teacher.config.levels == TEACHER["levels"]
    real, _ = world_orbit("test", FIELD["nano"].scene, 32, 24, 2)
    assert (views.truth(torch.arange(24)) - real.posed.images).abs().max() < 0.51 / 255
    ends = [camera_centres(viewmats)[:, 1].aminmax() for viewmats in (torch.cat(rendered), real.posed.viewmats)]
    assert ends[1].min - 1e-3 < ends[0].min < ends[0].max < ends[1].max + 1e-3
    digest = weights_digest(model)
    assert weights_digest(run("field", "nano", tmp_path, overrides=taught)) == digest and len(rendered) == 2
    record = json.loads((tmp_path / "field" / "training.json").read_text())[0]
    assert "--set teacher_steps=5 --set pseudo_views=20" in record["command"] and record["digest_out"] == digest


def test_a_capture_of_one_s_own_is_learned_from_without_what_it_holds_out(tmp_path):
    """A camera grid, of which one view is for testing and would spoil the sum."""
    grid = tmp_path / "grid"
    grid.mkdir()
    for row in range(3):
        for column in range(3):
            colour = (255, 0, 0) if (row, column) == (1, 1) else (0, 90 * row, 90 * column)
            Image.new("RGB", (48, 32), colour).save(grid / f"{row:02}_{column:02}.png")
    tiny = {"source": str(grid), "image_size": "48", "steps": "2", "sub_scenes": "0", "batch_size": "8"}
    pipeline = LightSpeedPipeline.from_pretrained(run("field", "nano", tmp_path / "out", overrides=tiny))
    views = pipeline.view_range
    assert isinstance(views, GridViews) and (views.width, views.height) == (48, 32)
    assert (views.half_width, views.half_height, views.focus) == pytest.approx((1, 1, 8), rel=1e-4)
    seen, held_out = replace(FIELD["nano"], source=str(grid), image_size=48).captures()
    assert (len(seen.posed), held_out.names) == (8, ("01_01.png",))


def test_the_paper_s_presets_are_the_paper_s(tmp_path):
    nano = FIELD["nano"].fit()
    assert (nano.teacher_steps, nano.pseudo_views) == (0, 0)
    for name, size, scale, epochs, pseudo in (
        ("paper", 800, 8, 30, 10_000),
        ("paper-frontal", 1008, 12, 20, 8_000),
    ):
        paper, how = FIELD[name], FIELD[name].fit()
        assert (paper.image_size, how.steps, how.batch_views) == (size, 240_000, 10)
        assert (how.learning_rate, how.grid_rate, paper.warmup_steps) == (5e-4, 5e-3, 200)
        assert (how.teacher_steps, how.pseudo_views) == (epochs * 1000, pseudo)
        assert (how.teacher().preset, how.teacher().rays, how.teacher().learning_rate) == ("paper", 16_384, 2e-2)
        with torch.device("meta"):
            assert LightSpeedField.from_preset(how.preset, **how.options).scale == scale
        with pytest.raises(ValueError, match="source must be your capture: a folder of COLMAP, LLFF"):
            run("field", name, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps must be 1: a step looks at one sub-scene, "),
        ({"scene": -1}, "scene must be at least 0, not -1"),
        ({"sub_scenes": -1}, "sub_scenes must be at least 0, not -1"),
        ({"held_out": 0}, "held_out must be at least 1, not 0"),
        ({"teacher_steps": 9}, "teacher_steps and pseudo_views must be both 0 or both at least 1"),
        ({"up": "up"}, "up must be one of x, y, z"),
        ({"model": "big"}, "model must be one of paper, paper-frontal, nano, not 'big'"),
        ({"slab": "sphere"}, "slab must be one of auto, grid, ndc, box, not 'sphere'"),
        ({"grid_rate": 0.0}, "grid_rate must be a number of at least 1e-09, not 0"),
        ({"image_size": 50}, "image_size must be a multiple of 8, not 50"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FieldPreset(**{"model": "nano", "grid_rate": 2e-2, **changes})


def test_stages_say_what_may_stand_for_their_source():
    assert all(word in STAGES["field"].data for word in ("COLMAP", "LLFF", "transforms.json", "camera grid"))
