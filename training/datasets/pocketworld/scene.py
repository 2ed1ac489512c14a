"""What a PocketWorld scene holds and how one is drawn at random."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .motion import Motion, check_motion, pose_at

SHAPES = ("cube", "sphere", "cylinder", "cone", "torus")

# GenEval's ten colour words, in its order; linear-looking sRGB values, far enough apart under shading.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.87, 0.08, 0.08),
    "orange": (1.00, 0.50, 0.04),
    "yellow": (0.98, 0.88, 0.10),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.08, 0.26, 0.90),
    "purple": (0.48, 0.12, 0.70),
    "pink": (1.00, 0.55, 0.78),
    "brown": (0.42, 0.22, 0.08),
    "black": (0.05, 0.05, 0.06),
    "white": (0.97, 0.97, 0.97),
}
SIZES = {"small": 0.42, "large": 0.62}
HALF_HEIGHTS = {"cube": 0.82, "sphere": 1.0, "cylinder": 0.95, "cone": 1.0, "torus": 0.32}  # in units of r
FOOTPRINTS = {"cube": 0.82 * math.sqrt(2), "sphere": 1.0, "cylinder": 0.8, "cone": 1.0, "torus": 1.0}
MAX_OBJECTS = 6

# One pair a colour, two a shape: never seen by a text-to-image model trained on split "train".
HELD_OUT_PAIRS = frozenset(
    {
        ("red", "torus"),
        ("orange", "cylinder"),
        ("yellow", "cone"),
        ("green", "sphere"),
        ("blue", "cube"),
        ("purple", "torus"),
        ("pink", "cylinder"),
        ("brown", "sphere"),
        ("black", "cone"),
        ("white", "cube"),
    }
)
ALL_PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
SEEN_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS)

# The floor that the default camera sees: |x| <= FLOOR_X + FLOOR_SLOPE * z (the view narrows towards the camera),
# and how high an object may hover above it.
FLOOR_X, FLOOR_SLOPE, FLOOR_Z, MAX_HOVER = 2.0, -0.33, (-1.5, 0.9), 1.15


@dataclass(frozen=True)
class SceneObject:
    """One solid: `position` is its centre in scene units (Y up), `yaw` in radians about +Y."""

    shape: str
    color: str
    size: str
    position: tuple[float, float, float]
    yaw: float
    motion: Motion | None = None

    def __post_init__(self):
        for name, value, allowed in (("shape", self.shape, SHAPES), ("color", self.color, COLORS), ("size", self.size, SIZES)):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
        if self.motion is not None:
            check_motion(self.shape, self.motion)

    @property
    def radius(self) -> float:
        return SIZES[self.size]

    @property
    def half_height(self) -> float:
        return HALF_HEIGHTS[self.shape] * self.radius

    @property
    def footprint(self) -> float:
        """Radius of the upright cylinder that holds the object."""
        return FOOTPRINTS[self.shape] * self.radius

    def at(self, time: float) -> "SceneObject":
        """The object as it stands `time` seconds into its motion."""
        if self.motion is None:
            return self
        position, yaw = pose_at(self.position, self.yaw, self.motion, time)
        return replace(self, position=tuple(float(x) for x in position), yaw=float(yaw), motion=None)


@dataclass(frozen=True)
class Scene:
    """Objects on a ground plane y = 0 under one distant light (`light`: unit vector towards it)."""

    objects: tuple[SceneObject, ...]
    light: tuple[float, float, float] = (0.38, 0.85, 0.37)
    ground: tuple[float, float, float] = (0.60, 0.60, 0.62)
    sky: tuple[float, float, float] = (0.82, 0.88, 0.95)
    ambient: float = 0.45

    def __post_init__(self):
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"objects has {len(self.objects)} entries; a scene holds 1 to {MAX_OBJECTS}.")

    def at(self, time: float) -> "Scene":
        return replace(self, objects=tuple(obj.at(time) for obj in self.objects))


def sample_scene(
    rng: np.random.Generator, pairs: Sequence[tuple[str, str]], relation: str | None = None, hover: float = 0.25
) -> Scene | None:
    """Place one object for each (shape, color) of `pairs` on the floor; None if they would not fit.

    `relation` ("left of", "right of", "above", "below") puts the second object at that side of the first, as the
    default camera sees them; whether the picture keeps it is for the caller to check on true boxes. `hover` is
    the chance that an object floats above the ground.
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


def _place(rng, obj, others, anchor, relation, hover, attempts=40):
    for _ in range(attempts):
        position = _beside(rng, obj, anchor, relation) if anchor else _anywhere(rng, obj, relation, hover)
        position = tuple(float(x) for x in position)
        candidate = replace(obj, position=position, yaw=float(rng.uniform(-math.pi, math.pi)))
        if _inside(candidate) and all(_apart(candidate, other) for other in others):
            return candidate
    return None


def _anywhere(rng, obj, relation, hover):
    z, h = rng.uniform(*FLOOR_Z), 0.0
    reach = FLOOR_X + FLOOR_SLOPE * z - obj.footprint
    if relation == "below" or (relation != "above" and rng.random() < hover):
        h = rng.uniform(0.75 if relation else 0.15, MAX_HOVER)
    return float(rng.uniform(-reach, reach)), float(obj.half_height + h), float(z)


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


def _inside(obj) -> bool:
    (x, y, z), bottom = obj.position, obj.position[1] - obj.half_height
    reach = FLOOR_X + FLOOR_SLOPE * z - obj.footprint
    return abs(x) <= reach and FLOOR_Z[0] <= z <= FLOOR_Z[1] and -1e-9 <= bottom <= MAX_HOVER + 0.25


def _apart(a, b, gap=0.06) -> bool:
    """True when the upright cylinders around both objects keep a gap."""
    across = math.hypot(a.position[0] - b.position[0], a.position[2] - b.position[2])
    up = abs(a.position[1] - b.position[1])
    return across > a.footprint + b.footprint + gap or up > a.half_height + b.half_height + gap


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
