"""What a body does at every frame of a clip, as the actions leave it there one after the other."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ....pipelines.motion.skeleton import FRAMES_PER_SECOND
from .curves import Curve, smooth
from .footsteps import Foot
from .styles import Style

MAX_FRAMES = 196
"""Frames of the longest clip, HumanML3D's bound."""

SIDES = {"left": 1.0, "right": -1.0}
"""+X is to the left of a person who faces +Z."""

TOES_AHEAD = 0.085
"""Metres of the toes before the pelvis in standing."""


class ArmPose(NamedTuple):
    """One arm, in degrees.

    Args:
        swing: turn about the axis from shoulder to shoulder; 90 points an arm that hangs straight forward.
        spread: away from the body; 90 points to the side, and `swing` then turns the arm about itself.
        bend: of the elbow.
        turn: of the forearm's plane about the upper arm; 0 bends forward and up, 90 inward.
    """

    swing: float
    spread: float
    bend: float
    turn: float = 0.0


class Gesture(NamedTuple):
    """What an arm does instead of hanging: weights [frames] in [0, 1] and poses [frames, 4]."""

    side: str
    weights: Curve
    poses: np.ndarray


@dataclass
class Track:
    """A person standing at the origin and facing +Z, to whom actions add their curves.

    Angles are in degrees: yaw turns to the left, pitch leans forward, roll leans to the right. What an action has
    added stays as it was left, so that the last value of a curve is where the next action begins.
    """

    style: Style

    def __post_init__(self) -> None:
        style, frames = self.style, MAX_FRAMES
        self.time = np.arange(frames) / FRAMES_PER_SECOND
        self.place = np.zeros((frames, 2))  # x, z of the path in metres
        self.heading = np.zeros(frames)
        self.shift = np.zeros((frames, 2))  # of the pelvis off the path in metres, to the left and forward
        self.rise = np.zeros(frames)  # of the pelvis in metres
        self.hips = np.zeros((frames, 3))  # yaw, pitch, roll beside the heading
        self.chest = np.zeros((frames, 3))
        self.head = np.zeros((frames, 3))
        self.striding = np.zeros(frames)  # 1 where the arms swing with the legs
        self.running = np.zeros(frames)  # 1 where the elbows are bent for it
        self.gestures: list[Gesture] = []
        self.feet = {
            side: Foot(
                toes=(sign * style.stance, TOES_AHEAD),
                yaw=sign * style.splay,
                flight=np.zeros(frames),
                reach=np.zeros((frames, 2)),
                flex=np.zeros(frames),
                busy=np.zeros(frames, dtype=bool),
            )
            for side, sign in SIDES.items()
        }
        self._stand()

    def _stand(self) -> None:
        """Breathing, a slow sway and the posture."""
        style, clock = self.style, 2 * np.pi * self.time
        breath = np.sin(0.25 * clock + style.phase)
        self.shift[:, 0] += 0.006 * np.sin(0.17 * clock + 2.1 * style.phase)
        self.shift[:, 1] += 0.005 * np.sin(0.13 * clock + 3.7 * style.phase)
        self.chest[:, 1] += style.lean - 0.7 * breath
        self.head[:, 1] += style.gaze - 0.4 * breath
        self.head[:, 0] += 2.5 * np.sin(0.11 * clock + 5.3 * style.phase)

    def ahead(self, forward: float, left: float = 0.0) -> np.ndarray:
        """(x, z) of a step in metres as the person faces at the end."""
        yaw = np.radians(self.heading[-1])
        return forward * np.array([np.sin(yaw), np.cos(yaw)]) + left * np.array([np.cos(yaw), -np.sin(yaw)])

    def foothold(self, moment: float, side: str, stance: float) -> tuple[tuple[float, float], float]:
        """(x, z) and yaw of a foot that bears a person who is on the path at `moment`, in seconds."""
        x, z = (np.interp(moment, self.time, self.place[:, axis]) for axis in (0, 1))
        heading = float(np.interp(moment, self.time, self.heading))
        sin, cos, left = np.sin(np.radians(heading)), np.cos(np.radians(heading)), SIDES[side] * stance
        toes = (float(x + TOES_AHEAD * sin + left * cos), float(z + TOES_AHEAD * cos - left * sin))
        return toes, heading + SIDES[side] * self.style.splay

    def arms(self, apart: Curve) -> dict[str, np.ndarray]:
        """The poses [frames, 4] of each arm: hanging, swinging against the legs, or in a gesture.

        Args:
            apart: metres [frames] of the left toes before the right ones.
        """
        style, swinging = self.style, self.striding * self.style.arm_swing * smooth(apart)
        arms = {}
        for side, sign in SIDES.items():
            swing = -sign * swinging * (34.0 + 22.0 * self.running)  # a long step has 0.7 m between the toes
            arms[side] = np.stack(
                (
                    swing + 3.0 - 6.0 * self.running,
                    style.arm_gap + 4.0 * self.running,
                    style.elbow + 0.35 * np.maximum(swing, 0.0) + 62.0 * self.running,
                    12.0 + 14.0 * self.running,
                ),
                axis=-1,
            )
        for side, weights, poses in self.gestures:
            arms[side] += weights[:, None] * (poses - arms[side])
        return arms
