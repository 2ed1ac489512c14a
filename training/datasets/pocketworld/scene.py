"""What a PocketWorld scene holds."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

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
_UNIT_TOLERANCE = 1e-4

# One pair a colour, two a shape: never seen by what is trained on split "train", as the text-to-image UNet is.
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

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class SceneObject:
    """One solid.

    Attributes:
        shape, color, size: words out of `SHAPES`, `COLORS` and `SIZES`.
        position: rest centre (x, y, z) in scene units, Y up.
        yaw: rest angle about +Y in radians.
        motion: None for an object that stays.

    Raises:
        ValueError: an unknown word, a position or yaw that is not finite, or a motion that does not suit the shape.
    """

    shape: str
    color: str
    size: str
    position: Triple
    yaw: float
    motion: Motion | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("shape", SHAPES), ("color", COLORS), ("size", SIZES)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
        if len(self.position) != 3 or not all(math.isfinite(x) for x in (*self.position, self.yaw)):
            raise ValueError(f"position and yaw must be finite numbers, not {self.position} and {self.yaw}.")
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

    def at(self, time: float) -> Self:
        """The object as it stands `time` seconds into its motion."""
        if self.motion is None:
            return self
        position, yaw = pose_at(self.position, self.yaw, self.motion, time)
        return replace(self, position=position, yaw=yaw, motion=None)


@dataclass(frozen=True)
class Scene:
    """Objects over a ground plane y = 0 under one distant light.

    Attributes:
        objects: 1 to `MAX_OBJECTS` solids.
        light: unit vector towards the light, which stands above the ground.
        ground, sky: RGB in [0, 1].
        ambient: share of the light that comes from everywhere, in [0, 1].

    Raises:
        ValueError: an attribute outside its range, naming it.
    """

    objects: tuple[SceneObject, ...]
    light: Triple = (0.36, 0.80, 0.48)
    ground: Triple = (0.60, 0.60, 0.62)
    sky: Triple = (0.82, 0.88, 0.95)
    ambient: float = 0.45

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"objects must hold 1 to {MAX_OBJECTS} solids, not {len(self.objects)}.")
        if not abs(math.hypot(*self.light) - 1.0) <= _UNIT_TOLERANCE or not self.light[1] > 0:
            raise ValueError(f"light must be a unit vector that points above the ground (y > 0), not {self.light}.")
        for name, values in (("ground", self.ground), ("sky", self.sky), ("ambient", (self.ambient,))):
            if not all(0.0 <= value <= 1.0 for value in values):
                raise ValueError(f"{name} must lie in [0, 1], not {getattr(self, name)}.")

    def at(self, time: float) -> Self:
        """The scene as it stands `time` seconds into its motions."""
        return replace(self, objects=tuple(obj.at(time) for obj in self.objects))

    def to_json(self) -> str:
        """The whole scene, every number exact."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        record = json.loads(text)
        objects = tuple(_object(entry) for entry in record.pop("objects"))
        return cls(objects, **{name: _frozen(value) for name, value in record.items()})


def _object(entry: dict) -> SceneObject:
    motion = entry["motion"] and Motion(**entry["motion"])
    return SceneObject(**{**entry, "position": _frozen(entry["position"]), "motion": motion})


def _frozen(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else value
