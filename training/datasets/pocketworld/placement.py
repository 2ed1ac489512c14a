"""How a PocketWorld scene is drawn at random: where objects stand, and how they move without meeting."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .motion import PROGRAMS, Motion, sample_motion, swept_box
from .scene import Scene, SceneObject

# The floor that the default camera sees: |x| <= FLOOR_X + FLOOR_SLOPE * z (the view narrows towards the camera),
# and how high an object may hover above it.
FLOOR_X, FLOOR_SLOPE, FLOOR_Z, MAX_HOVER = 2.0, -0.33, (-1.5, 0.9), 1.15
_HEADROOM = 0.25  # above MAX_HOVER, for objects placed on top of others and for those that leap
_GAP = 0.06  # scene units between any two solids
_ATTEMPTS = 40


def sample_scene(
    rng: np.random.Generator, pairs: Sequence[tuple[str, str]], relation: str | None = None, hover: float = 0.25
) -> Scene | None:
    """Place one still object for each (shape, color) of `pairs` on the floor; None if they would not fit.

    Args:
        rng: numpy Generator.
        pairs: 1 to 6 objects.
        relation: "left of", "right of", "above" or "below" puts the second object at that side of the first, as the
            default camera sees them; whether the picture keeps it is for the caller to check on true boxes.
        hover: chance that an object floats above the ground, in [0, 1].
    """
    objects: list[SceneObject] = []
    for index, (shape, color) in enumerate(pairs):
        size = ("small", "large")[int(rng.random() < (0.5 if len(pairs) < 5 else 0.15))]
        anchor = objects[0] if relation and index == 1 else None
        placed = _place(rng, SceneObject(shape, color, size, (0.0, 0.0, 0.0), 0.0), objects, anchor, relation, hover)
        if placed is None:
            return None
        objects.append(placed)
    return Scene(tuple(objects), **_sample_surroundings(rng))


def _place(rng, obj, others, anchor, relation, hover) -> SceneObject | None:
    for _ in range(_ATTEMPTS):
        position = _beside(rng, obj, anchor, relation) if anchor else _anywhere(rng, obj, relation, hover)
        position = tuple(float(x) for x in position)
        candidate = replace(obj, position=position, yaw=float(rng.uniform(-math.pi, math.pi)))
        if _fits(candidate, others):
            return candidate
    return None


def _anywhere(rng, obj, relation, hover):
    z, h = rng.uniform(*FLOOR_Z), 0.0
    reach = FLOOR_X + FLOOR_SLOPE * z - obj.footprint
    if relation == "below" or (relation != "above" and rng.random() < hover):
        h = rng.uniform(0.75 if relation else 0.15, MAX_HOVER)
    return rng.uniform(-reach, reach), obj.half_height + h, z


def _beside(rng, obj, anchor, relation):
    """A place for `obj` that stands in `relation` to `anchor`."""
    x, y, z = anchor.position
    if relation in ("left of", "right of"):
        side = -1.0 if relation == "left of" else 1.0
        h = max(0.0, y - anchor.half_height + rng.normal(0, 0.1)) if y > anchor.half_height + 1e-6 else 0.0
        return x + side * rng.uniform(0.9, 2.6), obj.half_height + h, z + rng.uniform(-0.4, 0.4)
    gap = rng.uniform(0.08, 0.5)
    x, z = x + rng.uniform(-0.3, 0.3), z + rng.uniform(-0.4, 0.4)
    if relation == "above":
        return x, y + anchor.half_height + gap + obj.half_height, z
    return x, max(obj.half_height, y - anchor.half_height - gap - obj.half_height), z


def set_in_motion(
    rng: np.random.Generator, scene: Scene, groups: Sequence[Sequence[int]], duration: float
) -> Scene | None:
    """Let the objects of each group move, all of one group by the same program; None where they have no room.

    No two solids meet at any time and none leaves the floor, because the whole sweeps of their centres keep apart.

    Args:
        rng: numpy Generator.
        scene: a still scene.
        groups: numbers of the objects that move; each group holds objects of one shape.
        duration: length of the clip in seconds.
    """
    objects: Sequence[SceneObject] | None = scene.objects
    for group in groups:
        shape = objects[group[0]].shape
        programs = [program for program in PROGRAMS if program != "spin" or shape == "cube"]
        shuffled = (programs[k] for k in rng.permutation(len(programs)))
        moved = (_set_group_in_motion(rng, objects, group, program, duration) for program in shuffled)
        objects = next((found for found in moved if found), None)
        if objects is None:
            return None
    return replace(scene, objects=tuple(objects))


def _set_group_in_motion(rng, objects, group, program, duration) -> list[SceneObject] | None:
    objects = list(objects)
    for index in group:
        others = objects[:index] + objects[index + 1 :]

        def has_room(motion: Motion, obj: SceneObject = objects[index], others: list[SceneObject] = others) -> bool:
            return _fits(replace(obj, motion=motion), others)

        motion = sample_motion(rng, objects[index].shape, duration, (program,), has_room)
        if motion is None:
            return None
        objects[index] = replace(objects[index], motion=motion)
    return objects


def _fits(obj: SceneObject, others: Sequence[SceneObject]) -> bool:
    return _on_floor(obj) and all(_apart(obj, other) for other in others)


def _on_floor(obj: SceneObject) -> bool:
    """True when the upright cylinder around the object stays over the floor during its whole motion."""
    (left, low, back), (right, high, front) = swept_box(obj.position, obj.motion)
    reach = FLOOR_X + FLOOR_SLOPE * front - obj.footprint
    wide = max(-left, right) <= reach and FLOOR_Z[0] <= back and front <= FLOOR_Z[1]
    return wide and low - obj.half_height >= -1e-9 and high - obj.half_height <= MAX_HOVER + _HEADROOM


def _apart(a: SceneObject, b: SceneObject) -> bool:
    """True when the upright cylinders around both objects keep a gap, whenever each is anywhere on its way."""
    sweeps = zip(*swept_box(a.position, a.motion), *swept_box(b.position, b.motion), strict=True)
    x, y, z = (max(0.0, low_a - high_b, low_b - high_a) for low_a, high_a, low_b, high_b in sweeps)
    return math.hypot(x, z) > a.footprint + b.footprint + _GAP or y > a.half_height + b.half_height + _GAP


def _sample_surroundings(rng) -> dict:
    azimuth, elevation = rng.uniform(-1.0, 1.0), rng.uniform(0.85, 1.25)  # light from the viewer's side, radians
    light = (math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation))
    ground = np.clip(rng.uniform(0.50, 0.70) + rng.normal(0, 0.02, 3), 0, 1)
    sky = np.clip(np.array([0.80, 0.86, 0.93]) + rng.normal(0, 0.03, 3), 0, 1)
    return {
        "light": tuple(float(x) for x in light),
        "ground": tuple(float(x) for x in ground),
        "sky": tuple(float(x) for x in sky),
        "ambient": float(rng.uniform(0.40, 0.52)),
    }
