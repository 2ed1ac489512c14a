"""LightSpeed's models and pipeline, tiny and real."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from contract_cases import ModelCase, SceneCase
from torch import Tensor

from pocket_diffusers.eval.claims.lightspeed.settings import FitPlan
from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.radiance_lightspeed import LightSpeedRadianceField
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab
from pocket_diffusers.hub_models.rendering.view_clusters import planes_of_box
from pocket_diffusers.pipelines.fitting.teacher_lightspeed import TeacherFit
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.scene_cameras import Cameras
from pocket_diffusers.pipelines.view_ranges import OrbitViews
from pocket_diffusers.training.datasets.pocketworld import load_pocketworld
from pocket_diffusers.training.datasets.pocketworld.cameras import DEFAULT_VIEWPOINT, planar_grid
from pocket_diffusers.training.datasets.pocketworld.render import render
from pocket_diffusers.training.datasets.pocketworld.scene import Scene
from pocket_diffusers.training.recipe_lightspeed import FIELD

SUB_SCENES, PIXELS = 3, 24
OPTIONS = {
    "num_sub_scenes": SUB_SCENES, "grid_resolutions": (3, 6), "grid_channels": 2, "width": 8, "blocks": 1,
    "tail_channels": (6, 4, 4),
}  # fmt: skip
FOCAL = float(intrinsics(40.0, PIXELS, PIXELS)[0, 0])
VIEWS = OrbitViews(
    center=(0.0, 0.0, 0.0), distance=3.0, low=5.0, high=35.0, focal=(FOCAL, FOCAL), width=24, height=16
).to_config()
ENDS = torch.tensor([1.5, 1.5, 1.5, 1.5])


def fill(field: LightSpeedField) -> None:
    """Grids in which every place is another, and decoders that show it."""
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.normal_(0, 0.5)
    place(field)


def place(field: LightSpeedField) -> None:
    """A slab through the unit cube's middle for each third of the cameras around it."""
    viewmats = orbit((0.0, 0.0, 0.0), 3.0, 3, 20.0, (0.0, -1.0, 0.0))
    low, high = torch.tensor([[-0.5] * 3, [0.5] * 3])
    for index, viewmat in enumerate(viewmats[: len(field.sub_scenes)]):
        slab = LightSlab(*planes_of_box(viewmat[None], low, high), -ENDS, ENDS)
        field.set_slab(index, slab, torch.linalg.inv(viewmat)[:3, 3])


def make_field(**changes: Any) -> LightSpeedField:
    torch.manual_seed(0)
    field = LightSpeedField(**{**OPTIONS, **changes}).eval()
    fill(field)
    return field


def make_pipeline(views: dict[str, Any] | None = VIEWS, **changes: Any) -> LightSpeedPipeline:
    """A field around the origin; `changes` are options of the field."""
    pipeline = LightSpeedPipeline(make_field(**changes), views)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seen_through(factor: float = 1.0, size: int = PIXELS) -> Cameras:
    """One camera whose focal lengths are so many times those of the views."""
    Ks = torch.diag(torch.tensor([factor, factor, 1.0])) @ intrinsics(40.0, PIXELS, PIXELS)
    return Cameras(orbit((0.0, 0.0, 0.0), 3.0, 1), Ks[None], size, PIXELS)


PIPELINES = {
    "image-to-3d": SceneCase(
        make=make_pipeline,
        values=tuple(orbit((0.0, 0.0, 0.0), 3.0, 3, 20.0, (0.0, -1.0, 0.0))),
        refused=[
            ({"cameras": seen_through(1.2)}, r"focal lengths in Ks must be within a tenth of 33\.0 and 33\.0 pixels"),
            ({"cameras": seen_through(0.8)}, r"block of pixels of that size, not \[26\.4, 26\.4\]"),
            (
                {"cameras": seen_through(size=20)},
                "width must be a multiple of 8 pixels, not 20: the nearest is 16 or 24",
            ),
        ],
        misfits=[
            ({"views": {**VIEWS, "kind": "ring"}}, "views must have a kind, grid or orbit, not 'ring'"),
            ({"views": {"kind": "grid"}}, "views must have focal, focus, half_height, .*, viewmat, width, not "),
            ({"views": {**VIEWS, "near": 1}}, "views must have center, distance, .*, not .*, near, "),
            ({"views": {**VIEWS, "distance": 0}}, "distance must be a number of at least 1e-09, not 0"),
            ({"views": {**VIEWS, "center": [0, 0]}}, r"center must be 3 numbers, not \[0, 0\]"),
            ({"views": {**VIEWS, "up": "w"}}, "up must be one of x, y, z, -x, -y, -z, not 'w'"),
            ({"views": {**VIEWS, "high": 4}}, "high must be a number from 5 to 89, not 4"),
            ({"views": {**VIEWS, "focal": [0, 1]}}, "focal must be a number of at least 1e-06, not 0"),
            ({"views": {**VIEWS, "width": 0}}, "width must be a whole number of at least 1, not 0"),
        ],
    )
}


def inputs(model: LightSpeedField, samples: int) -> dict[str, Tensor]:
    """Rays from before the cube into it."""
    draw = torch.Generator().manual_seed(1)
    towards = 0.2 * torch.randn(2, samples, 3, 2, 3, generator=draw)
    place = torch.linalg.inv(orbit((0.0, 0.0, 0.0), 3.0, 1, 20.0, (0.0, -1.0, 0.0))[0])[:3, 3, None, None]
    return {"origins": place + towards[0], "directions": towards[1] - place}


def outputs(model: LightSpeedField, **rays: Tensor) -> list[Tensor]:
    return [model(**rays, sub_scene=index) for index in range(len(model.sub_scenes))]


def fill_radiance(model: LightSpeedRadianceField) -> None:
    """A grid that takes part in what its networks say."""
    with torch.no_grad():
        model.grid.table.normal_(0, 1)


def places(model: LightSpeedRadianceField, samples: int) -> dict[str, Tensor]:
    """Points within the ball and beyond, and unit vectors along which they are seen."""
    points, directions = torch.randn(2, samples, 3, generator=torch.Generator().manual_seed(1))
    return {"points": 1.5 * points, "directions": torch.nn.functional.normalize(directions, dim=-1)}


GRIDS, DECODER, DECODER_OF_12 = 8_355_840, 2_261_123, 2_253_955
MODELS = {
    "field": ModelCase(
        cls=LightSpeedField,
        options={**OPTIONS, "num_sub_scenes": 2},
        inputs=inputs,
        outputs=outputs,
        presets={"paper": 5 * (GRIDS + DECODER), "paper-frontal": GRIDS + DECODER_OF_12, "nano": 711_123},
        fill=fill,
        layouts={
            "defaults": {},
            "one slab": {"num_sub_scenes": 1},
            "12 times larger": {"tail": "12x"},
            "one level": {"grid_resolutions": (5,)},
            "no body skip": {"body_skip": False},
        },
        refused_inputs=[
            (
                {"directions": torch.ones(2, 3, 2)},
                r"must be \[batch, 3, height, width\], not \[2, 3, 2, 3\], \[2, 3, 2\]",
            ),
            ({"origins": torch.ones(3, 3, 2, 3)}, "origins and directions must be"),
        ],
        refused_options=[
            ({"num_sub_scenes": 0}, "num_sub_scenes must be at least 1, not 0"),
            ({"grid_resolutions": ()}, r"grid_resolutions must be one number or more of at least 2, not \(\)"),
            ({"grid_resolutions": (8, 1)}, r"grid_resolutions must be one .* at least 2, not \(8, 1\)"),
            ({"grid_channels": 0}, "grid_channels must be at least 1, not 0"),
            ({"grid_init": float("nan")}, "grid_init must be at least 0 and finite, not nan"),
            ({"width": 0}, "width must be at least 1, not 0"),
            ({"blocks": 0}, "blocks must be at least 1, not 0"),
            ({"tail": "4x"}, "tail must be one of 8x, 12x, not '4x'"),
            ({"tail_channels": (4, 4)}, r"tail_channels must be three numbers of at least 1, not \(4, 4\)"),
        ],
    ),
    "radiance": ModelCase(
        cls=LightSpeedRadianceField,
        options={
            "levels": 3,
            "log2_size": 8,
            "base_resolution": 2,
            "max_resolution": 8,
            "width": 8,
            "color_layers": 1,
            "sh_degree": 2,
            "bins": 8,
            "occupancy_resolution": 4,
        },
        inputs=places,
        outputs=lambda model, **rays: list(model(**rays)),
        presets={"paper": 12_207_469, "nano": 377_481},
        fill=fill_radiance,
        layouts={
            "defaults": {},
            "one level": {"levels": 1, "max_resolution": 2},
            "two layers of colour": {"color_layers": 2},
            "the same from everywhere": {"sh_degree": 0},
            "far away": {"center": (0.5, -0.25, 1.0), "radius": 2.0},
        },
        refused_options=[
            ({"levels": 0}, "levels must be at least 1, not 0"),
            ({"bins": 0}, "bins must be at least 1, not 0"),
            ({"occupancy_resolution": 0}, "occupancy_resolution must be at least 1, not 0"),
            ({"max_resolution": 1}, "max_resolution must be at least base_resolution=2, not 1"),
            ({"sh_degree": 4}, "sh_degree must be 0, 1, 2 or 3, not 4"),
            ({"center": (0.0, 1.0)}, r"center must be three finite numbers, not \(0.0, 1.0\)"),
            ({"radius": 0.0}, "radius must be above 0 and finite, not 0.0"),
            ({"near": 0.0}, "near must be above 0 and below 100 radii, not 0.0"),
            ({"near": 200.0}, "near must be above 0 and below 100 radii, not 200.0"),
        ],
    ),
}


# Captures for tests of fits

FEW = {"grid_resolutions": (8, 16), "width": 24, "blocks": 1, "tail_channels": (16, 12, 8)}
"""Options of a field that learns `world_grid` in a hundred steps."""


TEACHER = {
    "levels": 2, "log2_size": 8, "base_resolution": 2, "max_resolution": 4, "width": 4, "bins": 6,
    "occupancy_resolution": 2, "color_layers": 1,
}  # fmt: skip
"""Options of a teacher that takes no time, and learns nothing."""


@cache
def world_grid() -> PosedImages:
    """A scene of PocketWorld at 32 x 32 pixels from a grid of 5 x 5 cameras, row by row, with depths."""
    (row,) = load_pocketworld("image", "test", 32, 1, seed=3, streaming=True)
    viewmats = planar_grid(5, 5, 0.7).flatten(0, 1)
    Ks = DEFAULT_VIEWPOINT.intrinsics(32).repeat(25, 1, 1)
    drawn = render([Scene.from_json(row["scene"])] * 25, viewmats, Ks, 32)
    return PosedImages(drawn.rgb, viewmats, Ks, depths=drawn.depth)


def grid_of(rows: int = 3, columns: int = 3, depths: Tensor | None = None, step: float = 0.2) -> PosedImages:
    """Pictures without a meaning from parallel cameras, so far ahead of their plane as `depths` says."""
    down, right = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).unbind(1)
    viewmats = torch.eye(4).repeat(rows * columns, 1, 1)
    viewmats[:, 0, 3], viewmats[:, 1, 3] = -step * right, -step * down
    viewmats[:, 2, 3] = 0 if depths is None else -depths
    return posed_of(viewmats)


def orbit_of(views: int = 12, elevation: float = 20.0, up: tuple[float, float, float] = (0, 1, 0)) -> PosedImages:
    """Pictures without a meaning from a circle of cameras."""
    return posed_of(orbit((1.0, 0.5, -2.0), 3.0, views, elevation, up))


def posed_of(viewmats: Tensor) -> PosedImages:
    images = torch.rand(len(viewmats), 3, 24, 32, generator=torch.Generator().manual_seed(0))
    return PosedImages(images, viewmats, intrinsics(40.0, 24, 32).repeat(len(viewmats), 1, 1))


# What its benchmark measures in the contract: how much less than it does by itself, and what not at all

TINY_WORLD = replace(FIELD["nano"], steps=10, image_size=32, num_pictures=24, held_out=2)
MEASURED = {
    "repeats": 2, "threads": 1, "processes": 1,
    "cards": FitPlan(side=48, steps=4, warmup=1, look_every=2), "card_grids": (4, 8),
    "world": replace(TINY_WORLD, image_size=256), "orbit": TINY_WORLD,
    "teacher": TeacherFit(steps=3, rays=64, samples=2048, options={"bins": 16, "occupancy_resolution": 8}),
}  # fmt: skip
NOT_MEASURED = {
    "latency": "a graph's bytes are told by its process: tests/eval/claims/lightspeed/test_costs.py has one that tells",
    "scaling": "likewise: tests/eval/claims/lightspeed/test_costs.py has graphs of every side",
    "exported": "exports take minutes: tests/eval/claims/lightspeed/test_nano.py says what bundles are asked for",
    "bundle": "exports take minutes: tests/eval/claims/lightspeed/test_bundle.py says what back ends are asked for",
}
LACKING: dict[str, set[str]] = {}
"""Measurement -> rows that `MEASURED` leaves out."""
