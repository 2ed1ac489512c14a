"""LightSpeed's export: graphs from cameras to pictures against the field itself, and bundles as fields."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_lightspeed import VIEWS, make_field, make_pipeline
from torch import Tensor, nn

from pocket_diffusers.hub_models.rendering.cameras import camera_centres, intrinsics, look_at
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab, ndc_frame
from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.eight_bit_weights import eight_bit_grids
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.export.methods.export_lightspeed import EXPORTS, SeenSubScene
from pocket_diffusers.pipelines.export.runtime import load_bundle
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.pipelines.scene_rendering import render_scene
from pocket_diffusers.pipelines.view_ranges import GridViews, views_of

EXPORT = EXPORTS[LightSpeedPipeline]
GRID = GridViews(
    viewmat=tuple(torch.eye(4).flatten().tolist()), half_width=0.2, half_height=0.1, focus=2.0, focal=(30.0, 32.0),
    width=24, height=24,
)  # fmt: skip


def one_slab(**changes) -> LightSpeedPipeline:
    """Cameras on a plane, and random weights of which pictures are made that are not saturated."""
    field = make_field(num_sub_scenes=1, **changes)
    with torch.no_grad():
        for parameter in field.sub_scenes[0].decoder.parameters():
            parameter.mul_(0.8)
    ends = torch.tensor([0.3, 0.2, 0.8, 0.7])
    field.set_slab(0, LightSlab(torch.eye(4), 0.0, 2.0, -ends, ends), torch.zeros(3))
    pipeline = LightSpeedPipeline(field.requires_grad_(False), GRID.to_config())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def cameras(count: int) -> tuple[Tensor, Tensor]:
    places = [GRID.camera(0.9 - 0.4 * index, 0.4 * index - 0.8) for index in range(count)]
    return torch.cat([place.viewmats for place in places]), torch.cat([place.Ks for place in places])


def exported(pipeline: LightSpeedPipeline, back_end: str, precision: str, folder) -> Callable[..., np.ndarray]:
    """Cameras to what the file shows of them."""
    module = back_end_module(back_end, precision)
    for package in ("optimum", *module.PACKAGES):
        pytest.importorskip(package, reason="needs the extra 'export'")
    (component,) = EXPORT.contract(pipeline).components
    module.export(ExportJob(network_of(pipeline), component, precision, cameras(2), []), folder / "field")
    run = module.load(folder / "field", component)
    return lambda viewmats, Ks: run(viewmats.numpy(), Ks.numpy())[0]


def network_of(pipeline: LightSpeedPipeline) -> nn.Module:
    return EXPORT.modules(pipeline)["field"]


@pytest.mark.parametrize("tail", ["8x", "12x"])
@torch.no_grad()
def test_what_is_exported_sees_what_the_field_shows(tail):
    pipeline = one_slab(tail=tail)
    viewmats, Ks = cameras(3)
    Ks[:, 0, 1] = 1.5  # a skew
    viewmats[1] = look_at((0.1, 0.2, -0.3), (0.0, 0.3, 2.0))
    shown = pipeline.field.show(viewmats, Ks, 24, 24)
    seen = network_of(pipeline)(viewmats, Ks)
    torch.testing.assert_close(seen, shown, atol=2e-5, rtol=0)
    assert shown.std() > 0.05


@torch.no_grad()
def test_a_projective_slab_is_seen_as_it_is_shown():
    field, K = make_field(num_sub_scenes=1), intrinsics(50.0, 24, 32)
    ends = torch.tensor([1.2, 1.2, 1.5, 1.5])
    frame = ndc_frame(look_at((0.1, 0.0, -0.2), (0.0, 0.0, 4.0)), K, 24, 32, near=0.8)
    field.set_slab(0, LightSlab(frame, -1.0, 1.0, -ends, ends), torch.zeros(3))
    viewmats = torch.stack([look_at((x, 0.1, -0.1), (0.0, -0.1, 4.0)) for x in (-0.2, 0.3)])
    seen = SeenSubScene(field.sub_scenes[0], 24, 32).eval()(viewmats, K.expand(2, 3, 3))
    torch.testing.assert_close(seen, field.show(viewmats, K.expand(2, 3, 3), 24, 32), atol=2e-5, rtol=0)


@torch.no_grad()
def test_onnx_shows_the_same_to_any_number_of_cameras(tmp_path):
    pipeline = one_slab()
    show = exported(pipeline, "onnx", "fp32", tmp_path)
    for count in (1, 5):
        viewmats, Ks = cameras(count)
        np.testing.assert_allclose(show(viewmats, Ks), pipeline.field.show(viewmats, Ks, 24, 24), atol=2e-5, rtol=0)


@torch.no_grad()
def test_half_precision_places_rays_that_it_could_not_tell_apart(tmp_path):
    """Cameras a thousand units away from the origin, where half precision knows every other unit."""
    pipeline = one_slab(grid_resolutions=(65,))
    away = torch.eye(4)
    away[0, 3] = -1000
    slab = pipeline.field.slab()
    pipeline.field.set_slab(0, LightSlab(away, slab.near, slab.far, slab.low, slab.high), torch.zeros(3))
    viewmats, Ks = cameras(2)
    viewmats = viewmats @ away
    wanted = pipeline.field.show(viewmats, Ks, 24, 24).numpy()
    found = exported(pipeline, "onnx", "fp16", tmp_path)(viewmats, Ks)
    assert found.dtype == np.float32 and wanted.std() > 0.05
    assert np.linalg.norm(found - wanted) < 0.01 * np.linalg.norm(wanted)


@torch.no_grad()
def test_executorch_shows_the_same_from_grids_of_eight_bits(tmp_path):
    pipeline = one_slab(grid_resolutions=(5,))
    show = exported(pipeline, "executorch", "int8", tmp_path)
    viewmats, Ks = cameras(2)
    wanted = eight_bit_grids(network_of(pipeline))(viewmats, Ks)
    np.testing.assert_allclose(show(viewmats, Ks), wanted, atol=2e-5, rtol=0)
    assert 1e-4 < (wanted - network_of(pipeline)(viewmats, Ks)).abs().max() < 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_repository(make_pipeline(num_sub_scenes=2), tmp_path_factory.mktemp("own") / "mine")


def test_a_bundle_is_a_field_that_can_be_rendered(folder, tmp_path):
    for package in ("optimum", *back_end_module("onnx").PACKAGES):
        pytest.importorskip(package, reason="needs the extra 'export'")
    bundle = export_pipeline("lightspeed", str(folder), "onnx", "int8", tmp_path / "bundle")
    assert {path.name for path in bundle.glob("*.onnx")} == {"field_0.onnx", "field_1.onnx"}
    again, own = load_bundle(bundle), LightSpeedPipeline.from_pretrained(folder)
    assert again.config.views == own.config.views and again.field.scale == own.field.scale == 8
    seen, wanted = (one(num_frames=5, output_type="np").images for one in (again, own))
    assert seen.shape == wanted.shape == (5, 16, 24, 3) and wanted.std() > 0.05
    assert np.linalg.norm(seen - wanted) < 0.15 * np.linalg.norm(wanted)
    other = views_of({**VIEWS, "width": 32}).path(1)
    with pytest.raises(
        ValueError, match=r"height and width must be \[16, 24\], the size of this export, not \[16, 32\]"
    ):
        again(other)
    assert "`pocket render THIS_FOLDER --output frames`" in (bundle / "README.md").read_text()
    (tmp_path / "frames").mkdir()
    assert render_scene(bundle, tmp_path / "frames", frames=5).scene == "a light field"
    for index, image in enumerate(again(num_frames=5).images):
        with Image.open(tmp_path / "frames" / f"frame_{index:04d}.png") as picture:
            np.testing.assert_array_equal(picture, image)


@torch.no_grad()
def test_pictures_of_several_sub_scenes_are_blended_as_the_contract_says():
    pipeline = make_pipeline()
    constants, networks = EXPORT.contract(pipeline).constants, EXPORT.modules(pipeline)
    assert list(networks) == ["field_0", "field_1", "field_2"]
    centres, views = torch.tensor(constants["centres"]), views_of(constants["views"])
    shared = 0
    for right in np.linspace(-1, 1, 15):
        camera = views.camera(float(right), 0.3)
        place = camera_centres(camera.viewmats)[0]
        i, j = (place - centres).norm(dim=1).argsort()[:2].tolist()
        apart = (centres[i] - centres[j]).norm()
        from_border = ((place - centres[j]).square().sum() - (place - centres[i]).square().sum()) / (2 * apart)
        weight = min(1.0, float(0.5 + 0.5 * from_border / (constants["border"] * apart / 2)))
        pictures = [network(camera.viewmats, camera.Ks) for network in networks.values()]
        image = weight * pictures[i] + (1 - weight) * pictures[j]
        shown = torch.from_numpy(pipeline(camera, output_type="np").images).movedim(-1, 1)
        torch.testing.assert_close(shown, image, atol=2e-5, rtol=0)
        shared += weight < 1
    assert 0 < shared < 15


def test_a_rehearsal_shows_every_sub_scene_from_cameras_of_its_own():
    pipeline = make_pipeline()
    pictures = EXPORT.rehearse(pipeline, range(30))
    assert pictures.shape == (30, 3, 16, 24, 3)
    assert len(np.unique(pictures.reshape(90, -1), axis=0)) == 90
    field = make_field()
    behind = torch.tensor([0.0, 900.0, 0.0])
    field.set_slab(1, field.slab(1), behind)
    pipeline = LightSpeedPipeline(field, VIEWS)
    with pytest.raises(ValueError, match="views must be such that every sub-scene serves a part .* but 1 serves none"):
        EXPORT.rehearse(pipeline, range(1))


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (None, "views must be given for an export, which has the size of their pictures, not None"),
        ({**VIEWS, "width": 20}, "width of views must be a multiple of 8 pixels, not 20: the nearest is 16 or 24"),
    ],
    ids=["no views", "parts of blocks"],
)
def test_views_that_say_no_size_are_refused(views, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        EXPORT.contract(LightSpeedPipeline(make_field(), views))
