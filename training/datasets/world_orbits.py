"""A still scene of PocketWorld from all around, as a capture of as many views as a light field learns from."""

import math
from dataclasses import replace

import torch

from ...pipelines.inputs import PosedImages, check_count, require
from .pocketworld import load_pocketworld
from .pocketworld.cameras import DEFAULT_VIEWPOINT, Viewpoint
from .pocketworld.render import render
from .pocketworld.scene import Scene
from .posed_captures import WORLD_POINTS, Captures, points_of

LOWEST, HIGHEST = 14.0, 38.0
"""Elevations of cameras in degrees."""
GOLDEN, PLASTIC = (math.sqrt(5) - 1) / 2, 0.7548776662466927
"""Fractions of whose multiples the azimuths and elevations are: places evenly spread, however many there are."""
TOGETHER = 32  # pictures that are rendered at once


def world_orbit(
    split: str, scene: int, size: int, views: int, held_out: int, num_points: int = WORLD_POINTS, seed: int = 0
) -> tuple[Captures, Captures]:
    """Views of a still scene from everywhere around it, at the default camera's distance.

    Args:
        split: of PocketWorld.
        scene: number of its record of kind "image".
        size: of the square pictures, in pixels.
        views: to learn from, spread evenly over azimuths and elevations of 14 to 38 degrees.
        held_out: in other places of the same kind.
        num_points: sparse points: pixels of objects in the views to learn from at their true depth, drawn at random.
        seed: of that draw.

    Returns:
        what is learned from, and what is held out; both know the points, which lie on objects alone.

    Raises:
        ValueError: an argument out of range.
    """
    for name, value in (("views", views), ("held_out", held_out)):
        check_count(name, value)
    require(scene >= 0, "scene", scene, "at least 0")
    *_, row = load_pocketworld("image", split, size, scene + 1, streaming=True)
    place = Scene.from_json(row["scene"])
    posed = [_pictures(place, size, range(first, last)) for first, last in ((0, views), (views, views + held_out))]
    objects = replace(posed[0], depths=posed[0].depths * posed[0].masks)
    positions, rgb = points_of(objects, num_points, seed)
    return tuple(
        Captures(each, positions, rgb, tuple(f"view {view}" for view in range(first, first + len(each))))
        for first, each in ((0, posed[0]), (views, posed[1]))
    )


def _pictures(scene: Scene, size: int, views: range) -> PosedImages:
    viewmats = torch.stack([_viewpoint(view).viewmat() for view in views])
    Ks = DEFAULT_VIEWPOINT.intrinsics(size).repeat(len(views), 1, 1)
    parts = zip(viewmats.split(TOGETHER), Ks.split(TOGETHER), strict=True)
    drawn = [render([scene] * len(some), some, K, size) for some, K in parts]
    images, depths, instances = (
        torch.cat([getattr(one, name) for one in drawn]) for name in ("rgb", "depth", "instances")
    )
    return PosedImages(images, viewmats, Ks, depths=depths, masks=instances >= 0)


def _viewpoint(view: int) -> Viewpoint:
    elevation = LOWEST + (HIGHEST - LOWEST) * math.modf(PLASTIC * (view + 0.5))[0]
    return Viewpoint(azimuth=360 * math.modf(GOLDEN * view)[0], elevation=elevation)
