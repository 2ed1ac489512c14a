"""Where the feet are: planted toes that stay exactly where they are, and steps between them."""

from dataclasses import dataclass, field

import numpy as np

from .curves import Curve, ease, pulse, swung

FLAT = 25.0
"""Degrees by which the bone from ankle to toes points below the horizon when the foot is flat on the floor."""


@dataclass(frozen=True)
class Step:
    """One foot's way through the air.

    Args:
        lift, land: seconds between which the toes leave the floor.
        toes: (x, z) in metres where they land.
        yaw: degrees to which the foot points then.
        clearance: metres to which the toes rise on the way.
        heel: degrees by which the heel has risen when the toes leave.
        strike: degrees by which the toes are raised before they land.
    """

    lift: float
    land: float
    toes: tuple[float, float]
    yaw: float
    clearance: float
    heel: float
    strike: float


@dataclass
class Foot:
    """One foot over a whole clip.

    Args:
        toes: (x, z) in metres where it stands at first.
        yaw: degrees to which it points at first.
        steps: its steps in order of time.
        flight: metres [frames] by which the toes are off the floor beside the steps, in a jump or a kick.
        reach: metres [frames, 2] by which they are off their (x, z) in a kick.
        flex: degrees [frames] by which the foot points down beside the steps.
        busy: [frames] where `flight` or `reach` moves the foot, which is then not planted.
    """

    toes: tuple[float, float]
    yaw: float
    flight: Curve
    reach: Curve
    flex: Curve
    busy: np.ndarray
    steps: list[Step] = field(default_factory=list)

    @property
    def stands_at(self) -> tuple[float, float]:
        """(x, z) of the toes after the last step."""
        return self.steps[-1].toes if self.steps else self.toes

    def trace(self, time: Curve) -> "FootTrace":
        """The foot at each moment."""
        toes = np.zeros((len(time), 3))
        toes[:, [0, 2]] = self.reach + self.toes
        toes[:, 1] = self.flight
        yaw, pitch, planted = np.full(len(time), self.yaw), FLAT + self.flex, ~self.busy
        if self.steps:
            lift, land, yaws, clearance, heel, strike = (
                np.array([getattr(step, name) for step in self.steps])
                for name in ("lift", "land", "yaw", "clearance", "heel", "strike")
            )
            places = np.array([self.toes, *(step.toes for step in self.steps)])  # [steps + 1, 2]
            moment, swing = time[:, None], land - lift
            u = (moment - lift) / swing  # [frames, steps]
            travelled = swung(
                (u - 0.08) / 0.84
            )  # the toes leave the floor before they travel, and stop before they land
            toes[:, [0, 2]] += travelled @ np.diff(places, axis=0)
            toes[:, 1] += (swung(u / 0.35) * swung((1.0 - u) / 0.35)) @ clearance
            yaw = yaw + travelled @ np.diff(np.array([self.yaw, *yaws]))
            pitch = pitch + pulse(moment, lift - 0.3 * swing, lift + 0.15 * swing, lift + 0.3 * swing, land) @ heel
            pitch = pitch - (ease((u - 0.45) / 0.35) * ease((1.0 - u) / 0.2)) @ strike
            planted = planted & ~((u > 0) & (u < 1)).any(axis=1)
        return FootTrace(toes, yaw, pitch, planted)


@dataclass(frozen=True)
class FootTrace:
    """A foot at every frame: toes [frames, 3] in metres, yaw and pitch [frames] in degrees, planted [frames]."""

    toes: np.ndarray
    yaw: Curve
    pitch: Curve
    planted: np.ndarray

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors [frames, 3] from ankle to toes."""
        yaw, pitch = np.radians(self.yaw), np.radians(self.pitch)
        return np.stack((np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)), axis=-1)
