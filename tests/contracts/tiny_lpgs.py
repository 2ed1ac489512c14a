"""LPGS's model and pipeline, tiny and real."""

from dataclasses import replace
from typing import Any

import torch
from contract_cases import ModelCase, SplatCase
from torch import Tensor

from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians
from pocket_diffusers.hub_models.rendering.cameras import orbit
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.training.recipe_lpgs import SCENE

CIRCLE = {"center": [0.0, 0.0, 0.0], "distance": 3.0, "elevation": 20.0, "up": "-y"}
OPTIONS = {
    "num_parents": 120, "grid_dim": 4, "hash_levels": 2, "hash_log2_size": 8, "hash_base_resolution": 2,
    "hash_max_resolution": 4, "head_width": 8, "sh_degree": 1, "radius": 2.0,
}  # fmt: skip


def fill(scene: LPGSGaussians) -> None:
    """A ball of coloured blobs, in which everything has an influence."""
    with torch.no_grad():
        for value in scene.parameters():
            value.normal_(0, 0.3)
        scene.parent_means.normal_(0, 0.5)
        scene.parent_log_scales.normal_(-2, 0.2)


def make_scene(**changes: Any) -> LPGSGaussians:
    torch.manual_seed(0)
    scene = LPGSGaussians(**{**OPTIONS, **changes}).eval()
    fill(scene)
    return scene


def make_pipeline(**changes: Any) -> LPGSPipeline:
    """A ball around the origin; `changes` are settings of the pipeline."""
    pipeline = LPGSPipeline(make_scene(), **changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PIPELINES = {
    "image-to-3d": SplatCase(
        make=make_pipeline,
        values=tuple(orbit((0.0, 0.0, 0.0), 3.0, 3, 20.0, (0.0, -1.0, 0.0))),
        refused=[({"background": "redd"}, "background must be the name of a colour, or #rrggbb, not 'redd'")],
        misfits=[
            ({"grid_step": 0}, "grid_step must be a number from 1e-9 to 1e9, not 0"),
            ({"position_step": float("nan")}, "position_step must be a number from 1e-9"),
            ({"scale_step": True}, "scale_step must be a number"),
            ({"circle": {**CIRCLE, "up": "w"}}, "up must be one of x, y, z, -x, -y, -z, not 'w'"),
            ({"circle": {**CIRCLE, "distance": 0}}, "distance must be a number of at least 1e-09, not 0"),
            ({"circle": {"center": [0, 0, 0]}}, "circle must have center, distance, elevation, up, not center"),
        ],
    )
}


def outputs(model: LPGSGaussians, trees: Tensor) -> list[Tensor]:
    """One row a tree; parents are exact in any precision, and what is predicted has that of the networks."""
    values = model(model.parent_means[trees], model.parent_log_scales[trees])
    return [value.to(model.color_head[-1].weight.dtype) for value in values]


MODELS = {
    "gaussians": ModelCase(
        cls=LPGSGaussians,
        options={**OPTIONS, "num_parents": 3},
        inputs=lambda model, samples: {"trees": torch.arange(samples)},
        outputs=outputs,
        presets={"C1": 6_449_215, "C2": 9_675_132, "C3": 12_903_609, "nano": 71_509},  # one parent
        fill=fill,
        layouts={
            "defaults": {},
            "one child": {"children_per_parent": 1},
            "no attention": {"attention": False},
            "frequencies": {"encoding": "frequency"},
            "box": {"contraction": "box"},
            "features alone": {"mlp_position": False, "mlp_distance": False},
        },
        refused_options=[
            ({"num_parents": 0}, "num_parents must be at least 1, not 0"),
            ({"grid_dim": 5}, "grid_dim must be a multiple of hash_levels=2, not 5"),
            ({"children_per_parent": 3}, "children_per_parent must be 0, 1 or 2, not 3"),
            ({"encoding": "fourier"}, "encoding must be 'hash' or 'frequency', not 'fourier'"),
            ({"sh_degree": 4}, "sh_degree must be 0, 1, 2 or 3, not 4"),
            ({"radius": 0.0}, "radius must be above 0 and finite, not 0.0"),
        ],
    )
}

# What its benchmark measures in the contract: how much less than it does by itself, and what not at all

FEW = replace(SCENE["nano"], steps=4, image_size=16, max_bytes=30_000)
MEASURED = {
    "repeats": 2, "threads": 1, "seeds": 1, "world": FEW, "ablated": FEW,
}  # fmt: skip
NOT_MEASURED = {
    "curve": "fits to real scenes take hours: tests/eval/claims/lpgs/test_curve.py measures a scene of 400 splats",
    "exported": "exports take minutes: tests/eval/claims/lpgs/test_nano.py says what bundles are asked for",
}
LACKING: dict[str, set[str]] = {}
"""Measurement -> rows that `MEASURED` leaves out."""
