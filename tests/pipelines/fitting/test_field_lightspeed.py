"""LightSpeed's fit: one that was stopped goes on to the same field, and none goes on with other pictures."""

from dataclasses import asdict, replace

import pytest
import torch
from tiny_lightspeed import FEW, TEACHER, grid_of, make_field, orbit_of
from torch import Tensor

from pocket_diffusers.hub_models.radiance_lightspeed import LightSpeedRadianceField
from pocket_diffusers.hub_models.rendering.cameras import camera_centres, look_at
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.pipelines.fitting.field_lightspeed import LightSpeedFit, fit_field, new_field, range_of
from pocket_diffusers.pipelines.fitting.light_field_fitting import LightFieldFit, RayViews
from pocket_diffusers.pipelines.fitting.loop import load_run
from pocket_diffusers.pipelines.fitting.pseudo_views_lightspeed import TOGETHER, pseudo_cameras, scene_ball
from pocket_diffusers.pipelines.fitting.slabs_lightspeed import SceneHints
from pocket_diffusers.pipelines.fitting.teacher_lightspeed import fit_teacher
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.view_ranges import GridViews, OrbitViews

HOW = LightSpeedFit(steps=7, save_every=2, options={**FEW, "width": 4, "num_sub_scenes": 3})
POSED = orbit_of()
HINTS = SceneHints(torch.tensor([[1.0, 0.5, -2]]) + torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_fit_that_was_stopped_goes_on_to_the_same_field(tmp_path, monkeypatch):
    whole = fit_field(POSED, HOW, HINTS, progress=False)
    loss, steps = LightFieldFit.loss, []

    def some(self, part, batch, generator):
        steps.append(batch)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return loss(self, part, batch, generator)

    monkeypatch.setattr(LightFieldFit, "loss", some)
    with pytest.raises(KeyboardInterrupt):
        fit_field(POSED, HOW, HINTS, tmp_path, progress=False)
    again = fit_field(POSED, HOW, HINTS, tmp_path, progress=False)
    assert len(steps) == 6 + 3, "it goes on from the fourth step"
    assert same(again.state_dict(), whole.state_dict())
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} >= {".jsonl"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a fit that was run to its end."""
    folder = tmp_path_factory.mktemp("fit")
    fit_field(POSED, HOW, HINTS, folder, progress=False)
    return folder


def moved(posed: PosedImages) -> PosedImages:
    viewmats = posed.viewmats.clone()
    viewmats[3, 0, 3] += 0.01
    return replace(posed, viewmats=viewmats)


@pytest.mark.parametrize(
    ("posed", "hints", "how"),
    [
        (moved(POSED), HINTS, HOW),
        (replace(POSED, Ks=torch.where(POSED.Ks == 16, 16.5, POSED.Ks)), HINTS, HOW),
        (replace(POSED, images=POSED.images.flip(0)), HINTS, HOW),
        (POSED, SceneHints(HINTS.points * 1.1), HOW),
        (POSED, replace(HINTS, nearest=0.1), HOW),
        (POSED, HINTS, replace(HOW, batch_views=3)),
        (POSED, HINTS, replace(HOW, steps=8)),
    ],
    ids=["camera", "lens", "pictures", "points", "nearest", "batch", "steps"],
)
def test_a_fit_does_not_go_on_with_that_of_another_scene_or_plan(posed, hints, how, fitted):
    with pytest.raises(ValueError, match=r"is .*, but .* was made with .*; use that again, or another output folder"):
        fit_field(posed, how, hints, fitted, progress=False)


def test_how_often_it_is_saved_does_not_make_it_another_fit():
    often, seldom = (replace(HOW, save_every=every).settings(POSED, HINTS) for every in (1, 1000))
    assert often.decisive() == seldom.decisive() and (often.save_every, seldom.save_every) == (1, 1000)
    assert often.decisive() == HOW.settings(POSED, HINTS).decisive() != HOW.settings(POSED).decisive()


# A teacher

VIEWS = TOGETHER + 4
TAUGHT = replace(HOW, teacher_steps=3, pseudo_views=VIEWS)


@pytest.fixture
def tiny_teacher(monkeypatch):
    monkeypatch.setitem(LightSpeedRadianceField.presets, "nano", TEACHER)


@pytest.fixture
def learned_from(monkeypatch) -> list[RayViews]:
    """The views of each fit."""
    seen, batches = [], RayViews.batches
    monkeypatch.setattr(RayViews, "batches", lambda views, *rest: seen.append(views) or batches(views, *rest))
    return seen


def test_a_field_learns_from_real_views_and_from_those_of_its_teacher(tmp_path, tiny_teacher, learned_from):
    field = fit_field(POSED, TAUGHT, HINTS, tmp_path, progress=False)
    (views,) = learned_from
    assert len(views) == 12 + VIEWS and not views.images.is_floating_point()
    assert (views.truth(torch.arange(12)) - POSED.images).abs().max() < 0.51 / 255
    cameras = pseudo_cameras(POSED, VIEWS)
    origins, directions = (value.movedim(-1, 1) for value in pixel_rays(cameras.viewmats, cameras.Ks, 24, 32, 8))
    assert torch.equal(views.origins[12:], origins) and torch.equal(views.directions[12:], directions)
    teacher = LightSpeedRadianceField.from_preset("nano", **asdict(scene_ball(POSED, HINTS)))
    assert load_run(tmp_path / "teacher", {"teacher": teacher}) == 3
    shown, _ = teacher.eval().render(cameras.viewmats, cameras.Ks, 24, 32)
    assert (views.truth(torch.arange(12, 12 + VIEWS)) - shown).abs().max() < 0.51 / 255
    weights = field.clusters.weights(camera_centres(torch.cat([POSED.viewmats, cameras.viewmats])))
    for index, group in enumerate(views.groups):
        assert group.tolist() == (weights[:, index] > 0).nonzero()[:, 0].tolist() and group.max() >= 12
        mine = [value[group].movedim(1, -1).reshape(-1, 3) for value in (views.origins, views.directions)]
        assert field.slab(index).coordinates(*mine).abs().max() < 1 + 1e-4, "no ray leaves its slab"


def test_a_fit_that_was_stopped_among_pseudo_views_goes_on_to_the_same_field(tmp_path, tiny_teacher, monkeypatch):
    whole = fit_field(POSED, TAUGHT, HINTS, progress=False)
    render, asked = LightSpeedRadianceField.render, []

    def some(self, viewmats, *rest):
        asked.append(len(viewmats))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return render(self, viewmats, *rest)

    monkeypatch.setattr(LightSpeedRadianceField, "render", some)
    with pytest.raises(KeyboardInterrupt):
        fit_field(POSED, TAUGHT, HINTS, tmp_path, progress=False)
    again = fit_field(POSED, TAUGHT, HINTS, tmp_path, progress=False)
    assert asked == [TOGETHER, 4, 4], "what was whole is not made again"
    assert same(again.state_dict(), whole.state_dict())
    assert same(fit_field(POSED, TAUGHT, HINTS, tmp_path, progress=False).state_dict(), whole.state_dict())
    assert len(asked) == 3
    for how in (replace(TAUGHT, pseudo_views=VIEWS + 1), replace(TAUGHT, teacher_steps=4), HOW):
        with pytest.raises(ValueError, match="was made with"):
            fit_field(POSED, how, HINTS, tmp_path, progress=False)


def test_a_teacher_learns_from_depths_and_does_not_go_on_with_others(tmp_path, tiny_teacher, monkeypatch):
    given = []
    monkeypatch.setattr(
        "pocket_diffusers.pipelines.fitting.field_lightspeed.fit_teacher",
        lambda posed, *rest, **running: given.append(posed) or fit_teacher(posed, *rest, **running),
    )
    posed = replace(grid_of(), depths=torch.full((9, 24, 32), 2.0))
    how = replace(TAUGHT, options={**FEW, "width": 4})
    fit_field(posed, how, None, tmp_path, progress=False)
    assert torch.equal(given[0].depths, posed.depths)
    with pytest.raises(ValueError, match="digest.* was made with"):
        fit_field(replace(posed, depths=posed.depths.clone().index_fill_(1, torch.tensor([3]), 2.5)), how, None,
                  tmp_path, progress=False)  # fmt: skip


def test_what_no_field_can_be_fitted_to_is_refused_before_a_teacher_learns(tmp_path, tiny_teacher):
    out = tmp_path / "run"
    for posed, how, message in (
        (POSED, replace(TAUGHT, slab="ndc"), "num_sub_scenes must be 1 for slab 'ndc'"),
        (grid_of(), replace(TAUGHT, options=FEW), "a teacher of pictures that are not from all around must be given"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_field(posed, how, None, out, progress=False)
    assert not out.exists()


def test_teachers_are_as_large_as_their_fields():
    nano, paper = TAUGHT.teacher(), replace(TAUGHT, preset="paper-frontal", seed=2).teacher()
    assert (nano.preset, nano.steps, nano.seed, nano.save_every) == ("nano", 3, 0, 2)
    assert (paper.preset, paper.rays, paper.learning_rate, paper.seed) == ("paper", 16_384, 2e-2, 2)


def test_a_new_field_has_weights_of_its_seed_and_slabs_of_its_pictures():
    first, views = new_field(POSED, HOW, HINTS)
    torch.rand(5)
    again, _ = new_field(POSED, HOW, HINTS)
    other, _ = new_field(POSED, replace(HOW, seed=1), HINTS)
    assert same(first.state_dict(), again.state_dict())
    name = "sub_scenes.0.decoder.head.0.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    assert len(first.sub_scenes) == len(views.groups) == 3 and first.config.width == 4
    weights = first.clusters.weights(-(POSED.viewmats[:, :3, :3].mT @ POSED.viewmats[:, :3, 3:])[..., 0])
    for index, group in enumerate(views.groups):
        assert group.tolist() == (weights[:, index] > 0).nonzero()[:, 0].tolist()
    assert views.images.shape == (12, 3, 24, 32)


def test_presets_and_their_options():
    posed = replace(grid_of(), images=torch.rand(9, 3, 26, 32))
    field, views = new_field(posed, LightSpeedFit(preset="nano", options={"tail": "12x", "width": 8}), SceneHints())
    assert (field.config.grid_resolutions, field.config.width, field.scale) == ((16, 32, 64, 128), 8, 12)
    assert views.images.shape == (9, 3, 24, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "C1"}, "preset must be one of paper, paper-frontal, nano, not 'C1'"),
        ({"slab": "sphere"}, "slab must be one of auto, grid, ndc, box, not 'sphere'"),
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"batch_views": 1.5}, "batch_views must be a whole number of at least 1, not 1.5"),
        ({"save_every": -1}, "save_every must be a whole number of at least 1, not -1"),
        ({"learning_rate": 0}, "learning_rate must be a number of at least 1e-09, not 0"),
        ({"grid_rate": float("nan")}, "grid_rate must be a number of at least 1e-09, not nan"),
        ({"teacher_steps": -1}, "teacher_steps must be a whole number of at least 1, not -1"),
        ({"pseudo_views": 1.5}, "pseudo_views must be a whole number of at least 1, not 1.5"),
        ({"teacher_steps": 9}, r"teacher_steps and pseudo_views must be both 0 or both at least 1, not \(9, 0\)"),
        ({"pseudo_views": 9}, r"teacher_steps and pseudo_views must be both 0 or both at least 1, not \(0, 9\)"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LightSpeedFit(**changes)


def facing(roll: float) -> PosedImages:
    """Eight cameras at one thing, every second of them turned about its axis."""
    posed = grid_of(2, 4)
    centres = -(posed.viewmats[:, :3, :3].mT @ posed.viewmats[:, :3, 3:])[..., 0]
    ups = torch.tensor([[0.0, -1, 0], [torch.sin(torch.tensor(roll)), -torch.cos(torch.tensor(roll)), 0]]).repeat(4, 1)
    return replace(posed, viewmats=look_at(centres, (0.3, 0.1, 4.0), ups))


@pytest.mark.parametrize(
    ("posed", "sub_scenes", "kind"),
    [
        (grid_of(), 1, GridViews),
        (facing(0.0), 1, GridViews),
        (facing(torch.pi), 1, OrbitViews),  # of which half stand on their heads
        (orbit_of(), 1, OrbitViews),
        (orbit_of(elevation=70), 1, OrbitViews),
        (orbit_of(elevation=-10), 1, OrbitViews),
        (facing(0.0), 3, OrbitViews),
    ],
)
def test_a_scene_is_looked_at_as_its_cameras_did(posed, sub_scenes, kind):
    found = range_of(make_field(num_sub_scenes=sub_scenes), posed, "y")
    assert type(found) is kind and (found.width, found.height) == (32, 24)
